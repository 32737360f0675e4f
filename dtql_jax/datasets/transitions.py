"""Transitions from episodes: pure functions on numpy arrays, N transitions each.

Offline data has two kinds of ends. A *terminal* ends the task: nothing follows, and the bootstrap
mask is 0. A *timeout* only ends the recording: the mask stays 1. No transition has a next
observation of another episode.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from dtql_jax.datasets.registry import ACTION_HIGH, ACTION_LOW
from dtql_jax.datasets.sources import Source
from dtql_jax.errors import UserError
from dtql_jax.types import Transition


def from_episode(
    observations: np.ndarray,
    actions: np.ndarray,
    rewards: np.ndarray,
    terminals: np.ndarray,
    keep: np.ndarray | None = None,
) -> Transition:
    """Forms the T transitions of one episode that has T + 1 observations, as float32 arrays.

    Args:
      observations: [T + 1, O]; the last is the one after the last action.
      actions: [T, A].
      rewards: [T].
      terminals: [T], true where the task ended. Truncations are not ends.
      keep: [T], false for transitions to drop; None keeps all.

    Raises:
      UserError: the lengths do not fit together.
    """
    steps = len(actions)
    if (len(observations), len(rewards), len(terminals)) != (steps + 1, steps, steps):
        raise UserError(
            f"an episode of {steps} actions has {len(observations)} observations, "
            f"{len(rewards)} rewards and {len(terminals)} terminals; expected {steps} of each "
            f"and {steps + 1} observations"
        )
    rows = slice(None) if keep is None else np.asarray(keep, bool)
    return Transition(
        observations=np.asarray(observations[:-1][rows], np.float32),
        actions=np.asarray(actions[rows], np.float32),
        next_observations=np.asarray(observations[1:][rows], np.float32),
        rewards=np.asarray(rewards[rows], np.float32),
        masks=np.asarray(1.0 - np.asarray(terminals, np.float32)[rows], np.float32),
    )


def concatenate(parts: Sequence[Transition]) -> Transition:
    """Concatenates transitions into contiguous arrays; UserError without any."""
    if not parts:
        raise UserError("no episodes: expected at least one")
    return Transition(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def validate(
    transitions: Transition,
    *,
    name: str,
    episodes: int,
    observation_dim: int | None = None,
    action_dim: int | None = None,
) -> None:
    """Checks float32 arrays before anything is computed from them.

    Args:
      transitions: arrays with N rows.
      name: name of the dataset for the message.
      episodes: number of ends (terminals and timeouts) found.
      observation_dim: expected O; None: any.
      action_dim: expected A; None: any.

    Raises:
      UserError: no rows, wrong shapes, NaN or infinity, masks other than 0 and 1, or no end.
    """
    rows = transitions.rewards.size
    if rows == 0:
        raise UserError(f"{name} is empty: expected at least one transition")
    shapes = {
        "observations": (rows, observation_dim),
        "actions": (rows, action_dim),
        "next_observations": (rows, *transitions.observations.shape[1:]),
        "rewards": (rows,),
        "masks": (rows,),
    }
    for field, shape in shapes.items():
        check_array(getattr(transitions, field), f"{name}: {field}", shape)
    check_flags(np.asarray(transitions.masks), f"{name}: masks")
    if episodes < 1:
        raise UserError(
            f"{name} has no terminal and no timeout in {rows} rows: where its episodes end is "
            "unknown; expected at least one"
        )


def check_array(array: np.ndarray, name: str, shape: tuple[int | None, ...]) -> None:
    """Checks the shape of an array of numbers (None: any length), and that all are finite.

    Raises:
      UserError: naming the array, what came and what was expected.
    """
    fits = all(n in (None, found) for n, found in zip(shape, array.shape, strict=False))
    if array.ndim != len(shape) or not fits:
        lengths = ", ".join("any" if length is None else str(length) for length in shape)
        raise UserError(f"{name} have shape {array.shape}; expected ({lengths})")
    # a finite sum shows (almost surely) that all entries are finite, without an array of flags
    if np.isfinite(array.sum(dtype=np.float64)):
        return
    finite = np.isfinite(array).reshape(len(array), -1)
    if not finite.all():
        raise UserError(
            f"{name} have {np.count_nonzero(~finite)} NaN or infinite entries, the first in row "
            f"{np.argmin(finite.all(axis=1))}; expected finite numbers"
        )


def check_flags(array: np.ndarray, name: str) -> None:
    """Raises UserError for entries [N] other than 0 and 1."""
    odd = ~np.isin(array, (0.0, 1.0))
    if odd.any():
        row = odd.argmax()
        raise UserError(f"{name} must be 0 or 1; row {row} has {array[row]}")


def finish(
    transitions: Transition, lengths: Sequence[int] | np.ndarray, source: Source, name: str
) -> tuple[Transition, dict[str, Any]]:
    """Validates transitions of a source and clips their actions to [-1, 1].

    Human demonstrations exceed it. Such an action has no inverse under tanh, so the likelihood
    terms of the losses would be NaN.

    Args:
      transitions: arrays with N rows.
      lengths: [episodes], rows of each.
      source: the expected sizes.
      name: name of the dataset for messages.

    Returns:
      (arrays, facts): "episodes", "episode_lengths" and "clipped_actions", the number of entries
      that were outside.
    """
    validate(
        transitions,
        name=name,
        episodes=len(lengths),
        observation_dim=source.observation_dim,
        action_dim=source.action_dim,
    )
    actions = np.clip(transitions.actions, ACTION_LOW, ACTION_HIGH)
    facts = {
        "episodes": len(lengths),
        "episode_lengths": np.asarray(lengths),
        "clipped_actions": int(np.count_nonzero(actions != transitions.actions)),
    }
    return transitions._replace(actions=actions), facts


def transform_rewards(rewards: np.ndarray, scale: float, shift: float) -> np.ndarray:
    """Returns rewards * scale + shift, elementwise in the dtype of `rewards` [N].

    AntMaze: scale 1, shift -1 (method: r - 1); DQL's AntMaze 4 (r - 0.5): scale 4, shift -2.
    """
    return (rewards * rewards.dtype.type(scale) + rewards.dtype.type(shift)).astype(rewards.dtype)


def fingerprint(transitions: Transition) -> str:
    """Returns "sha256:..." over the names, dtypes, shapes and bytes of the arrays.

    Datasets with the same fingerprint give the same training.
    """
    digest = hashlib.sha256()
    for name, array in transitions._asdict().items():
        array = np.ascontiguousarray(array)
        digest.update(f"{name}:{array.dtype.str}:{array.shape}:".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return f"sha256:{digest.hexdigest()}"
