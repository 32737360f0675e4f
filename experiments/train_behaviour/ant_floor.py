"""An open floor on which ants learn to walk in any direction.

The ant is that of the maze it will collect in: the floor is the maze's model with walls that do
not collide. A policy sees what `dtql_jax.collect.antmaze` gives it, the ant in the frame of the
direction to a target (`dtql_jax.collect.ant_frame`). Targets move when they are reached, and at
random, so that the ant learns to turn. Random pushes stand for the maze's walls.
"""

from __future__ import annotations

import gymnasium
import mujoco
import numpy as np

from dtql_jax.collect.ant_frame import actions_from_view, view
from dtql_jax.collect.antmaze import DIRECTION_LENGTH, POLICY_INPUTS
from experiments.train_behaviour.environments import MujocoBatch

_EPISODE_STEPS = 500
_RADIUS = 0.5  # a target is reached
_NEAREST, _FARTHEST = 2.0, 8.0  # targets
_NEW_TARGET = 1 / 150  # a step
_PUSH = 1 / 200  # a step
_PUSH_STD = 0.7  # of each of the torso's six velocities
_LEAST_UPRIGHT = 0.2  # cosine of the torso's tilt that ends an episode
_ALIVE = 0.2
_CONTROL_COST = 0.01


class AntFloor(MujocoBatch):
    """Many ants, each on a floor of its own.

    Reward: the speed towards the target in m/s up to a limit, 0.2 for being upright, less 0.01
    times the squared action. An episode ends with a fall.
    """

    def __init__(self, env: gymnasium.Env, ants: int, speed: float, seed: int):
        """Takes the ant from a maze.

        Args:
          env: an AntMaze, D4RL's or Gymnasium-Robotics'.
          ants: number of copies.
          speed: largest rewarded speed in m/s.
          seed: of all random numbers.
        """
        inner = getattr(env.unwrapped, "ant_env", env.unwrapped)
        super().__init__(inner, POLICY_INPUTS, ants, seed, _EPISODE_STEPS)
        geoms = self.model.geom_bodyid == 0
        walls = geoms & (self.model.geom_type == mujoco.mjtGeom.mjGEOM_BOX)
        self.model.geom_contype[walls] = 0
        self.model.geom_conaffinity[walls] = 0
        self._speed = speed
        self._targets = np.zeros((ants, 2))
        self._before = np.zeros(ants)
        self._quarters = np.zeros(ants, int)

    def begin(self, i: int) -> None:
        """Disturbs the ant as D4RL does, and turns half of them: a maze's ant may come to it."""
        data, draws = self.data[i], self.draws
        data.qpos[2:] += draws.uniform(-0.1, 0.1, self.model.nq - 2)
        data.qvel[:] = 0.1 * draws.standard_normal(self.model.nv)
        if draws.random() < 0.5:
            half = draws.uniform(-np.pi, np.pi) / 2
            turn = np.array([np.cos(half), 0.0, 0.0, np.sin(half)])
            mujoco.mju_mulQuat(data.qpos[3:7], turn, data.qpos[3:7].copy())
        self._move_target(i)

    def observations(self) -> np.ndarray:
        """Returns the ants as seen from their directions, and the direction there."""
        ants = np.concatenate([self.qpos[:, 2:15], self.qvel[:, :14]], 1)
        seen, self._quarters = view(ants, self._targets - self.qpos[:, :2])
        directions = np.tile([DIRECTION_LENGTH, 0.0], (self.num_envs, 1))
        return np.concatenate([seen, directions], 1).astype(np.float32)

    def step_async(self, actions: np.ndarray) -> None:
        """Keeps the ants' own actions."""
        super().step_async(actions_from_view(actions, self._quarters))

    def before_step(self) -> None:
        """Pushes some ants."""
        self._before = self._distances()
        for i in np.flatnonzero(self.draws.random(self.num_envs) < _PUSH):
            self.data[i].qvel[:6] += self.draws.normal(0.0, _PUSH_STD, 6)

    def outcome(self) -> tuple[np.ndarray, np.ndarray]:
        """See the class."""
        speeds = np.minimum((self._before - self._distances()) / self.dt, self._speed)
        rewards = speeds + _ALIVE - _CONTROL_COST * np.sum(self.actions**2, 1)
        _, x, y, _ = self.qpos[:, 3:7].T
        return rewards, 1.0 - 2.0 * (x**2 + y**2) < _LEAST_UPRIGHT

    def after_step(self, dones: np.ndarray) -> None:
        """Moves targets."""
        moved = self._distances() < _RADIUS
        moved |= self.draws.random(self.num_envs) < _NEW_TARGET
        for i in np.flatnonzero(moved & ~dones):
            self._move_target(i)

    def _move_target(self, i: int) -> None:
        angle = self.draws.uniform(-np.pi, np.pi)
        distance = self.draws.uniform(_NEAREST, _FARTHEST)
        place = distance * np.array([np.cos(angle), np.sin(angle)])
        self._targets[i] = self.data[i].qpos[:2] + place

    def _distances(self) -> np.ndarray:
        return np.linalg.norm(self._targets - self.qpos[:, :2], axis=1)
