"""Exported policies: the same actions as the algorithm's, without its code; bad files; numpy."""

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import dtql_jax
from dtql_jax import export
from dtql_jax.algorithms import ALGORITHMS, dtql, make_algorithm
from dtql_jax.errors import UserError
from examples import act_with_numpy
from tests.algorithms import small

ROOT = Path(__file__).parents[1]
BOUND = np.full(small.ACTION_DIM, small.MAX_ACTION, np.float32)
SIZES = {
    "observation_dim": small.OBSERVATION_DIM,
    "action_low": -BOUND,
    "action_high": BOUND,
    "metadata": {"task": "none"},
}


def made(name: str, **changes: Any) -> tuple[Any, Any]:
    """An algorithm's act and a fresh state."""
    algorithm = make_algorithm(name, small.settings(name, **changes))
    return algorithm.act, small.jit(algorithm.init)(jax.random.key(0), small.batch(2))


def exported(path: Path, name: str, **changes: Any) -> tuple[Any, Any, export.LoadedPolicy]:
    act, state = made(name, **changes)
    export.export_policy(path, act, state, platforms=("cpu",), **SIZES)
    return act, state, dtql_jax.load_policy(path)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any, export.LoadedPolicy]:
    path = tmp_path_factory.mktemp("policies") / "policy.zip"
    return path, *exported(path, "dtql", action_selection="single")


@pytest.mark.parametrize("name", ALGORITHMS)
def test_actions_are_the_algorithms(name: str, tmp_path: Path) -> None:
    act, state, policy = exported(tmp_path / "policy.zip", name)
    observations = np.asarray(small.batch(2).observations)
    keys = jax.random.split(jax.random.key(7), 2)
    expected = small.jit(jax.vmap(act, (None, 0, 0)))(state, observations, keys)
    expected = np.clip(expected, -BOUND, BOUND)
    batch = policy(observations, keys)
    assert batch.shape == (2, small.ACTION_DIM) and batch.dtype == np.float32
    np.testing.assert_allclose(batch, expected, atol=2e-6)


def test_a_seed_is_the_key_of_that_seed(single: Any) -> None:
    _, act, state, policy = single
    observation = np.ones(small.OBSERVATION_DIM, np.float32)
    for seed in (0, 5, np.int64(2**32 - 1)):
        expected = act(state, observation, jax.random.key(np.uint32(seed)))
        assert policy(observation, seed).shape == (small.ACTION_DIM,)
        np.testing.assert_allclose(policy(observation, seed), expected, atol=2e-6)
    assert np.array_equal(policy(observation, 5), policy(observation.tolist(), 5))
    assert not np.array_equal(policy(observation, 5), policy(observation, 6))


def test_rows_of_a_batch_draw_apart_and_do_not_depend_on_each_other(single: Any) -> None:
    _, _, _, policy = single
    same = np.ones((70, small.OBSERVATION_DIM), np.float32)
    actions = policy(same, 3)
    assert len(np.unique(actions[:, 0])) == 70
    np.testing.assert_allclose(policy(same[:9], 3), actions[:9], atol=2e-6)
    keys = [jax.random.fold_in(jax.random.key(3), row) for row in range(2)]
    np.testing.assert_allclose(policy(same[1], keys[1]), actions[1], atol=2e-6)
    seeds = np.arange(4)
    apart = np.stack([policy(same[0], seed) for seed in seeds])
    np.testing.assert_allclose(policy(same[:4], seeds), apart, atol=2e-6)
    assert policy(same[:0], 3).shape == (0, small.ACTION_DIM)


def test_a_batch_larger_than_one_call_is_cut(single: Any) -> None:
    path, _, _, whole = single
    cut = dtql_jax.load_policy(path)
    cut._rows = 4
    observations = np.asarray(small.batch(11).observations)
    np.testing.assert_allclose(cut(observations, 1), whole(observations, 1), atol=2e-6)


def test_actions_keep_within_the_action_space(tmp_path: Path) -> None:
    act, state = made("iql", action_selection="single")
    sizes = SIZES | {"action_low": np.array([-0.1, -0.2]), "action_high": np.array([0.1, 0.3])}
    export.export_policy(tmp_path / "p.zip", act, state, platforms=("cpu",), **sizes)
    actions = dtql_jax.load_policy(tmp_path / "p.zip")(np.zeros((50, small.OBSERVATION_DIM)), 0)
    np.testing.assert_allclose(actions.min(axis=0), [-0.1, -0.2])
    np.testing.assert_allclose(actions.max(axis=0), [0.1, 0.3])


def test_the_file_holds_what_acting_needs(single: Any, tmp_path: Path) -> None:
    path, act, state, policy = single
    assert {name.split("/")[0] for name in policy.metadata["weights"]} == {"policy"}
    with zipfile.ZipFile(path) as archive:
        kernel = np.load(archive.open("weights/policy/dense_1/kernel.npy"), allow_pickle=False)
    np.testing.assert_array_equal(kernel, state.policy.params["params"]["dense_1"]["kernel"])
    facts = export.export_policy(tmp_path / "all.zip", act, state, **SIZES)
    assert set(facts["platforms"]) == {"cpu", "cuda", "rocm", "tpu"}
    everywhere = dtql_jax.load_policy(tmp_path / "all.zip")
    assert everywhere.metadata["task"] == "none"
    observation = np.ones(small.OBSERVATION_DIM)
    np.testing.assert_array_equal(everywhere(observation, 1), policy(observation, 1))


def test_the_same_policy_is_the_same_file(single: Any, tmp_path: Path) -> None:
    path, act, state, _ = single
    export.export_policy(tmp_path / "again.zip", act, state, platforms=("cpu",), **SIZES)
    assert (tmp_path / "again.zip").read_bytes() == path.read_bytes()
    program = zipfile.ZipFile(path).read("program.jax")
    assert str(ROOT).encode() not in program


HEAVY = "flax optax chex orbax gymnasium gymnasium_robotics mujoco minari h5py matplotlib absl"


def test_loading_needs_jax_alone(single: Any) -> None:
    path, _, _, policy = single
    program = f"""
import json, sys
import dtql_jax
policy = dtql_jax.load_policy({str(path)!r})
action = policy([1.0] * policy.observation_dim, 4)
loaded = [name for name in {HEAVY.split()!r} if name in sys.modules]
print(json.dumps([action.tolist(), loaded]))
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    action, loaded = json.loads(ended.stdout)
    assert loaded == []
    np.testing.assert_allclose(action, policy(np.ones(small.OBSERVATION_DIM), 4), atol=2e-6)


def rewritten(path: Path, target: Path, **members: bytes | None) -> Path:
    """A copy of an archive with members changed, or left out where None."""
    changes = {
        name.replace("_json", ".json").replace("_jax", ".jax"): members[name] for name in members
    }
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = changes.get(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return target


def test_bad_files_are_named(single: Any, tmp_path: Path) -> None:
    path, *_ = single
    metadata = json.loads(zipfile.ZipFile(path).read("metadata.json"))

    def with_metadata(**changes: Any) -> Path:
        text = json.dumps(metadata | changes).encode()
        return rewritten(path, tmp_path / "changed.zip", metadata_json=text)

    cut, other = tmp_path / "cut.zip", tmp_path / "text.zip"
    cut.write_bytes(path.read_bytes()[:-200])
    other.write_text("no archive")
    broken = bytearray(path.read_bytes())
    broken[len(broken) // 2] ^= 0xFF
    (tmp_path / "flipped.zip").write_bytes(broken)
    digest = hashlib.sha256(b"x" * 99).hexdigest()
    foreign = json.dumps(metadata | {"weights": [], "sha256": digest}).encode()
    cases: list[tuple[Any, str]] = [
        (lambda: tmp_path / "absent.zip", "no file"),
        (lambda: tmp_path, "is damaged"),
        (lambda: other, "is damaged"),
        (lambda: cut, "is damaged"),
        (lambda: tmp_path / "flipped.zip", "is damaged"),
        (lambda: rewritten(path, tmp_path / "c.zip", program_jax=None), "is damaged"),
        (lambda: rewritten(path, tmp_path / "c.zip", program_jax=b"x" * 99), "does not hold what"),
        (
            lambda: rewritten(
                path, tmp_path / "c.zip", program_jax=b"x" * 99, metadata_json=foreign
            ),
            "newer jax than",
        ),
        (lambda: rewritten(path, tmp_path / "c.zip", metadata_json=b"{"), "is damaged"),
        (lambda: rewritten(path, tmp_path / "c.zip", metadata_json=b"[]"), "no format"),
        (lambda: with_metadata(rows_at_once="many"), "is damaged"),
        (lambda: with_metadata(format="other"), "no format"),
        (lambda: with_metadata(format_version=9), "format version 9; this version reads 1"),
        (lambda: with_metadata(weights=metadata["weights"][:-1]), "does not hold what"),
        (lambda: with_metadata(weights=["nothing"]), "is damaged"),
    ]
    for make, expected in cases:
        with pytest.raises(UserError, match=expected) as raised:
            dtql_jax.load_policy(make())
        assert "\n" not in str(raised.value)


def test_a_file_for_other_platforms_is_refused(tmp_path: Path) -> None:
    act, state = made("bc")
    export.export_policy(tmp_path / "tpu.zip", act, state, platforms=("tpu",), **SIZES)
    with pytest.raises(UserError, match="has programs for tpu; this process runs on cpu"):
        dtql_jax.load_policy(tmp_path / "tpu.zip")


@pytest.mark.parametrize(
    ("observation", "seed", "expected"),
    [
        (np.zeros(4), 0, r"observation is \(4,\); expected \(5,\) or \(batch, 5\)"),
        (np.zeros((1, 1, 5)), 0, "expected"),
        (np.full(5, np.nan), 0, "not finite"),
        (np.zeros(5), -1, r"expected an integer in \[0, 2\*\*32\)"),
        (np.zeros(5), 2**32, "expected an integer"),
        (np.zeros(5), 0.5, "expected an integer"),
        (np.zeros(5), [1, 2], "expected one, or one for each row"),
        (np.zeros((3, 5)), [1, 2], "expected one, or one for each row"),
    ],
)
def test_wrong_calls_are_named(single: Any, observation: Any, seed: Any, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        single[3](observation, seed)


def test_numpy_alone_gives_the_same_actions(tmp_path: Path) -> None:
    settings = small.settings("dtql", action_selection="argmax")
    config = dtql.DTQLConfig(**settings)
    act, state = made("dtql", action_selection="argmax")
    export.export_weights(
        tmp_path / "policy.npz",
        act,
        state,
        observation_dim=small.OBSERVATION_DIM,
        metadata={"settings": settings},
    )
    weights, metadata = act_with_numpy.read(tmp_path / "policy.npz")
    assert metadata["settings"] == settings
    observation = np.asarray(small.batch(1).observations)[0]
    noise = np.random.default_rng(0).standard_normal((16, small.ACTION_DIM)).astype(np.float32)
    networks = dtql.make_networks(config)
    actions, q = dtql.candidates(networks, config, state, observation, noise)
    many = np.broadcast_to(observation, (16, small.OBSERVATION_DIM))
    found = act_with_numpy.act(weights, many, noise, small.MAX_ACTION)
    np.testing.assert_allclose(found, actions, atol=1e-5)
    np.testing.assert_allclose(act_with_numpy.q(weights, many, found), q, atol=1e-5)
    # the same noise as JAX draws for this key: the same action
    key = jax.random.key(3)
    drawn = jax.random.normal(jax.random.split(key)[0], (8, small.ACTION_DIM))
    best = act_with_numpy.act_best(weights, observation, np.asarray(drawn), small.MAX_ACTION)
    np.testing.assert_allclose(best, act(state, observation, key), atol=1e-5)
