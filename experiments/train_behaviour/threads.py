"""Gymnasium environments stepped in two threads: MuJoCo lets others use Python meanwhile."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv

_THREADS = 2


class ThreadedVecEnv(DummyVecEnv):
    """Stable-Baselines3's DummyVecEnv, without what environments put into `info`."""

    def __init__(self, makers: Sequence[Callable[[], gymnasium.Env]], seed: int):
        """Makes the environments."""
        super().__init__(list(makers))
        self.seed(seed)
        self._pool = concurrent.futures.ThreadPoolExecutor(_THREADS)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Moves all environments on; those whose episode ends begin another."""
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
