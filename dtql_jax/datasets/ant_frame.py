"""An ant seen from the direction that it is to walk in.

Turning the world about the vertical changes nothing for an ant on a floor, nor does a quarter
turn of the ant: its four legs are alike. So the world is turned until the direction is +x,
and the legs are numbered anew from the one on the left of the heading that is nearest to it.
A policy that sees an ant so has to learn one direction instead of all.

Arrays are in the order of MuJoCo's ant: height, quaternion, four times hip and ankle, then
velocity, angular velocity (in the torso's frame) and the joints'. Actions begin with the
fourth leg. Legs follow each other counterclockwise, the first at 45 degrees.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# the ankles' axes do not turn with the legs; with these signs they do
_SIGNS = np.array([[1.0, 1.0], [1.0, -1.0], [1.0, -1.0], [1.0, 1.0]])
_LEGS = np.arange(4)


class AntView(NamedTuple):
    """Ants as seen from their directions.

    Attributes:
      inputs: [N, 27], the ants.
      quarters: [N], how many legs further the first leg is.
    """

    inputs: np.ndarray
    quarters: np.ndarray


def view(ants: np.ndarray, directions: np.ndarray) -> AntView:
    """Turns ants so that their directions are +x.

    Args:
      ants: [N, 27], all but their positions.
      directions: [N, 2], of any length.
    """
    angles = np.arctan2(directions[:, 1], directions[:, 0])
    w, x, y, z = ants[:, 1:5].T
    headings = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    quarters = np.round((angles - headings) / (np.pi / 2)).astype(int) % 4
    result = np.empty(ants.shape)
    result[:, 0] = ants[:, 0]
    # the world is turned by -angle, the ant's own frame by quarters
    half = -angles / 2
    sin, cos = np.sin(half), np.cos(half)
    w, x, y, z = cos * w - sin * z, cos * x - sin * y, cos * y + sin * x, cos * z + sin * w
    half = quarters * np.pi / 4
    sin, cos = np.sin(half), np.cos(half)
    w, x, y, z = w * cos - z * sin, x * cos + y * sin, y * cos - x * sin, z * cos + w * sin
    result[:, 1:5] = (np.where(w < 0, -1.0, 1.0) * np.stack([w, x, y, z])).T
    result[:, 13:15] = _turned(ants[:, 13:15], -angles)
    result[:, 15] = ants[:, 15]
    result[:, 16:18] = _turned(ants[:, 16:18], -quarters * np.pi / 2)
    result[:, 18] = ants[:, 18]
    legs = (_LEGS + quarters[:, None]) % 4
    for start in (5, 19):
        joints = ants[:, start : start + 8].reshape(-1, 4, 2) * _SIGNS
        result[:, start : start + 8] = np.take_along_axis(joints, legs[:, :, None], 1).reshape(
            -1, 8
        )
    return AntView(result, quarters)


def actions_from_view(actions: np.ndarray, quarters: np.ndarray) -> np.ndarray:
    """Returns the ants' own actions, [N, 8], for actions on what `view` gave.

    Args:
      actions: [N, 8], four times hip and ankle, in the order and with the signs of the view.
      quarters: [N], of the view.
    """
    # leg i of the ant is leg i - quarters of the view; its motors begin with the fourth leg
    own = np.array([3, 0, 1, 2])
    legs = (own - quarters[:, None]) % 4
    chosen = np.take_along_axis(actions.reshape(-1, 4, 2), legs[:, :, None], 1)
    return (chosen * _SIGNS[own]).reshape(-1, 8)


def _turned(vectors: np.ndarray, angles: np.ndarray) -> np.ndarray:
    sin, cos = np.sin(angles), np.cos(angles)
    x, y = vectors.T
    return np.stack([cos * x - sin * y, sin * x + cos * y], 1)
