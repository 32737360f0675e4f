"""D4RL's kitchen: FrankaKitchen's simulator, with D4RL's observations.

Observation, 60 entries (d4rl/kitchen: kitchen_multitask_v0.py, kitchen_envs.py):
    0 to 8   joint positions of the robot; FrankaKitchen's entries 0 to 8
    9 to 29  positions of the objects; FrankaKitchen's entries 18 to 38
   30 to 59  goal, in the order of the first 30: the goal positions of the subtasks' elements,
             0 elsewhere
Velocities (FrankaKitchen's entries 9 to 17 and 39 to 58) are not observed.

Noise: D4RL adds 0.1 times each joint's amplitude, uniformly, to the observation, ten times
FrankaKitchen's noise for the robot and two hundred times for the objects. Both read the
amplitudes from franka_config.xml, but FrankaKitchen reads the objects' one joint too early.

Elements, their goals, the threshold of 0.3, the start, the reward (each subtask once) and the
end (all subtasks done) are the same in both. Two differences remain: the MuJoCo version, and
success, which is read from the state here and from the noisy observation in D4RL.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium_robotics.envs.franka_kitchen.kitchen_env import (
    OBS_ELEMENT_GOALS,
    OBS_ELEMENT_INDICES,
    KitchenEnv,
)

NOISE_RATIO = 0.1
_ROBOT, _ALL = 9, 30
_KETTLE = -6


class KitchenD4RL(gymnasium.Env):
    """Four subtasks in a kitchen, observed as in D4RL: float64 [60]."""

    metadata = KitchenEnv.metadata

    def __init__(self, tasks_to_complete: list[str], render_mode: str | None = None):
        """Takes subtasks by FrankaKitchen's names ("microwave", ...)."""
        # the robot's controller uses the observed positions, D4RL's noise included
        self._kitchen = KitchenEnv(
            list(tasks_to_complete), robot_noise_ratio=NOISE_RATIO, render_mode=render_mode
        )
        self._goal = np.zeros(_ALL)
        for task in tasks_to_complete:
            self._goal[OBS_ELEMENT_INDICES[task]] = OBS_ELEMENT_GOALS[task]
        self.render_mode = render_mode
        self.action_space = spaces.Box(-1.0, 1.0, (_ROBOT,), np.float32)
        self.observation_space = spaces.Box(-np.inf, np.inf, (2 * _ALL,), np.float64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Resets as FrankaKitchen does."""
        super().reset(seed=seed)
        given, info = self._kitchen.reset(seed=seed)
        return self._observation(given), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Steps as FrankaKitchen does."""
        given, reward, terminated, truncated, info = self._kitchen.step(action)
        return self._observation(given), reward, terminated, truncated, info

    def render(self) -> Any:
        """Renders as FrankaKitchen does."""
        return self._kitchen.render()

    def close(self) -> None:
        """Closes the simulator."""
        self._kitchen.close()

    def _observation(self, given: dict[str, Any]) -> np.ndarray:
        robot = self._kitchen.robot_env
        # The file has an amplitude for each position; Gymnasium-Robotics reads one for each
        # velocity, one fewer for the kettle. The missing value equals the kettle's first one.
        amplitudes = robot.robot_pos_noise_amp[_ROBOT:]
        amplitudes = np.append(amplitudes, amplitudes[_KETTLE])
        noise = NOISE_RATIO * amplitudes * self.np_random.uniform(-1.0, 1.0, len(amplitudes))
        objects = self._kitchen.data.qpos[_ROBOT:] + noise
        return np.concatenate([given["observation"][:_ROBOT], objects, self._goal])
