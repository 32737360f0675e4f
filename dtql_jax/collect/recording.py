"""Episodes: what plays them, and how one is played.

What plays is a `Behaviour`. Everything random comes from the episode's own generator,
so an episode is the same in whatever process, and after whichever others, it is played.
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
      seed: what the environment was reset with.
      observations: [T + 1, O], or {key: [T + 1, O_key]}, as the environment gave them.
      actions: [T, A].
      rewards: [T] float64.
      terminations: [T] bool, whether the task ended.
      truncations: [T] bool, whether the recording ended.
    """

    seed: int
    observations: np.ndarray | dict[str, np.ndarray]
    actions: np.ndarray
    rewards: np.ndarray
    terminations: np.ndarray
    truncations: np.ndarray


class Behaviour:
    """What acts in a collection; this base class leaves resets and ends to the environment."""

    # False: the recording goes on past the task's end, up to the time limit or `arrived`
    ends_with_task = True

    def begin(self, env: gymnasium.Env, seed: int, draws: np.random.Generator) -> Any:
        """Resets the environment for an episode; returns the first observation."""
        observation, _ = env.reset(seed=seed)
        return observation

    def action(self, observation: Any, draws: np.random.Generator) -> np.ndarray:
        """Returns an action [A] within the action space."""
        raise NotImplementedError

    def arrived(self, observation: Any) -> bool:
        """Returns whether the behaviour is where it wanted to be; asked after each step."""
        return False

    def ends(self, observation: Any, terminated: bool, truncated: bool) -> tuple[bool, bool]:
        """Returns (terminated, truncated) as they are recorded after a step."""
        if self.ends_with_task:
            return bool(terminated), bool(truncated)
        return False, bool(truncated or self.arrived(observation))


def play(env: gymnasium.Env, behaviour: Behaviour, key: Sequence[int]) -> Episode:
    """Plays one whole episode.

    Args:
      env: an environment with a time limit.
      behaviour: what acts.
      key: integers that make the episode's random numbers, none negative.
    """
    draws = np.random.default_rng(key)
    seed = int(draws.integers(2**31))
    observation = behaviour.begin(env, seed, draws)
    observations, steps = [observation], []
    while True:
        action = behaviour.action(observation, draws)
        observation, reward, terminated, truncated, _ = env.step(action)
        terminated, truncated = behaviour.ends(observation, terminated, truncated)
        observations.append(observation)
        steps.append((action, float(reward), terminated, truncated))
        if terminated or truncated:
            break
    actions, rewards, terminations, truncations = zip(*steps, strict=True)
    return Episode(
        seed,
        _stack(observations),
        np.stack(actions),
        np.array(rewards),
        np.array(terminations),
        np.array(truncations),
    )


def _stack(observations: Sequence[Any]) -> np.ndarray | dict[str, np.ndarray]:
    if not isinstance(observations[0], dict):
        return np.stack(observations)
    return {key: np.stack([given[key] for given in observations]) for key in observations[0]}
