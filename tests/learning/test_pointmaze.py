"""Learning in the real simulator: the default run, and baselines on the same noisy data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dtql_jax.algorithms import make_algorithm
from dtql_jax.datasets import load
from dtql_jax.datasets.transitions import transform_rewards
from dtql_jax.evaluation.rollout import evaluate
from dtql_jax.training.fit import Fit, FitSettings

ROOT = Path(__file__).parents[2]
EPISODES = 20
# algorithm -> settings, least success rate after 1,500 updates (seen: 1.0, 1.0, 1.0, 0.95)
CASES = {
    "dql": ({"eta": 1.0}, 0.8),
    "iql": ({"expectile": 0.9, "temperature": 10.0, "lr_decay": False}, 0.8),
    "bc": ({}, 0.8),
    "bc-ddpm": ({"policy": "ddpm"}, 0.7),
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


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_baselines_reach_their_goals(dataset, case: str) -> None:
    data, info = dataset
    settings, least = CASES[case]
    algorithm = make_algorithm(case.split("-")[0], settings)
    fit = Fit(algorithm, data, [0], FitSettings(256, 0, 1500, 50, 500))
    fit.run()
    result = evaluate(fit.policy(), info.env, seeds=[0], episodes=EPISODES)
    assert result.successes.mean() >= least


@pytest.mark.slow
def test_the_default_run_reaches_its_goals(tmp_path: Path) -> None:
    own = {"MINARI_DATASETS_PATH": str(tmp_path / "minari"), "DTQL_JAX_CACHE": str(tmp_path / "c")}
    command = [sys.executable, "-m", "experiments.train", f"--out={tmp_path / 'run'}"]
    subprocess.run(command, cwd=ROOT, env=os.environ | own, check=True)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["episodes"] == 100
    assert summary["score_mean"] >= 95.0
