"""D4RL's AntMaze on today's MuJoCo: the environment of D4RL's antmaze-* datasets.

Gymnasium-Robotics' AntMaze is another environment: its ant has another time step and stronger
motors (0.01 s and gear 150 instead of 0.02 s and +-30), other coordinates and other noise on
starts and goals. This one is rebuilt from d4rl/locomotion (maze_env.py, ant.py,
goal_reaching_env.py) and its ant.xml, which differs from Gymnasium's only in the time step, the
motors and the contacts.

Coordinates are in metres; the start cell's centre is the origin, x grows with the column
and y with the row of D4RL's maps. A time step is 0.1 s.
"""

from __future__ import annotations

import copy
import functools
import pathlib
import xml.etree.ElementTree as ElementTree
from typing import Any, NamedTuple

import gymnasium
import mujoco
import numpy as np
from gymnasium.envs.mujoco import mujoco_env

from dtql_jax.envs.maps import MAPS, cells

CELL_SIZE = 4.0
_WALL_HALF_HEIGHT = 1.0
_TIME_STEP = 0.02
_FRAME_SKIP = 5
_CONTROL_RANGE = 30.0
GOAL_RADIUS = 0.5


class GridMaze(NamedTuple):
    """The maze in the form of Gymnasium-Robotics' mazes (attribute `maze`).

    Attributes:
      maze_map: rows from the largest y to the smallest: 1 a wall, 0 free, "r" the start,
        "g" the goal. D4RL's rows are in the opposite order.
      maze_size_scaling: edge of a cell.
      middle: position (x, y) of the map's middle.
    """

    maze_map: list[list[int | str]]
    maze_size_scaling: float
    middle: tuple[float, float]


def cell_centre(row: int, column: int) -> tuple[float, float]:
    """Returns the position (x, y) of a cell's centre; (1, 1), the start, is the origin."""
    return (column - 1) * CELL_SIZE, (row - 1) * CELL_SIZE


class AntMazeD4RL(mujoco_env.MujocoEnv):
    """An ant that is rewarded for reaching a goal it does not observe.

    Observation: float64 [29], qpos[:15] (position x, y, z, orientation as a quaternion,
    eight joint angles) and qvel[:14]. Action: float32 [8] in [-1, 1], mapped linearly onto
    the motors' range. Reward: 1 within 0.5 of the goal, else 0; the episode ends there.
    The caller sets the time limit (700 steps in umaze, 1000 in medium and large).

    Attributes:
      goal: [2], position.
      maze: its walls, for planners and figures.
    """

    metadata = {  # noqa: RUF012  (Gymnasium's interface)
        "render_modes": ["human", "rgb_array", "depth_array"],
        "render_fps": 10,
    }

    def __init__(
        self,
        maze: str = "umaze",
        goal_each_episode: bool = True,
        render_mode: str | None = None,
        **rendering: Any,
    ):
        """Makes the environment.

        Args:
          maze: "umaze", "medium" or "large".
          goal_each_episode: whether each reset draws the goal anew (D4RL's v2). If not, the
            first reset draws it for the life of the environment (v0), so scores depend on the
            seed of the first reset.
          render_mode: Gymnasium's.
          **rendering: width, height and the like, for Gymnasium's MujocoEnv.
        """
        self._compiled = _compiled(maze)
        self._goal_each_episode = goal_each_episode
        (self._goal_cell,) = (
            (row, line.index("g")) for row, line in enumerate(MAPS[maze]) if "g" in line
        )
        self.goal = np.full(2, np.nan)  # until the first reset
        rows, columns = len(MAPS[maze]), len(MAPS[maze][0])
        x, y = np.mean([cell_centre(0, 0), cell_centre(rows - 1, columns - 1)], axis=0).tolist()
        self.maze = GridMaze(cells(MAPS[maze][::-1]), CELL_SIZE, (x, y))
        camera = {
            "lookat": np.array([x, y, 0.0]),
            "distance": 1.3 * CELL_SIZE * max(rows, columns),
            "azimuth": 90.0,
            "elevation": -65.0,
        }
        super().__init__(
            "ant.xml",
            _FRAME_SKIP,
            gymnasium.spaces.Box(-np.inf, np.inf, (29,), np.float64),
            render_mode,
            # a camera over the whole maze instead of the one that follows the ant
            **({"camera_id": -1, "default_camera_config": camera} | rendering),
        )

    def _initialize_simulation(self) -> tuple[Any, Any]:
        # Gymnasium would compile a file for each environment; copying a model is faster
        model = copy.copy(self._compiled)
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, self.width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, self.height)
        return model, mujoco.MjData(model)

    def _set_action_space(self) -> gymnasium.spaces.Box:
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (self.model.nu,), np.float32)
        return self.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Puts the ant at the start and draws a goal.

        The start has D4RL's noise: U(-0.1, 0.1) on all of qpos, 0.1 N(0, 1) on qvel. The goal is
        the goal cell's centre + U(0, 1)^2 + U(0, 0.5)^2.

        Args:
          seed: seeds this and the following resets.
          options: positions [2] under "start" and "goal" to use instead. A given start has no
            noise. A given goal is kept where goals are not drawn in each episode.

        Returns:
          (observation [29], {"goal": [2]}).
        """
        gymnasium.Env.reset(self, seed=seed)
        options = options or {}
        mujoco.mj_resetData(self.model, self.data)
        if options.get("goal") is not None:
            self._set_goal(np.asarray(options["goal"], np.float64))
        elif self._goal_each_episode or np.isnan(self.goal).any():
            self._set_goal(
                np.asarray(cell_centre(*self._goal_cell))
                + self.np_random.uniform(0.0, 1.0, 2)
                + self.np_random.uniform(0.0, 0.5, 2)
            )
        position = self.init_qpos + self.np_random.uniform(-0.1, 0.1, self.model.nq)
        velocity = self.init_qvel + 0.1 * self.np_random.standard_normal(self.model.nv)
        if options.get("start") is not None:
            position[:2] = options["start"]
        self.set_state(position, velocity)
        if self.render_mode == "human":
            self.render()
        return self._observation(), {"goal": self.goal.copy()}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Advances by 0.1 s; `info` holds "success"."""
        self.data.ctrl[:] = _CONTROL_RANGE * np.clip(action, -1.0, 1.0)
        mujoco.mj_step(self.model, self.data, nstep=_FRAME_SKIP)
        reached = bool(np.hypot(*(self.data.qpos[:2] - self.goal)) <= GOAL_RADIUS)
        if self.render_mode == "human":
            self.render()
        return self._observation(), float(reached), reached, False, {"success": reached}

    def _set_goal(self, goal: np.ndarray) -> None:
        self.goal = goal
        self.model.site_pos[self.model.site("goal").id, :2] = goal

    def _observation(self) -> np.ndarray:
        return np.concatenate([self.data.qpos[:15], self.data.qvel[:14]])


@functools.cache
def _compiled(maze: str) -> Any:
    """Returns the model: Gymnasium's ant.xml with D4RL's physics, walls and a mark at the goal."""
    assets = pathlib.Path(mujoco_env.__file__).parent / "assets"
    root = ElementTree.parse(assets / "ant.xml").getroot()
    option, geom, world = map(root.find, ("option", "default/geom", "worldbody"))
    assert option is not None and geom is not None and world is not None
    option.set("timestep", str(_TIME_STEP))
    geom.set("solref", ".02 1")
    geom.set("solimp", ".8 .8 .01")
    for motor in root.findall("actuator/motor"):
        motor.set("ctrlrange", f"{-_CONTROL_RANGE} {_CONTROL_RANGE}")
        del motor.attrib["gear"]
    half = CELL_SIZE / 2
    for row, line in enumerate(MAPS[maze]):
        for column, cell in enumerate(line):
            if cell == "1":
                x, y = cell_centre(row, column)
                ElementTree.SubElement(
                    world,
                    "geom",
                    name=f"wall_{row}_{column}",
                    type="box",
                    pos=f"{x} {y} {_WALL_HALF_HEIGHT}",
                    size=f"{half} {half} {_WALL_HALF_HEIGHT}",
                    contype="1",
                    conaffinity="1",
                    rgba="0.7 0.5 0.3 1",
                )
    # Above the floor, because MuJoCo treats a site at its body's origin as fixed to it.
    ElementTree.SubElement(
        world,
        "site",
        name="goal",
        type="sphere",
        pos=f"0 0 {GOAL_RADIUS}",
        size=f"{GOAL_RADIUS}",
        rgba="1 0 0 .6",
    )
    return mujoco.MjModel.from_xml_string(ElementTree.tostring(root, encoding="unicode"))
