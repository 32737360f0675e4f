"""Many copies of one MuJoCo model stepped together, as Stable-Baselines3 wants environments.

Gymnasium's environments one by one spend as much time in Python as in MuJoCo. Here two
threads step the model (MuJoCo lets others use Python meanwhile), and what a step means is
computed for all copies at once by a subclass.

Models that ask for the Runge-Kutta integrator evaluate the physics four times a time step.
Training begins with Euler's, nearly the same and four times as fast, and `exact` goes over to
the model's own.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Sequence
from typing import Any

import gymnasium
import mujoco
import numpy as np
from stable_baselines3.common.vec_env import VecEnv

_THREADS = 2


class MujocoBatch(VecEnv):
    """Base class: subclasses say what is seen, rewarded and an end.

    Attributes:
      model: the environment's own; changing it changes the environment.
      start: [nq], the position that episodes begin with.
      draws: everything random.
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
        """Sets data[i].qpos and .qvel for an episode; they are the model's own before."""
        raise NotImplementedError

    def observations(self) -> np.ndarray:
        """Returns float32 [copies, inputs]."""
        raise NotImplementedError

    def before_step(self) -> None:
        """Is told of a step to come."""

    def outcome(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns (rewards, ends), each [copies], of the step from the last call's state."""
        raise NotImplementedError

    def after_step(self, dones: np.ndarray) -> None:
        """Is told which copies have just begun another episode."""

    def exact(self) -> None:
        """Goes over to the model's own integrator."""
        self.model.opt.integrator = self._own_integrator

    def reset(self) -> np.ndarray:
        """Begins all episodes, each as if some of its steps were over: they end apart."""
        for i in range(self.num_envs):
            self._reset(i)
        self._steps = self.draws.integers(self._episode_steps, size=self.num_envs)
        return self.observations()

    def step_async(self, actions: np.ndarray) -> None:
        """Keeps the actions for `step_wait`."""
        self.actions = np.clip(np.asarray(actions, np.float64), -1.0, 1.0)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Moves all copies on; those whose episode ends begin another."""
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
