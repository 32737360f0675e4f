"""The bandit whose reward has two best modes, and how samples of a policy spread over them."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.algorithms import make_algorithm
from dtql_jax.training import population
from dtql_jax.training.progress import Progress
from experiments import study
from experiments.bandits import problems, scoring
from experiments.bandits.problems import Bandit
from experiments.two_modes import training
from experiments.two_modes.settings import NAMES

FEW = 0.05  # a member with a smaller share of its samples at the corners has no favourite
CORNERS = problems.EXTENT * np.array([[1.0, 1.0], [-1.0, -1.0]])  # of equal reward, and the best
# how each algorithm acts by its paper, where critics choose among candidates
ACTING = {"dtql": "softmax", "dql": "softmax", "idql": "argmax"}

COLUMNS: dict[str, study.Column] = {
    "bandit": "algorithm",
    "samples": "samples",
    "updates": "updates:,",
    "reward / best mode's": "reward:.3f",
    "at upper right %": "upper_right:.1%",
    "at lower left %": "lower_left:.1%",
    "elsewhere in the data %": "elsewhere:.1%",
    "outside the data %": "outside:.1%",
    "at a seed's favourite of the two %": "favourite:.1%",
    "upper right by seed %": study.by_seed("upper_right_by_seed"),
    "lower left by seed %": study.by_seed("lower_left_by_seed"),
}


def check(config: Mapping[str, Any]) -> None:
    """Raises UserError if a setting of the bandit is out of range."""
    study.check_least(config, "bandit.", points=2, samples=1, batch_size=1)


def make(config: Mapping[str, Any], seed: int, display: Progress | None = None) -> Bandit:
    """Returns the bandit: 25 Gaussians, with the highest reward at two opposite ones."""
    return problems.make("gaussians", "two_corners", config["points"], seed)


def train(
    config: Mapping[str, Any], bandit: Bandit, name: str, seeds: list[int], display: Progress
) -> study.Arrays:
    """Trains one algorithm and draws S samples of each of its P members.

    An episode ends after its action, so that Q is the reward. All algorithms see actions in the
    bandit's own unit, in which the modes are 5 apart. Five steps of a DDPM, from noise of deviation
    1, tell them apart there and would not in [-1, 1].

    Returns:
      "policy" [P, S, 2], the policy's own samples (IDQL: its behaviour model's), and "acting"
      [P, S, 2], the critics' choices among them.
    """
    data = bandit.transitions()
    data = data._replace(masks=np.zeros_like(data.masks))
    trainer = training.fit(name, config, data, seeds, display, max_action=bandit.bound)
    keys = population.member_keys(seeds).evaluation

    def draw(selection: str) -> np.ndarray:
        own = {"max_action": bandit.bound, "action_selection": selection}
        algorithm = make_algorithm(name, config["algorithms"][name]["settings"] | own)
        states = jnp.zeros((config["samples"], 1))
        act = jax.jit(lambda state, key: algorithm.act(state, states, key))
        # one member after the other: the memory of many candidates counts once
        drawn = [act(population.member(trainer.state, i), key) for i, key in enumerate(keys)]
        return np.stack([np.asarray(actions) for actions in drawn])

    return {"policy": draw("single"), "acting": draw(ACTING[name])}


def rows(
    config: Mapping[str, Any], bandit: Bandit, found: Mapping[str, study.Arrays]
) -> list[dict[str, Any]]:
    """Returns two rows for each algorithm: the policy's own samples, and those that act."""
    return [
        {"algorithm": NAMES[name], "samples": kind, "updates": training.updates(config, name)}
        | numbers(found[name][kind], bandit)
        for name in found
        for kind in ("policy", "acting")
    ]


def numbers(samples: np.ndarray, bandit: Bandit) -> dict[str, Any]:
    """Returns reward and places of samples [P, S, 2] of P members; all but the reward are shares.

    A sample is at a corner if it is within three deviations of the mode's centre, and outside if
    it is more than three deviations from all data. "favourite" is the share of a member's corner
    samples that are at its favourite corner.
    """
    scores = [scoring.score(own, bandit) for own in samples]
    rewards = [np.nan if one.reward is None else one.reward for one in scores]
    outside = float(np.mean([one.outside for one in scores]))
    distance = np.linalg.norm(samples[:, :, None] - CORNERS, axis=-1)
    at = np.mean(distance <= scoring.SUPPORT * bandit.std, axis=1)  # [P, 2]
    right, left = at.mean(axis=0)
    enough = at[at.sum(axis=1) >= FEW]
    favourite = enough.max(axis=1) / enough.sum(axis=1)
    return {
        "reward": float(np.mean(rewards)),
        "upper_right": float(right),
        "lower_left": float(left),
        "elsewhere": float(1.0 - right - left - outside),
        "outside": outside,
        "favourite": float(favourite.mean()) if len(favourite) else None,
        "upper_right_by_seed": at[:, 0].tolist(),
        "lower_left_by_seed": at[:, 1].tolist(),
    }
