"""The bandits: actions in the plane, one state, and a reward that grows away from or to a mode."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dtql_jax.errors import UserError, near_matches
from dtql_jax.types import Transition

GAUSSIAN_STD, ROLL_NOISE = 0.3, 0.1
EXTENT = 10.0  # the modes lie on [-EXTENT, EXTENT]^2

Reward = Callable[[np.ndarray], np.ndarray]


class Bandit(NamedTuple):
    """One problem.

    Attributes:
      actions: [N, 2], the data.
      reward: actions [..., 2] -> [...].
      best: reward of the best mode: of the best centre, or of the noise-free curve's best end.
      std: standard deviation of the data around its modes or its curve.
      bound: the largest |a| of the data, a norm.
      box: the largest |component| of the data; the Gaussian policy is scaled by it.
    """

    actions: np.ndarray
    reward: Reward
    best: float
    std: float
    bound: float
    box: float

    def transitions(self) -> Transition:
        """One state (0) without an end, as the paper has it."""
        state = np.zeros((len(self.actions), 1), np.float32)
        rewards = self.reward(self.actions).astype(np.float32)
        ones = np.ones_like(rewards)
        return Transition(state, self.actions.astype(np.float32), state, rewards, ones)


def gaussians(points: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """5 x 5 Gaussians on [-10, 10]^2: (actions [N, 2], centres [25, 2], deviation)."""
    line = np.linspace(-EXTENT, EXTENT, 5)
    centres = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    chosen = centres[rng.integers(len(centres), size=points)]
    return chosen + GAUSSIAN_STD * rng.standard_normal((points, 2)), centres, GAUSSIAN_STD


def swiss_roll(points: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """The curve t (cos t, sin t), t in [1.5 pi, 4.5 pi] uniformly: (actions, curve, deviation)."""

    def curve(t: np.ndarray) -> np.ndarray:
        return t[:, None] * np.stack([np.cos(t), np.sin(t)], axis=-1)

    t = 1.5 * np.pi * (1.0 + 2.0 * rng.random(points))
    actions = curve(t) + ROLL_NOISE * rng.standard_normal((points, 2))
    return actions, curve(1.5 * np.pi * np.linspace(1.0, 3.0, 1_000)), ROLL_NOISE


DATA = {"gaussians": gaussians, "swiss_roll": swiss_roll}


def _largest(actions: np.ndarray) -> float:
    return float(np.max(np.linalg.norm(actions, axis=-1)))


def spatial_order(points: np.ndarray) -> np.ndarray:
    """Returns an order of points [N, 2] in which neighbours are close in the plane.

    Halves the points again and again along the side of their box that is longer.
    """

    def order(rows: np.ndarray) -> list[np.ndarray]:
        if len(rows) <= 2:
            return [rows]
        axis = int(np.argmax(np.ptp(points[rows], axis=0)))
        rows = rows[np.argsort(points[rows, axis])]
        middle = len(rows) // 2
        return order(rows[:middle]) + order(rows[middle:])

    return np.concatenate(order(np.arange(len(points))))


def rewards(actions: np.ndarray) -> dict[str, Reward]:
    """The rewards by name; the data's own largest |a| is the height of "near".

    far = |a|; near = max|a| - |a|; hard = far, doubled where x < -7.5 and y > 7.5; two_corners =
    max|a| - distance to the nearer of (10, 10) and (-10, -10): two best modes of equal reward.
    """
    height = _largest(actions)
    corner = np.full(2, EXTENT)

    def far(a: np.ndarray) -> np.ndarray:
        return np.linalg.norm(a, axis=-1)

    def hard(a: np.ndarray) -> np.ndarray:
        return far(a) * np.where((a[..., 0] < -7.5) & (a[..., 1] > 7.5), 2.0, 1.0)

    def near(a: np.ndarray) -> np.ndarray:
        return height - far(a)

    def two_corners(a: np.ndarray) -> np.ndarray:
        return height - np.minimum(far(a - corner), far(a + corner))

    return {"far": far, "hard": hard, "near": near, "two_corners": two_corners}


def make(data: str, reward: str, points: int, seed: int = 0) -> Bandit:
    """A bandit by the names of its data and its reward.

    Args:
      data: "gaussians" or "swiss_roll".
      reward: "far", "near", "hard" or "two_corners".
      points: N.
      seed: of the data.

    Raises:
      UserError: there is no such data or reward, or fewer than 2 points are asked for.
    """
    if data not in DATA:
        raise UserError(f"no bandit data {data!r}; {near_matches(data, DATA)}")
    if points < 2:
        raise UserError(f"points is {points}; expected at least 2")
    actions, modes, std = DATA[data](points, np.random.default_rng(seed))
    known = rewards(actions)
    if reward not in known:
        raise UserError(f"no bandit reward {reward!r}; {near_matches(reward, known)}")
    best = float(np.max(known[reward](modes)))
    box = float(np.max(np.abs(actions)))
    return Bandit(actions, known[reward], best, std, _largest(actions), box)
