"""MuJoCo versions between which an environment's physics differ.

The same actions lead to other states after such a release, so a policy trained on data of one
version is not evaluated fairly on the other. For the other environments no difference is known
from 3.1.5 to the versions tried.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# {part of an environment's id: first MuJoCo version with other physics}
CHANGES = {"AntMaze": (3, 5), "AdroitHandPen": (3, 3), "AdroitPen": (3, 3)}


def physics_differ(env_id: str, recorded: str, installed: str) -> str:
    """Returns one line if an environment's physics differ between two MuJoCo versions, else "".

    `recorded` is "" where the version of the recording is unknown.

    >>> physics_differ("AntMaze_UMaze-v4", "3.2.7", "3.6.0")
    'AntMaze_UMaze-v4: recorded with MuJoCo 3.2.7, evaluated with 3.6.0, which has other physics'
    >>> physics_differ("AntMaze_UMaze-v4", "3.1.5", "3.2.7")
    ''
    """
    if not (recorded and installed):
        return ""
    for part, change in CHANGES.items():
        if part in env_id and (_numbers(recorded) < change) != (_numbers(installed) < change):
            return (
                f"{env_id}: recorded with MuJoCo {recorded}, evaluated with {installed}, which has "
                "other physics"
            )
    return ""


def mujoco_version(requirements: Iterable[str]) -> str:
    """Returns the MuJoCo version of pip-style requirements; "" where none is pinned.

    >>> mujoco_version(["gymnasium==1.4.0", "mujoco==3.2.7"])
    '3.2.7'
    >>> mujoco_version(["mujoco>=3.1.5"])
    ''
    """
    pins = (re.fullmatch(r"mujoco\s*==\s*(\d[\w.]*)", line.strip()) for line in requirements)
    return next((pin[1] for pin in pins if pin), "")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
