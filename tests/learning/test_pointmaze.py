"""Learning in the real simulator: the default run, and every algorithm on the same noisy data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dtql_jax.algorithms import make_algorithm
from dtql_jax.datasets import load
from dtql_jax.datasets.transitions import transform_rewards
from dtql_jax.evaluation.rollout import evaluate
from dtql_jax.training.fit import Fit, FitSettings

ROOT = Path(__file__).parents[2]
EPISODES = 20
# algorithm -> settings, pretraining, training updates, least success rate
CASES = {
    "dtql": ({"gamma": 1.0, "expectile": 0.9, "num_candidates": 256}, 500, 1000, 0.9),
    "dql": ({"eta": 1.0}, 0, 1500, 0.7),
    "dql_kl": ({"expectile": 0.9, "num_candidates": 256}, 500, 1000, 0.7),
    "idql": ({"expectile": 0.9, "batch_use": "whole", "ema_rate": 0.01}, 0, 1500, 0.7),
    "iql": ({"expectile": 0.9, "temperature": 10.0, "lr_decay": False}, 0, 1500, 0.7),
    "bc": ({}, 0, 1500, 0.2),
    "bc-ddpm": ({"policy": "ddpm"}, 0, 1500, 0.2),
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory):
    """Planner episodes with action noise 0.5: cloning them clones the noise."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(home / "minari"))
        patch.setenv("DTQL_JAX_CACHE", str(home / "cache"))
        data, info = load("pointmaze-umaze", "generated", quiet=True)
    return data._replace(rewards=transform_rewards(data.rewards, 1.0, -1.0)), info


def play(dataset, case: str):
    """Trains one case and plays its policy."""
    data, info = dataset
    settings, pretrain, train, _ = CASES[case]
    algorithm = make_algorithm(case.split("-")[0], settings)
    fit = Fit(algorithm, data, [0], FitSettings(256, pretrain, train, 50, 500))
    fit.run()
    return evaluate(fit.policy(), info.env, seeds=[0], episodes=EPISODES)


@pytest.fixture(scope="module")
def dtql_result(dataset):
    return play(dataset, "dtql")


@pytest.mark.slow
@pytest.mark.parametrize("case", [name for name in CASES if name != "dtql"])
def test_baselines_learn(dataset, dtql_result, case: str) -> None:
    result = play(dataset, case)
    assert result.successes.mean() >= CASES[case][3]
    if case.startswith("bc"):
        # the clone repeats the planner's noise, or fails: either way it is slower than DTQL
        assert result.lengths.mean() > 1.2 * dtql_result.lengths.mean()


@pytest.mark.slow
def test_dtql_learns(dtql_result) -> None:
    assert dtql_result.successes.mean() >= CASES["dtql"][3]
    # the planner itself takes 61 steps without noise
    assert np.mean(dtql_result.lengths) < 120


@pytest.mark.slow
def test_the_default_run_reaches_its_goals(tmp_path: Path) -> None:
    own = {"MINARI_DATASETS_PATH": str(tmp_path / "minari"), "DTQL_JAX_CACHE": str(tmp_path / "c")}
    command = [sys.executable, "-m", "experiments.train", f"--out={tmp_path / 'run'}"]
    subprocess.run(command, cwd=ROOT, env=os.environ | own, check=True)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["episodes"] == 100
    assert summary["score_mean"] >= 95.0
