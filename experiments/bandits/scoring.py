"""Numbers of samples in a bandit, of one seed and of a population of seeds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree

from experiments.bandits.problems import Bandit

SUPPORT = 3.0  # standard deviations from the nearest data point to the border of the support
AT_BEST = 0.9  # share of the best mode's reward from which a sample counts as there
INSIDE, RUNAWAY = 0.05, 10.0
OUTCOMES = ("inside", "partly outside", "outside", "runaway")


class Numbers(NamedTuple):
    """How good the samples of one policy are.

    Attributes:
      reward: mean reward divided by the best mode's; None if no sample is finite.
      outside: share outside the support: further than 3 standard deviations of the data from its
        nearest point, or not finite.
      at_best: share inside the support that earns at least 0.9 of the best mode's reward.
      distance: median distance to the nearest data point; infinite samples count as infinite.
    """

    reward: float | None
    outside: float
    at_best: float
    distance: float

    @property
    def outcome(self) -> str:
        """Returns one of OUTCOMES.

        "inside": at least 95 % inside the support; "outside": at most 5 %; "runaway": half of the
        samples are more than 10 (the half width of the data) away from all data.
        """
        if self.outside <= INSIDE:
            return "inside"
        if self.distance > RUNAWAY:
            return "runaway"
        return "outside" if self.outside >= 1.0 - INSIDE else "partly outside"


def score(samples: np.ndarray, bandit: Bandit) -> Numbers:
    """Returns the numbers of samples [S, 2]."""
    finite = np.isfinite(samples).all(axis=-1)
    kept = samples[finite].astype(np.float64)
    distance = np.full(len(samples), np.inf)
    if not len(kept):
        return Numbers(None, 1.0, 0.0, np.inf)
    distance[finite], _ = KDTree(bandit.actions).query(kept)
    inside = distance[finite] <= SUPPORT * bandit.std
    relative = bandit.reward(kept) / bandit.best
    return Numbers(
        reward=float(np.mean(relative)),
        outside=1.0 - float(np.sum(inside)) / len(samples),
        at_best=float(np.sum(inside & (relative >= AT_BEST))) / len(samples),
        distance=float(np.median(distance)),
    )


class Population(NamedTuple):
    """Numbers of a panel over its seeds.

    Attributes:
      reward: median over seeds of the mean reward divided by the best mode's.
      outside: mean over seeds of the share outside the support.
      inside_seeds: seeds whose samples are at least 95 % inside the support.
      best_seeds: those of them with at least half of their samples at the best mode.
      distance: median over seeds of the median distance to the nearest data point.
      outcomes: number of seeds of each of OUTCOMES.
      shown: position of the seed that is drawn: of the most common outcome, the one in the middle
        by the share outside the support.
    """

    reward: float | None
    outside: float
    inside_seeds: int
    best_seeds: int
    distance: float
    outcomes: dict[str, int]
    shown: int


def over_seeds(numbers: Sequence[Numbers]) -> Population:
    """Returns the numbers of a panel from those of its seeds."""
    outcomes = {name: sum(n.outcome == name for n in numbers) for name in OUTCOMES}
    common = max(OUTCOMES, key=lambda name: outcomes[name])
    those = [i for i, n in enumerate(numbers) if n.outcome == common]
    those.sort(key=lambda i: (numbers[i].outside, numbers[i].distance))
    rewards = [n.reward for n in numbers if n.reward is not None]
    inside = [n for n in numbers if n.outcome == "inside"]
    return Population(
        reward=float(np.median(rewards)) if rewards else None,
        outside=float(np.mean([n.outside for n in numbers])),
        inside_seeds=len(inside),
        best_seeds=sum(n.at_best >= 0.5 for n in inside),
        distance=float(np.median([n.distance for n in numbers])),
        outcomes=outcomes,
        shown=those[(len(those) - 1) // 2],
    )


def number_text(value: float | None, digits: int = 2) -> str:
    """Returns a number in few letters, of samples far away too.

    >>> number_text(1.032), number_text(99_999.992), number_text(None)
    ('1.03', '1e+05', 'none')
    """
    if value is None:
        return "none"
    return f"{value:.{digits}f}" if abs(value) < 100 else f"{value:.0e}"
