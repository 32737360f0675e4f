"""D4RL's Adroit pen: Gymnasium-Robotics' hand, with D4RL's end of an episode.

The simulator, observation (45 entries), action (24) and dense reward are those of
AdroitHandPen-v1, which come from the same sources. D4RL's episode ends when the pen has
dropped (d4rl/hand_manipulation_suite/pen_v0.py), and after 100 steps instead of 200.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium_robotics.envs.adroit_hand.adroit_pen import AdroitHandPenEnv

DROPPED_BELOW = 0.075  # height of the pen, in metres


class AdroitPenD4RL(AdroitHandPenEnv):
    """A hand that turns a pen towards a target orientation."""

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Steps as Gymnasium-Robotics does, but terminates when the pen has dropped."""
        observation, reward, _, truncated, info = super().step(action)
        dropped = bool(self.data.xpos[self.obj_body_id][2] < DROPPED_BELOW)
        return observation, reward, dropped, truncated, info
