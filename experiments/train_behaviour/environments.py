"""Vectorised MuJoCo environments for Stable-Baselines3.

Gymnasium's environments spend as much time in Python as in MuJoCo. Here two threads step all
copies of a model (MuJoCo releases Python's lock), and subclasses compute observations and rewards
of all copies at once.

The Runge-Kutta integrator of some models evaluates the physics four times in a step. Training
starts with Euler's integrator, which is nearly the same and four times as fast; `exact` switches
to the model's own.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import mujoco
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

_THREADS = 2


class MujocoBatch(VecEnv):
    """Base class: subclasses define observations, rewards and ends of episodes.

    Attributes:
      model: the environment's own; changing it changes the environment.
      start: [nq], the position at an episode's start.
      draws: source of all random numbers.
      dt: seconds of a step.
      qpos, qvel: [copies, nq] and [copies, nv] after the last step.
      actions: [copies, A] of the last step.
    """

    def __init__(self, env: gymnasium.Env, inputs: int, copies: int, seed: int, episode_steps: int):
        """Takes the model out of an environment with `init_qpos` and `frame_skip`."""
        self.render_mode = None
        self.model, self.start = env.model, env.init_qpos.copy()
        space = gymnasium.spaces.Box(-1.0, 1.0, (self.model.nu,), np.float32)
        super().__init__(
            copies, gymnasium.spaces.Box(-np.inf, np.inf, (inputs,), np.float32), space
        )
        self._own_integrator = self.model.opt.integrator
        self.model.opt.integrator = mujoco.mjtIntegrator.mjINT_EULER
        self._frames = env.frame_skip
        self.dt = self.model.opt.timestep * self._frames
        self._control = self.model.actuator_ctrlrange[:, 1]
        self.draws = np.random.default_rng(seed)
        self.data = [mujoco.MjData(self.model) for _ in range(copies)]
        self.qpos = np.zeros((copies, self.model.nq))
        self.qvel = np.zeros((copies, self.model.nv))
        self.actions = np.zeros((copies, self.model.nu))
        self._episode_steps = episode_steps
        self._steps = np.zeros(copies, np.int64)
        self._pool = concurrent.futures.ThreadPoolExecutor(_THREADS)

    def begin(self, i: int) -> None:
        """Sets data[i].qpos and .qvel for an episode; before, they are the model's own."""
        raise NotImplementedError

    def observations(self) -> np.ndarray:
        """Returns float32 [copies, inputs]."""
        raise NotImplementedError

    def before_step(self) -> None:
        """Called before each step."""

    def outcome(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns (rewards, ends), each [copies], of the step from the last call's state."""
        raise NotImplementedError

    def after_step(self, dones: np.ndarray) -> None:
        """Called after each step with the copies that started a new episode."""

    def exact(self) -> None:
        """Switches to the model's own integrator."""
        self.model.opt.integrator = self._own_integrator

    def reset(self) -> np.ndarray:
        """Starts all episodes at different ages, so that they do not end together."""
        for i in range(self.num_envs):
            self._reset(i)
        self._steps = self.draws.integers(self._episode_steps, size=self.num_envs)
        return self.observations()

    def step_async(self, actions: np.ndarray) -> None:
        """Keeps the actions for `step_wait`."""
        self.actions = np.clip(np.asarray(actions, np.float64), -1.0, 1.0)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Steps all copies; restarts those whose episode ended."""
        self.before_step()
        list(self._pool.map(self._advance, np.array_split(np.arange(self.num_envs), _THREADS)))
        self._steps += 1
        rewards, ends = self.outcome()
        dones = ends | (self._steps >= self._episode_steps)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if dones.any():
            last = self.observations()
            for i in np.flatnonzero(dones):
                infos[i] = {
                    "TimeLimit.truncated": not ends[i],
                    "terminal_observation": last[i],
                }
                self._reset(i)
        self.after_step(dones)
        return self.observations(), rewards.astype(np.float32), dones, infos

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Returns an attribute once for each copy."""
        return [getattr(self, attr_name)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Not needed by PPO."""
        raise NotImplementedError

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list:
        """Not needed by PPO."""
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """Returns False for each copy."""
        return [False] * self.num_envs

    def _advance(self, chunk: Sequence[int]) -> None:
        for i in chunk:
            data = self.data[i]
            data.ctrl[:] = self._control * self.actions[i]
            mujoco.mj_step(self.model, data, nstep=self._frames)
            self.qpos[i], self.qvel[i] = data.qpos, data.qvel

    def _reset(self, i: int) -> None:
        data = self.data[i]
        mujoco.mj_resetData(self.model, data)
        data.qpos[:] = self.start
        self.begin(i)
        mujoco.mj_forward(self.model, data)
        self.qpos[i], self.qvel[i] = data.qpos, data.qvel
        self._steps[i] = 0


class Runners(MujocoBatch):
    """Gymnasium's Hopper-v4, Walker2d-v4 and HalfCheetah-v4, many at once."""

    def __init__(self, env: gymnasium.Env, copies: int, seed: int):
        """Takes the robot from its environment, which has a time limit."""
        robot = env.unwrapped
        super().__init__(
            robot, env.observation_space.shape[0], copies, seed, env.spec.max_episode_steps
        )
        self._robot = robot
        # the half cheetah cannot fall and has no healthy range
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
        """Stores the robots' positions."""
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


class ThreadedVecEnv(DummyVecEnv):
    """Stable-Baselines3's DummyVecEnv, stepped by two threads, without the environments' infos."""

    def __init__(self, makers: Sequence[Callable[[], gymnasium.Env]], seed: int):
        """Makes the environments."""
        super().__init__(list(makers))
        self.seed(seed)
        self._pool = concurrent.futures.ThreadPoolExecutor(_THREADS)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Steps all environments; restarts those whose episode ended."""
        list(self._pool.map(self._advance, np.array_split(np.arange(self.num_envs), _THREADS)))
        return self._obs_from_buf(), self.buf_rews.copy(), self.buf_dones.copy(), self.buf_infos[:]

    def close(self) -> None:
        """Ends the threads and closes the environments."""
        self._pool.shutdown()
        super().close()

    def _advance(self, chunk: Sequence[int]) -> None:
        for i in chunk:
            env = self.envs[i]
            observation, reward, terminated, truncated, _ = env.step(self.actions[i])
            self.buf_rews[i], self.buf_dones[i] = reward, terminated or truncated
            self.buf_infos[i] = {}
            if self.buf_dones[i]:
                self.buf_infos[i] = {
                    "TimeLimit.truncated": truncated and not terminated,
                    "terminal_observation": observation,
                }
                observation, _ = env.reset()
            self._save_obs(i, observation)
