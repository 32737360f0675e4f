"""The numbers under a panel."""

from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree

from experiments.bandits.problems import Bandit

SUPPORT = 3.0  # standard deviations from the nearest data point to the border of the support
AT_BEST = 0.9  # share of the best mode's reward from which a sample counts as there


class Numbers(NamedTuple):
    """What samples of a policy are worth.

    Attributes:
      reward: their mean reward over the best mode's; None where no sample is finite.
      outside: share outside the support: further than 3 standard deviations of the data from its
        nearest point, or not finite.
      at_best: share inside the support that earns at least 0.9 of the best mode's reward.
    """

    reward: float | None
    outside: float
    at_best: float


def score(samples: np.ndarray, bandit: Bandit) -> Numbers:
    """The numbers of samples [S, 2]."""
    finite = np.isfinite(samples).all(axis=-1)
    kept = samples[finite]
    if not len(kept):
        return Numbers(None, 1.0, 0.0)
    distance, _ = KDTree(bandit.actions).query(kept)
    inside = distance <= SUPPORT * bandit.std
    relative = bandit.reward(kept) / bandit.best
    total = len(samples)
    return Numbers(
        reward=float(np.mean(relative)),
        outside=1.0 - float(np.sum(inside)) / total,
        at_best=float(np.sum(inside & (relative >= AT_BEST))) / total,
    )


def reward_text(reward: float | None, digits: int = 2) -> str:
    """A relative reward in few letters, of samples far away too.

    >>> reward_text(1.032), reward_text(99_999.992), reward_text(None)
    ('1.03', '1e+05', 'none')
    """
    if reward is None:
        return "none"
    return f"{reward:.{digits}f}" if abs(reward) < 100 else f"{reward:.0e}"
