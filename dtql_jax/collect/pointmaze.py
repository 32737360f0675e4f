"""The behaviour of PointMaze datasets: a planner with noisy actions.

A proportional-derivative controller drives the ball towards the centre of the next cell on the
shortest path and, at the same time, towards the middle of its corridor; in the goal's cell it
drives it to the goal. Gaussian noise on the actions gives the data its spread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dtql_jax.collect.mazes import Paths
from dtql_jax.collect.recording import Behaviour

if TYPE_CHECKING:
    import gymnasium

POSITION_GAIN = 10.0
VELOCITY_GAIN = -1.0
ACTION_NOISE = 0.5


class Planner(Paths):
    """Drives the ball of a PointMaze to its goal.

    Positions are in metres, cells have an edge of one metre, and the centre of the map is (0, 0).
    """

    def force(self, observation: np.ndarray, goal: np.ndarray) -> tuple[float, float]:
        """Returns the force (x, y) towards the goal, before noise and clipping.

        Args:
          observation: [4], position and velocity of the ball.
          goal: [2], position.
        """
        # plain numbers, because numpy calls would take longer than the simulator's step
        x, y, velocity_x, velocity_y = observation.tolist()
        goal_x, goal_y = goal.tolist()
        cell = self.cell(x, y)
        following = self.towards(self.cell(goal_x, goal_y))[cell]
        # across the corridor, the centre of the next cell is the middle of the corridor
        target_x, target_y = (goal_x, goal_y) if following == cell else self.centre(following)
        return (
            POSITION_GAIN * (target_x - x) + VELOCITY_GAIN * velocity_x,
            POSITION_GAIN * (target_y - y) + VELOCITY_GAIN * velocity_y,
        )

    def action(
        self, observation: np.ndarray, goal: np.ndarray, noise: np.random.Generator
    ) -> np.ndarray:
        """Returns the force, clipped to [-1, 1], noise added, clipped again: float32 [2]."""
        noisy = [
            _clip(_clip(force) + ACTION_NOISE * noise.standard_normal())
            for force in self.force(observation, goal)
        ]
        return np.array(noisy, np.float32)


class PointMazeBehaviour(Behaviour):
    """Acts with the planner."""

    description = f"breadth-first waypoints, PD controller, action noise {ACTION_NOISE}"
    part_episodes = 50

    def __init__(self, env: gymnasium.Env):
        unwrapped: Any = env.unwrapped
        self._planner = Planner(unwrapped.maze.maze_map)

    def action(self, observation: dict[str, np.ndarray], draws: np.random.Generator) -> np.ndarray:
        """Returns a noisy force, float32 [2]."""
        return self._planner.action(observation["observation"], observation["desired_goal"], draws)


def _clip(value: float) -> float:
    return min(max(value, -1.0), 1.0)
