"""Transitions from episodes: pure functions on numpy arrays, N transitions each.

Offline data has two kinds of ends. A *terminal* ends the task: nothing follows, and the bootstrap
mask is 0. A *timeout* only ends the recording: the mask stays 1. No transition has a next
observation of another episode.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from dtql_jax.errors import UserError
from dtql_jax.types import Transition


def from_episode(
    observations: np.ndarray,
    actions: np.ndarray,
    rewards: np.ndarray,
    terminals: np.ndarray,
    keep: np.ndarray | None = None,
) -> Transition:
    """Forms the T transitions of one episode that has T + 1 observations.

    Args:
      observations: [T + 1, O]; the last is the one after the last action.
      actions: [T, A].
      rewards: [T].
      terminals: [T], true where the task ended. Truncations are not ends.
      keep: [T], false for transitions to drop; None keeps all.

    Returns:
      float32 arrays of the kept transitions, in order.

    Raises:
      UserError: the lengths do not fit together.
    """
    steps = len(actions)
    lengths = {"rewards": len(rewards), "terminals": len(terminals)}
    wrong = [f"{length} {name}" for name, length in lengths.items() if length != steps]
    if len(observations) != steps + 1:
        wrong.insert(0, f"{len(observations)} observations")
    if wrong:
        raise UserError(
            f"an episode of {steps} actions has {', '.join(wrong)}; expected {steps} of each "
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
    """Concatenates transitions into contiguous arrays.

    Raises:
      UserError: there are no parts, or they have different widths.
    """
    if not parts:
        raise UserError("no episodes: expected at least one")
    for name in ("observations", "actions"):
        widths = sorted({getattr(part, name).shape[1:] for part in parts})
        if len(widths) > 1:
            raise UserError(f"{name} have different widths across episodes: {widths}")
    return Transition(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def validate(
    transitions: Transition,
    *,
    name: str,
    episodes: int,
    observation_dim: int | None = None,
    action_dim: int | None = None,
) -> None:
    """Checks arrays before anything is computed from them.

    Args:
      transitions: arrays with N rows.
      name: name of the dataset for the message.
      episodes: number of ends (terminals and timeouts) found.
      observation_dim: expected O; None: any.
      action_dim: expected A; None: any.

    Raises:
      UserError: no rows, different lengths, wrong widths or dtypes, NaN or infinity
        (with their count and first row), masks other than 0 and 1, or no end at all.
        The message names the dataset, the array, what came and what was expected.
    """
    rows = len(transitions.rewards)
    if rows == 0:
        raise UserError(f"{name} is empty: expected at least one transition")
    widths = {
        "observations": (2, observation_dim),
        "actions": (2, action_dim),
        "next_observations": (2, transitions.observations.shape[-1]),
        "rewards": (1, None),
        "masks": (1, None),
    }
    for field, array in transitions._asdict().items():
        check_array(array, f"{name}: {field}", rows=rows, ndim=widths[field][0])
        expected = widths[field][1]
        if expected is not None and array.shape[1] != expected:
            raise UserError(
                f"{name}: {field} have {array.shape[1]} entries a row; expected {expected}"
            )
        if array.dtype != np.float32:
            raise UserError(f"{name}: {field} are {array.dtype}; expected float32")
    odd = ~np.isin(transitions.masks, (0.0, 1.0))
    if odd.any():
        value = transitions.masks[odd.argmax()]
        raise UserError(f"{name}: masks must be 0 or 1; row {odd.argmax()} has {value}")
    if episodes < 1:
        raise UserError(
            f"{name} has no terminal and no timeout in {rows} rows: where its episodes end is "
            "unknown; expected at least one"
        )


def check_array(array: np.ndarray, name: str, *, rows: int, ndim: int) -> None:
    """Checks the type and shape of an array, and that all entries are finite.

    Args:
      array: the array.
      name: for the message.
      rows: expected length.
      ndim: expected number of axes.

    Raises:
      UserError: naming the array, what came and what was expected.
    """
    if not (np.issubdtype(array.dtype, np.floating) or array.dtype.kind in "iub"):
        raise UserError(f"{name} are of type {array.dtype}; expected numbers")
    if array.ndim != ndim:
        expected = "[rows]" if ndim == 1 else "[rows, entries]"
        raise UserError(f"{name} have shape {array.shape}; expected {expected}")
    if len(array) != rows:
        raise UserError(f"{name} have {len(array)} rows; expected {rows}")
    # a finite sum shows (almost surely) that all entries are finite, without an array of flags
    if array.dtype.kind == "f" and not np.isfinite(array.sum(dtype=np.float64)):
        finite = np.isfinite(array)
        if finite.all():
            return
        first = np.argmin(finite.reshape(rows, -1).all(axis=1))
        raise UserError(
            f"{name} have {np.count_nonzero(~finite)} NaN or infinite entries, the first in row "
            f"{first}; expected finite numbers"
        )


def clip_actions(
    actions: np.ndarray, low: float | np.ndarray, high: float | np.ndarray
) -> tuple[np.ndarray, int]:
    """Clips actions to the action space, which human demonstrations exceed.

    An action outside [low, high] has no inverse under tanh, so the likelihood terms of the losses
    would be NaN.

    Args:
      actions: [N, A].
      low: lower bound, a number or [A].
      high: upper bound, a number or [A].

    Returns:
      (clipped actions [N, A] of the same dtype, number of entries that were outside).
    """
    clipped = np.clip(actions, low, high).astype(actions.dtype, copy=False)
    return clipped, int(np.count_nonzero(clipped != actions))


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
