"""Episodes: how one is played and recorded, and how many are kept in a file.

What plays is a `Behaviour`. Everything random comes from the episode's own generator,
so an episode is the same in whatever process, and after whichever others, it is played.
Neither jax nor Minari is imported here: worker processes play episodes too.
"""

from __future__ import annotations

import os
import pathlib
import zipfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import gymnasium


# what numpy raises on a file that is cut off, changed, or no archive at all
_DAMAGES = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


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
        if not behaviour.ends_with_task:
            terminated = False
            truncated = truncated or behaviour.arrived(observation)
        observations.append(observation)
        steps.append((action, float(reward), bool(terminated), bool(truncated)))
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


def cut(episode: Episode, steps: int) -> Episode:
    """Returns the first `steps` steps; the last of them is truncated unless it terminated."""
    truncations = episode.truncations[:steps].copy()
    truncations[-1] |= not episode.terminations[steps - 1]
    given = episode.observations
    kept = (
        {key: array[: steps + 1] for key, array in given.items()}
        if isinstance(given, dict)
        else given[: steps + 1]
    )
    return Episode(
        episode.seed,
        kept,
        episode.actions[:steps],
        episode.rewards[:steps],
        episode.terminations[:steps],
        truncations,
    )


def write_episodes(path: pathlib.Path, episodes: Sequence[Episode]) -> None:
    """Writes episodes into an .npz file, which is there whole or not at all."""
    columns = {
        name: np.concatenate([getattr(episode, name) for episode in episodes])
        for name in ("actions", "rewards", "terminations", "truncations")
    }
    first = episodes[0].observations
    if isinstance(first, dict):
        for key in first:
            parts = [episode.observations[key] for episode in episodes]
            columns[f"observations/{key}"] = np.concatenate(parts)
    else:
        columns["observations"] = np.concatenate([episode.observations for episode in episodes])
    lengths = np.array([len(episode.rewards) for episode in episodes])
    seeds = np.array([episode.seed for episode in episodes])
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            np.savez(file, lengths=lengths, seeds=seeds, **columns)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_lengths(path: pathlib.Path) -> np.ndarray:
    """Returns the steps of each episode in a file, without reading the rest of it.

    Raises:
      ValueError: the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return file["lengths"]
    except _DAMAGES as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def read_episodes(path: pathlib.Path) -> list[Episode]:
    """Inverse of `write_episodes`.

    Raises:
      ValueError: the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            columns = {name: file[name] for name in file.files}
        lengths, seeds = columns.pop("lengths"), columns.pop("seeds")
        ends = np.cumsum(lengths)
        steps = {
            name: np.split(columns.pop(name), ends[:-1])
            for name in ("actions", "rewards", "terminations", "truncations")
        }
    except _DAMAGES as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    # each episode has one observation more than steps
    ends = np.cumsum(lengths + 1)[:-1]
    parts = {name.partition("/")[2]: np.split(array, ends) for name, array in columns.items()}
    flat = list(parts) == [""]
    return [
        Episode(
            int(seed),
            parts[""][i] if flat else {key: arrays[i] for key, arrays in parts.items()},
            *(steps[name][i] for name in ("actions", "rewards", "terminations", "truncations")),
        )
        for i, seed in enumerate(seeds)
    ]


def _stack(observations: Sequence[Any]) -> np.ndarray | dict[str, np.ndarray]:
    if not isinstance(observations[0], dict):
        return np.stack(observations)
    return {key: np.stack([given[key] for given in observations]) for key in observations[0]}
