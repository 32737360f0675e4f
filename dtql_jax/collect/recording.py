"""Behaviours, and episodes played by them.

All randomness of an episode comes from the episode's own generator. An episode is therefore the
same in any process and after any other episodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import gymnasium


class Episode(NamedTuple):
    """One episode of T steps.

    Attributes:
      seed: seed of the environment's reset.
      observations: [T + 1, O], or {key: [T + 1, O_key]}, as the environment returned them.
      actions: [T, A].
      rewards: [T] float64.
      terminations: [T] bool, true where the task ended.
      truncations: [T] bool, true where the recording ended.
    """

    seed: int
    observations: np.ndarray | dict[str, np.ndarray]
    actions: np.ndarray
    rewards: np.ndarray
    terminations: np.ndarray
    truncations: np.ndarray

    def first(self, steps: int) -> Episode:
        """Returns the first `steps` steps; a cut episode is truncated unless it terminated."""
        if steps >= len(self.rewards):
            return self
        observations = self.observations
        if isinstance(observations, dict):
            observations = {key: part[: steps + 1] for key, part in observations.items()}
        else:
            observations = observations[: steps + 1]
        columns = [column[:steps].copy() for column in self[2:]]
        terminations, truncations = columns[-2:]
        truncations[-1] |= not terminations[-1]
        return Episode(self.seed, observations, *columns)


class Behaviour:
    """Acts in a collection. This base class leaves resets and ends to the environment."""

    # for the metadata of a dataset
    description = ""
    # Episodes in one part of a collection (a few seconds), which a killed collection loses.
    part_episodes = 20
    # False: record beyond the end of the task, up to the time limit or until `arrived`
    ends_with_task = True

    def begin(self, env: gymnasium.Env, seed: int, draws: np.random.Generator) -> Any:
        """Resets the environment for an episode; returns the first observation."""
        return env.reset(seed=seed)[0]

    def action(self, observation: Any, draws: np.random.Generator) -> np.ndarray:
        """Returns an action [A] within the action space."""
        raise NotImplementedError

    def arrived(self, observation: Any) -> bool:
        """Returns whether the behaviour has reached its own goal."""
        return False


def play(env: gymnasium.Env, behaviour: Behaviour, key: Sequence[int]) -> Episode:
    """Plays one whole episode.

    Args:
      env: an environment with a time limit.
      behaviour: chooses the actions.
      key: integers >= 0 that seed the episode's generator.
    """
    draws = np.random.default_rng(key)
    seed = int(draws.integers(2**31))
    observation = behaviour.begin(env, seed, draws)
    observations, steps = [observation], []
    terminated = truncated = False
    while not (terminated or truncated):
        action = behaviour.action(observation, draws)
        observation, reward, terminated, truncated, _ = env.step(action)
        if not behaviour.ends_with_task:
            terminated, truncated = False, truncated or behaviour.arrived(observation)
        observations.append(observation)
        steps.append((action, float(reward), bool(terminated), bool(truncated)))
    actions, rewards, terminations, truncations = zip(*steps, strict=True)
    if isinstance(observation, dict):
        stacked: Any = {k: np.stack([row[k] for row in observations]) for k in observation}
    else:
        stacked = np.stack(observations)
    return Episode(
        seed,
        stacked,
        np.stack(actions),
        np.array(rewards),
        np.array(terminations),
        np.array(truncations),
    )
