"""The export command: the actions of the run from one file, and wrong input."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import dtql_jax
from dtql_jax.training import population
from examples import act_with_numpy
from tests.commands import small_run
from tests.commands.commands import ROOT, assert_wrong, call


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("runs") / "run"
    return path, small_run.write_run(path, algorithm="bc", seeds=2)


def test_the_file_acts_as_the_run_did(trained, tmp_path: Path) -> None:
    path, fit = trained
    ended = call("export", f"--run={path}", "--member=1", "--npz")
    assert ended.returncode == 0, ended.stderr
    assert "seed 1, update 6, acting by single, for cpu" in ended.stdout
    policy = dtql_jax.load_policy(path / "policy.zip")
    rng = np.random.default_rng(1)
    observations = rng.normal(size=(2, 5, policy.observation_dim)).astype(np.float32)
    episodes, steps = rng.integers(9, size=(2, 2, 5)).astype(np.int32)
    expected = fit.policy()(observations, episodes, steps)[1]
    # the keys of the run's second member, as population.make_act folds them
    fold = jax.vmap(jax.random.fold_in)
    key = population.member_keys(fit.seeds).evaluation[1]
    keys = fold(fold(jax.numpy.stack([key] * 5), episodes[1]), steps[1])
    np.testing.assert_allclose(policy(observations[1], keys), expected, atol=2e-6)
    about = policy.metadata
    assert about["task"] == "pointmaze-umaze" and about["source"] == "generated"
    assert about["seed"] == 1 and about["acting"] == {"action_selection": "single"}
    assert about["trained_with"]["versions"]["jax"]
    weights, plain = act_with_numpy.read(path / "policy.npz")
    assert plain["action_dim"] == 2
    bias = fit.state.policy.params["params"]["dense_3"]["bias"][1]
    np.testing.assert_array_equal(weights["policy/dense_3/bias"], bias)
    shown = subprocess.run(
        [sys.executable, ROOT / "examples" / "act_with_numpy.py", path / "policy.npz"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "one draw" in shown.stdout


def test_another_selection(trained, tmp_path: Path) -> None:
    path, fit = trained
    ended = call("export", f"--run={path}", "--selection=mean", f"--out={tmp_path / 'mean.zip'}")
    assert ended.returncode == 0, ended.stderr
    policy = dtql_jax.load_policy(tmp_path / "mean.zip")
    assert policy.metadata["acting"]["action_selection"] == "mean"
    assert policy.metadata["settings"]["action_selection"] == "mean"
    assert policy.metadata["seed"] == 0 and fit.seeds == [0, 1]
    observation = np.ones(policy.observation_dim)
    np.testing.assert_array_equal(policy(observation, 1), policy(observation, 2))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "--run is missing"),
        (("--run=nowhere",), "holds no run.json"),
        (("--run=RUN", "--member=2"), "members are 0 to 1"),
        (("--run=RUN", "--selection=best"), "action_selection is 'best'"),
    ],
)
def test_wrong_input_is_one_line(trained, arguments: tuple[str, ...], expected: str) -> None:
    words = [word.replace("RUN", str(trained[0])) for word in arguments]
    assert_wrong(call("export", *words), expected)
