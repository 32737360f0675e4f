"""The bandit whose reward has two best modes, and how samples of a policy spread over them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from dtql_jax.errors import UserError
from dtql_jax.training.progress import Progress
from experiments import study
from experiments.bandits import problems, scoring
from experiments.bandits.problems import Bandit
from experiments.two_modes import training

FEW = 0.05  # share of the samples at the corners below which they have no favourite
CORNERS = problems.EXTENT * np.array([[1.0, 1.0], [-1.0, -1.0]])  # of equal reward, and the best
# how each algorithm acts by its paper, where critics choose among candidates
ACTING = {"dtql": "softmax", "dql": "softmax", "idql": "argmax"}


class Numbers(NamedTuple):
    """Distribution of the samples of P members.

    Attributes:
      reward: mean over the best modes' reward.
      at: [P, 2] share at each of CORNERS: within three deviations of its centre.
      outside: share outside the support, more than three deviations from all data.
    """

    reward: float
    at: np.ndarray
    outside: float

    @property
    def larger(self) -> np.ndarray:
        """Share of a member's corner samples at its favourite corner, [P]; NaN: too few samples."""
        total = self.at.sum(axis=1)
        with np.errstate(invalid="ignore"):
            return np.where(total >= FEW, self.at.max(axis=1) / total, np.nan)


def check(config: Mapping[str, Any]) -> None:
    """Raises UserError if a setting of the bandit is out of range."""
    study.check_least(config, "bandit.", points=2, samples=1, batch_size=1)
    for name, entry in config["algorithms"].items():
        if entry["algorithm"] not in ACTING:
            raise UserError(
                f"bandit.algorithms.{name}.algorithm is {entry['algorithm']!r}; expected one of "
                f"{tuple(ACTING)}"
            )


def make(config: Mapping[str, Any], seed: int) -> Bandit:
    """Returns the bandit: 25 Gaussians, with the highest reward at two opposite ones."""
    return problems.make("gaussians", "two_corners", config["points"], seed)


def run(
    config: Mapping[str, Any], bandit: Bandit, name: str, seeds: list[int], display: Progress
) -> dict[str, np.ndarray]:
    """Trains one algorithm and draws samples.

    An episode ends after its action, so that Q is the reward. All algorithms see actions in the
    bandit's own unit, in which the modes lie 5 apart: five steps of a DDPM, from noise of deviation
    1, tell them apart there and would not in [-1, 1].

    Returns:
      "policy" [P, S, 2], the policy's own samples (IDQL: its behaviour model's), and "acting"
      [P, S, 2], the critics' choices among them.
    """
    entry = config["algorithms"][name]
    data = bandit.transitions()
    data = data._replace(masks=np.zeros_like(data.masks))
    bound = {"max_action": bandit.bound}
    fitted = training.fit(entry, data, seeds, config["batch_size"], display, **bound)
    selections = {"policy": "single", "acting": ACTING[entry["algorithm"]]}
    return {
        key: training.draw(fitted, entry, config["samples"], action_selection=selection, **bound)
        for key, selection in selections.items()
    }


def numbers(samples: np.ndarray, bandit: Bandit) -> Numbers:
    """Returns the numbers of samples [P, S, 2]."""
    found = [scoring.score(own, bandit) for own in samples]
    distance = np.linalg.norm(samples[:, :, None] - CORNERS, axis=-1)
    return Numbers(
        reward=float(np.mean([np.nan if one.reward is None else one.reward for one in found])),
        at=np.mean(distance <= scoring.SUPPORT * bandit.std, axis=1),
        outside=float(np.mean([one.outside for one in found])),
    )
