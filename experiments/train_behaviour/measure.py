"""Returns and successes of policies, played by the very behaviours that collections use."""

from __future__ import annotations

import pathlib
from typing import Any

import gymnasium
import numpy as np

from dtql_jax.collect.antmaze import AntMazeBehaviour
from dtql_jax.collect.behaviours import make_behaviour
from dtql_jax.collect.policies import read_policy
from dtql_jax.collect.recording import play
from dtql_jax.datasets.registry import get_task
from dtql_jax.datasets.sources import GeneratedSource
from dtql_jax.envs.make import make_base_env

# tells a measurement's random numbers from a collection's
_MEASUREMENT = 7_000

MAZES = {"umaze": "antmaze-umaze", "medium": "antmaze-medium-play", "large": "antmaze-large-play"}


class _ToEvaluationGoal(AntMazeBehaviour):
    """Walks to the very goal that is rewarded; collections walk to places around it."""

    def begin(self, env: gymnasium.Env, seed: int, draws: np.random.Generator) -> Any:
        observation = super().begin(env, seed, draws)
        self._goal = tuple(env.unwrapped.goal.tolist())
        return observation


def measure_returns(
    path: pathlib.Path, source: GeneratedSource, episodes: int, seed: int
) -> dict[str, Any]:
    """Returns mean and standard deviation of a policy's returns, as JSON."""
    env = make_base_env(source.recording_env())
    try:
        behaviour = make_behaviour(source.collector, env, read_policy(path), source.settings)
        played = [play(env, behaviour, (_MEASUREMENT, seed, i)) for i in range(episodes)]
    finally:
        env.close()
    returns = [episode.rewards.sum() for episode in played]
    return {
        "episodes": episodes,
        "return_mean": round(float(np.mean(returns)), 2),
        "return_std": round(float(np.std(returns)), 2),
        "length_mean": round(float(np.mean([len(episode.rewards) for episode in played])), 1),
    }


def measure_maze(
    path: pathlib.Path, maze: str, variant: str, episodes: int, seed: int
) -> dict[str, Any]:
    """Returns how often an ant comes to a maze's evaluation goal in the evaluation's time.

    Args:
      path: of the policy.
      maze: "umaze", "medium" or "large".
      variant: "d4rl-ant" or "gymnasium-ant".
      episodes: how many.
      seed: of them.
    """
    task = get_task(MAZES[maze])
    (source,) = (
        source for source in (task.generated, *task.generated_variants) if source.variant == variant
    )
    env = make_base_env(source.env)
    try:
        behaviour = _ToEvaluationGoal(env, read_policy(path))
        played = [play(env, behaviour, (_MEASUREMENT, seed, i)) for i in range(episodes)]
    finally:
        env.close()
    lengths = [len(episode.rewards) for episode in played if episode.rewards.any()]
    return {
        "episodes": episodes,
        "successes": len(lengths),
        "length_of_successes_mean": round(float(np.mean(lengths)), 1) if lengths else None,
    }
