"""Several devices that share the batches of one member: four simulated ones, in a process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dtql_jax.algorithms import ALGORITHMS
from dtql_jax.training.data_parallel.members import devices_of_member

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from dtql_jax.algorithms import make_algorithm
from dtql_jax.training.checkpoint import Checkpoints
from dtql_jax.training.trainer import Trainer, TrainerConfig
from dtql_jax.training.data_parallel import Placement, place, rows
from tests.training.fakes import data, linear_algorithm

devices = jax.devices()
assert len(devices) == 4


def same(a, b, **tolerance):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), **tolerance)


# the gradient of a mean of squares, by hand: 2 x^T (x w - y) / (B A), on four devices, in parts
rng = np.random.default_rng(0)
x, y, w = (rng.normal(size=shape).astype("float32") for shape in ((24, 3), (24, 2), (3, 2)))


def loss(w, x, y):
    value = jnp.mean((x @ w - y) ** 2)
    return value, {"loss": value}


mesh = Mesh(np.array(devices), (rows.ROWS,))
for in_cache in (256, 2):
    rows.ROWS_IN_CACHE = in_cache
    gradients = jax.shard_map(
        partial(rows.gradients, loss), mesh=mesh,
        in_specs=PartitionSpec(), out_specs=PartitionSpec(), check_vma=False,
    )
    found, metrics = jax.jit(gradients)(w, (x, y))
    error = x @ w - y
    same(found, 2 * x.T @ error / error.size, rtol=1e-5, atol=1e-6)
    same(metrics["loss"], np.mean(error**2), rtol=1e-6)

# whole runs: one member on four devices, two members on two each, against one device
SETTINGS = TrainerConfig(64, 20, 40, 10, 20, 40, 20)
NAME = sys.argv[2]
algorithm = make_algorithm(NAME, {"hidden_dim": 32})
rows.ROWS_IN_CACHE = 256


def fit(seeds, share, **arguments):
    used = devices if share else devices[:1]
    placement = Placement(len(seeds), used, share=share or 1)
    bounded = data()._replace(actions=np.tanh(data().actions))
    return Trainer(algorithm, bounded, seeds, SETTINGS, placement=placement, **arguments)


one, many = fit([4, 7], 0), fit([4, 7], 2)
wanted, found = one.run().state, many.run().state
for leaf in jax.tree.leaves(many._state):
    assert leaf.sharding.device_set == set(devices)
    # whoever shares a member has the same of it, to the last bit
    for shard in leaf.addressable_shards:
        assert shard.data.shape[0] == 1
        same(shard.data, leaf[shard.index], rtol=0, atol=0)
same(found, wanted, rtol=1e-3, atol=2e-5)
# what is kept of a member, and saved, is the part of the first of its devices
for leaf in jax.tree.leaves(found):
    assert leaf.sharding.device_set == {devices[0], devices[2]}

# three members on four devices: all of them on each, with a quarter of the rows
three = fit([4, 7, 9], 4)
of_three = three.run().state
for leaf in jax.tree.leaves(three._state):
    assert {shard.data.shape[0] for shard in leaf.addressable_shards} == {3}
for leaf in jax.tree.leaves(of_three):
    assert leaf.shape[0] == 3 and leaf.sharding.device_set == {devices[0]}
same(jax.tree.map(lambda x: x[:2], of_three), wanted, rtol=1e-3, atol=2e-5)

# pairs share, and one of their four places is left over
padded = fit([4, 7, 9], 2)
assert padded.placement.places == 4
same(padded.run().state, of_three, rtol=1e-3, atol=2e-5)

# acting: observations are shared where there are enough, and an odd one is no trouble
alone = one.policy(one.placement.put(jax.device_get(found)))
lonely = Trainer(algorithm, data(), [4, 7], SETTINGS, placement=Placement(2, devices), overlap=True)
single = lonely.policy(lonely.placement.put(jax.device_get(found)))
assert many._acting._many.share == 2 and many._acting._few.share == 1
assert lonely._acting._many.share == 1
seen = rng.normal(size=(2, 5, 3)).astype("float32")
numbers = np.arange(10, dtype=np.int32).reshape(2, 5)
wanted_actions = alone(seen, numbers, numbers)
for number in (1, 2, 5):
    part = seen[:, :number], numbers[:, :number], numbers[:, :number]
    for policy in (many.policy(), single):
        same(policy(*part), wanted_actions[:, :number], atol=1e-5)
# where members do not fill the devices evenly, all devices act for all of them
uneven = Trainer(algorithm, data(), [4, 7, 9], SETTINGS, placement=Placement(3, devices))
assert uneven.placement.share == 1 and uneven._acting._many.share == 4
policies = uneven.policy(uneven.placement.put(jax.device_get(of_three))), three.policy()
three_rows, three_numbers = np.concatenate([seen, seen[:1]]), np.arange(15, dtype=np.int32)
three_numbers = three_numbers.reshape(3, 5)
first, second = (policy(three_rows, three_numbers, three_numbers) for policy in policies)
same(first, second, atol=1e-6)
same(first[:2], wanted_actions, atol=1e-3)
# a learner that shares nothing acts with every core all the same
both = Trainer(algorithm, data(), [4], SETTINGS, placement=Placement(1, devices))
assert both.placement.share == 1 and both._acting._many.share == 4
first = both.placement.put(jax.tree.map(lambda x: x[:1], jax.device_get(found)))
same(both.policy(first)(seen[:1], numbers[:1], numbers[:1]), wanted_actions[:1], atol=1e-5)

# stopped where four devices share, resumed on one and then again on four
for seeds, whole in (([4], jax.tree.map(lambda x: x[:1], wanted)), ([4, 7, 9], of_three)):
    for share, calls in ((4, 2), (0, 2), (4, 10_000)):
        with Checkpoints(Path(sys.argv[1]) / str(len(seeds))) as checkpoints:
            part = fit(seeds, share, checkpoints=checkpoints)
            if checkpoints.latest() is not None:
                part.resume()
            left = iter(range(calls))
            result = part.run(lambda: next(left, None) is None)
    assert result.finished
    same(result.state, whole, rtol=1e-3, atol=2e-5)

# what a run gets: no core idle, but rows enough for each
assert place(algorithm, 1, 256, data()).share == 2
assert place(algorithm, 1, 2048, data()).share == 4
assert place(algorithm, 2, 2048, data()).share == 2
assert place(algorithm, 3, 2048, data()).share == 4
assert place(algorithm, 4, 2048, data()).share == 1
assert place(linear_algorithm(), 1, 2048, data()).share == 1
assert len(place(linear_algorithm(), 1, 2048, data()).devices) == 1
if NAME == "idql":  # at its full size the gradients are too large to be added up
    assert place(make_algorithm(NAME, {}), 1, 2048, data()).share == 1
try:
    Placement(3, devices, share=5)
except ValueError as error:
    assert "each member on 5 devices; found 4" in str(error)
else:
    raise AssertionError
# from the choice of devices to the last update, a step is called once, to trace it
calls = {"pretrain": 0, "train": 0}


def counted(phase, step):
    def call(*arguments):
        calls[phase] += 1
        return step(*arguments)

    return call


own = algorithm._replace(
    pretrain_step=counted("pretrain", algorithm.pretrain_step),
    train_step=counted("train", algorithm.train_step),
)
settings = TrainerConfig(256, 20, 40, 10, 20, 40, 20)
placement = place(own, 1, settings.batch_size, data())
assert placement.share == 2
Trainer(own, data()._replace(actions=np.tanh(data().actions)), [4], settings,
        placement=placement).run()
assert calls == {"pretrain": 1, "train": 1}, calls
print("all the same")
"""


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ALGORITHMS if name != "bc"]


@pytest.mark.parametrize("name", ["bc", *SLOW])
def test_devices_that_share_a_batch_agree_with_one(name: str, tmp_path: Path) -> None:
    own = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "checkpoints"), name],
        cwd=ROOT, env=os.environ | own, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "all the same" in done.stdout


@pytest.mark.parametrize(
    ("members", "batch_size", "devices", "expected"),
    [
        (1, 256, 2, 2),
        (1, 2048, 2, 2),
        (1, 255, 8, 1),  # too few rows for two
        (1, 2048, 1, 1),
        (2, 2048, 2, 1),  # a device each
        (5, 2048, 2, 2),  # five halves of a batch on each, not three batches
        (5, 256, 2, 2),
        (7, 256, 2, 1),  # seven halves and their exchanges, or four batches
        (20, 2048, 2, 1),
        (3, 2048, 8, 8),
        (1, 768, 5, 4),  # five do not divide the batch
        (1, 1_000_000, 64, 64),
    ],
)
def test_a_core_gets_rows_enough(
    members: int, batch_size: int, devices: int, expected: int
) -> None:
    assert devices_of_member(members, batch_size, devices) == expected
