"""Summary statistics of a dataset: returns, lengths, rewards, actions, ends."""

from __future__ import annotations

from typing import Any

import numpy as np

from dtql_jax.datasets.registry import ACTION_HIGH, ACTION_LOW
from dtql_jax.types import Transition

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def episode_returns(rewards: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns the sum of rewards of each episode, float64 [episodes].

    Args:
      rewards: [N], episode after episode.
      lengths: [episodes], rows of each; 0 where all rows were dropped.
    """
    sums = np.concatenate([[0.0], np.cumsum(rewards, dtype=np.float64)])
    ends = np.cumsum(lengths)
    return sums[ends] - sums[ends - lengths]


def summarise(transitions: Transition, lengths: np.ndarray) -> dict[str, Any]:
    """Returns summary statistics of a dataset, JSON-able.

    Args:
      transitions: arrays with N rows.
      lengths: [episodes], rows of each.

    Returns:
      "returns", "lengths", "rewards": {"min", "5 %", "25 %", "50 %", "75 %", "95 %", "max",
      "mean"}; "rewarded_episodes": share of episodes with a reward above 0; "terminals":
      number of transitions with mask 0; "actions": for each entry {"min", "mean", "max",
      "at_bounds"} (share of its values at a bound of the action space).
    """
    rewards = np.asarray(transitions.rewards)
    filled = lengths[lengths > 0]
    best = np.maximum.reduceat(rewards, np.cumsum(filled) - filled) > 0
    return {
        "returns": _spread(episode_returns(rewards, lengths)),
        "lengths": _spread(lengths),
        "rewards": _spread(rewards),
        "rewarded_episodes": float(best.sum() / len(lengths)),
        "terminals": int(np.count_nonzero(transitions.masks == 0)),
        "actions": [
            {
                "min": float(column.min()),
                "mean": float(column.mean(dtype=np.float64)),
                "max": float(column.max()),
                "at_bounds": float(np.mean((column <= ACTION_LOW) | (column >= ACTION_HIGH))),
            }
            for column in transitions.actions.T
        ],
    }


def _spread(values: np.ndarray) -> dict[str, float]:
    return {
        "min": float(values.min()),
        **{f"{100 * q:g} %": float(np.quantile(values, q)) for q in QUANTILES},
        "max": float(values.max()),
        "mean": float(np.mean(values, dtype=np.float64)),
    }
