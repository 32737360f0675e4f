"""Learning in the real simulator: the default run, and baselines on the same noisy data."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from dtql_jax.algorithms import make_algorithm
from dtql_jax.datasets import DatasetInfo, load
from dtql_jax.datasets.transitions import transform_rewards
from dtql_jax.evaluation.rollout import evaluate
from dtql_jax.training.trainer import Trainer, TrainerConfig
from dtql_jax.types import Transition

ROOT = Path(__file__).parents[2]
EPISODES = 20
FAST = {"learning_rate": 1e-3, "critic_learning_rate": 1e-3, "hidden_dim": 128}
IDQL = FAST | {"num_blocks": 1, "ema_rate": 0.01, "lr_decay": False}
# tau and discount: values must spread over some 60 steps within the budget
IDQL |= {"tau": 0.02, "discount": 0.97, "expectile": 0.8, "num_candidates": 16}
KL = {"alpha": 100.0, "expectile": 0.8, "hidden_dim": 128, "num_candidates": 64}


class Budget(NamedTuple):
    """Settings of an algorithm, and the success rate that it must reach."""

    settings: dict[str, Any]
    updates: int
    least: float  # seen: 0.15 to 0.3 more
    pretraining: int = 0


CASES = {
    "dql": Budget({"eta": 1.0}, 1500, 0.8),
    "dql_kl": Budget(KL, 400, 0.7, pretraining=2000),
    "idql": Budget(IDQL, 2000, 0.8),
    "iql": Budget({"expectile": 0.9, "temperature": 10.0, "lr_decay": False}, 1500, 0.8),
    "bc": Budget({}, 1500, 0.8),
    "bc-ddpm": Budget({"policy": "ddpm"}, 1500, 0.7),
}


def steps_to_goal(case: str, budget: Budget, data: Transition, info: DatasetInfo) -> np.ndarray:
    """Steps of each episode, the whole time limit where the goal was not reached."""
    algorithm = make_algorithm(case.split("-")[0], budget.settings)
    settings = TrainerConfig(256, budget.pretraining, budget.updates, 50, 500)
    fit = Trainer(algorithm, data, [0], settings)
    fit.run()
    result = evaluate(fit.policy(), info.env, seeds=[0], episodes=EPISODES)
    return np.where(result.successes, result.lengths, info.env.max_episode_steps)


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
    steps = steps_to_goal(case, CASES[case], data, info)
    assert np.mean(steps < info.env.max_episode_steps) >= CASES[case].least


def other_goals(data: Transition) -> Transition:
    """The same episodes, each with the goal of another one: where they lead is noise.

    The rewards are those of the new goals, by the environment's rule: 1 within 0.45.
    """
    observations, following = data.observations.copy(), data.next_observations.copy()
    # observations hold position, velocity and the goal; an episode ends where the next row
    # does not begin at what the last one led to
    apart = np.any(following[:-1] != observations[1:], axis=1)
    episode = np.concatenate([[0], np.cumsum(apart)])
    goals = observations[np.flatnonzero(np.diff(episode, prepend=-1)), 4:]
    goals = np.random.default_rng(0).permutation(goals)[episode]
    observations[:, 4:] = following[:, 4:] = goals
    reached = np.linalg.norm(following[:, :2] - goals, axis=1) <= 0.45
    rewards = transform_rewards(reached.astype(np.float32), 1.0, -1.0)
    masks = 1.0 - reached.astype(np.float32)
    return Transition(observations, data.actions, following, rewards, masks)


@pytest.mark.slow
def test_dtql_is_ahead_of_a_clone_where_the_data_is_noisy(dataset) -> None:
    """A clone of aimless episodes wanders (seen: 92 steps), DTQL goes to the goal (47 to 64)."""
    data, info = dataset
    data = other_goals(data)
    dtql = Budget({"expectile": 0.9, "gamma": 1.0, "num_candidates": 256}, 2000, 0.7, 500)
    clone = Budget({}, 2000, 0.0)
    assert steps_to_goal("dtql", dtql, data, info).mean() < 0.85 * (
        steps_to_goal("bc", clone, data, info).mean()
    )


@pytest.mark.slow
def test_the_default_run_reaches_its_goals(tmp_path: Path) -> None:
    own = {"MINARI_DATASETS_PATH": str(tmp_path / "minari"), "DTQL_JAX_CACHE": str(tmp_path / "c")}
    command = [sys.executable, "-m", "dtql_jax", "train", f"--out={tmp_path / 'run'}"]
    subprocess.run(command, cwd=ROOT, env=os.environ | own, check=True)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["episodes"] == 100
    assert summary["score_mean"] >= 95.0
