"""A population on several devices: eight simulated ones, in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from pathlib import Path

import jax
import numpy as np

from dtql_jax.training.checkpoint import Checkpoints
from dtql_jax.training.trainer import Trainer, TrainerConfig
from dtql_jax.training.data_parallel import Placement
from tests.training.fakes import data, linear_algorithm

# one length of calls, to compile little
SETTINGS = TrainerConfig(16, 20, 40, 10, 20, 40, 20)

devices = jax.devices()
assert len(devices) == 8
folder = Path(sys.argv[1])


def fit(seeds, devices, together=None, **arguments):
    placement = Placement(len(seeds), devices, together)
    return Trainer(linear_algorithm(), data(), seeds, SETTINGS, placement=placement, **arguments)


def same(a, b, **tolerance):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), **tolerance)


exact = dict(rtol=0, atol=0)
for seeds in ([4, 7, 1, 9, 2, 5, 3, 0], list(range(11))):
    one = fit(seeds, devices[:1])
    wanted = one.run()
    many = fit(seeds, devices)
    leaf = jax.tree.leaves(many._state)[0]
    # really apart: as many devices as are needed, the same number of members on each
    places = -(-len(seeds) // 8)
    assert len(leaf.sharding.device_set) == -(-len(seeds) // places), leaf.sharding
    assert {s.data.shape[0] for s in leaf.addressable_shards} == {places}
    found = many.run()
    same(found.state, wanted.state, **exact)
    rows = np.ones((len(seeds), 4, 3), np.float32)
    numbers = np.zeros((len(seeds), 4), np.int32)
    same(many.policy()(rows, numbers, numbers), one.policy()(rows, numbers, numbers), **exact)

# as one vmapped program on each device, as on a GPU
same(fit(seeds, devices[:2], together=True).run().state, wanted.state, rtol=1e-5, atol=1e-6)

# stopped on five devices, resumed on two, then on one
seeds = [4, 7, 1, 9, 2]
for count, calls in ((5, 2), (2, 3), (1, 10_000)):
    with Checkpoints(folder) as checkpoints:
        part = fit(seeds, devices[:count], checkpoints=checkpoints)
        if checkpoints.latest() is not None:
            part.resume()
        left = iter(range(calls))
        result = part.run(lambda: next(left, None) is None)
assert result.finished
same(result.state, fit(seeds, devices[:1]).run().state, **exact)
print("all the same")
"""


def test_the_same_results_on_eight_devices(tmp_path: Path) -> None:
    own = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "checkpoints")],
        cwd=ROOT, env=os.environ | own, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "all the same" in done.stdout
