"""Gymnasium's Hopper-v4, Walker2d-v4 and HalfCheetah-v4, many at once (see `batch`)."""

from __future__ import annotations

import gymnasium
import numpy as np

from experiments.train_behaviour.batch import MujocoBatch


class Runners(MujocoBatch):
    """Many robots that run forward; rewards, ends and starts are read from the environment."""

    def __init__(self, env: gymnasium.Env, copies: int, seed: int):
        """Takes a robot out of its environment, which has a time limit."""
        robot = env.unwrapped
        super().__init__(
            robot, env.observation_space.shape[0], copies, seed, env.spec.max_episode_steps
        )
        self._robot = robot
        # the half cheetah cannot fall and has no such ranges
        self._falls = hasattr(robot, "_healthy_z_range")
        self._before = np.zeros(copies)

    def begin(self, i: int) -> None:
        """Disturbs the robot as its environment does."""
        data, draws, scale = self.data[i], self.draws, self._robot._reset_noise_scale
        data.qpos[:] += draws.uniform(-scale, scale, self.model.nq)
        if self._falls:
            data.qvel[:] = draws.uniform(-scale, scale, self.model.nv)
        else:
            data.qvel[:] = scale * draws.standard_normal(self.model.nv)

    def observations(self) -> np.ndarray:
        """Returns all but the distance run; velocities of robots that fall are clipped."""
        velocities = np.clip(self.qvel, -10, 10) if self._falls else self.qvel
        return np.concatenate([self.qpos[:, 1:], velocities], 1).astype(np.float32)

    def before_step(self) -> None:
        """Keeps where the robots are."""
        self._before = self.qpos[:, 0].copy()

    def outcome(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the speed, less the control's cost, plus 1 for robots that may fall."""
        robot = self._robot
        speeds = (self.qpos[:, 0] - self._before) / self.dt
        rewards = robot._forward_reward_weight * speeds
        rewards -= robot._ctrl_cost_weight * np.sum(self.actions**2, 1)
        ends = np.zeros(self.num_envs, bool)
        if self._falls:
            (low, high), (least, most) = robot._healthy_z_range, robot._healthy_angle_range
            height, angle = self.qpos[:, 1], self.qpos[:, 2]
            healthy = (low < height) & (height < high) & (least < angle) & (angle < most)
            if hasattr(robot, "_healthy_state_range"):
                low, high = robot._healthy_state_range
                state = np.concatenate([self.qpos, self.qvel], 1)[:, 2:]
                healthy &= ((low < state) & (state < high)).all(1)
            ends = ~healthy
            rewards += robot._healthy_reward
        return rewards, ends
