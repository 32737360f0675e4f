"""Where things are in a maze: its cells, and positions and goals within observations."""

import dataclasses

import numpy as np

from dtql_jax.envs.spec import EnvSpec
from dtql_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Maze:
    """A maze of Gymnasium-Robotics, or D4RL's as rebuilt in `envs.antmaze_d4rl`.

    Attributes:
      cells: rows from top to bottom, each from left to right: 1 a wall, 0 free, "g" a goal's
        cell, "r" a start's, "c" either.
      cell_size: edge of a cell, in the simulator's unit of length.
      middle: position (x, y) of the map's middle.
    """

    cells: tuple[tuple[int | str, ...], ...]
    cell_size: float
    middle: tuple[float, float] = (0.0, 0.0)

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """(left, right, bottom, top) of the whole map."""
        x, y = self.middle
        half_width = len(self.cells[0]) * self.cell_size / 2
        half_height = len(self.cells) * self.cell_size / 2
        return x - half_width, x + half_width, y - half_height, y + half_height

    def corner(self, row: int, column: int) -> tuple[float, float]:
        """Returns (x, y) of the lower left corner of a cell."""
        left, _, _, top = self.extent
        return left + column * self.cell_size, top - (row + 1) * self.cell_size

    def centres(self, *kinds: int | str) -> np.ndarray:
        """Returns the middles of the cells of the given kinds, [n, 2]."""
        found = [
            self.corner(row, column)
            for row, cells in enumerate(self.cells)
            for column, kind in enumerate(cells)
            if kind in kinds
        ]
        return np.reshape(np.asarray(found, np.float64), (-1, 2)) + self.cell_size / 2


def read_maze(spec: EnvSpec) -> Maze:
    """Returns the maze of an environment, which is made and closed for it.

    Raises:
      UserError: the environment is no maze.
    """
    # Late: gymnasium and mujoco cost a second.
    from dtql_jax.envs.make import make_env

    env = make_env(spec)
    try:
        maze = getattr(env.unwrapped, "maze", None)
        if maze is None:
            raise UserError(f"{spec.env_id} is no maze: it has no attribute 'maze'")
        cells = tuple(tuple(row) for row in maze.maze_map)
        # Gymnasium-Robotics' mazes have their middle at (0, 0), D4RL's their start
        return Maze(cells, float(maze.maze_size_scaling), getattr(maze, "middle", (0.0, 0.0)))
    finally:
        env.close()


def positions_and_goals(
    spec: EnvSpec, observations: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns where the agent and its goal are, read from flat observations of a maze.

    Args:
      spec: its `observation_keys` tell what the flat vector is made of. The position is
        "achieved_goal"; in a PointMaze also the first two entries of "observation" (an ant's
        "observation" begins with its height instead). D4RL's ant has no keys: its
        observation begins with the position and does not hold the goal.
      observations: [..., O].

    Returns:
      (positions [..., 2], goals [..., 2], or None where they are not in the observation).

    Raises:
      UserError: the position is not in the observation, or O is too small.
    """
    keys = spec.observation_keys
    observations = np.asarray(observations)
    size = observations.shape[-1]
    if spec.env_id == "dtql_jax/AntMazeD4RL-v0" and size >= 2:
        return observations[..., :2], None
    lengths = {"achieved_goal": 2, "desired_goal": 2}
    lengths["observation"] = size - sum(lengths.get(key, 0) for key in keys)
    unknown = [key for key in keys if key not in lengths]
    position_key = "achieved_goal" if "achieved_goal" in keys else "observation"
    ant = position_key == "observation" and not spec.env_id.startswith("PointMaze")
    if unknown or position_key not in keys or ant or lengths["observation"] < 2:
        raise UserError(
            f"no position is known in the {size} entries of {spec.env_id}'s observation "
            f"(observation_keys {list(keys)}); expected 'achieved_goal' among the keys, or a "
            "PointMaze's 'observation'"
        )
    starts = dict(zip(keys, np.cumsum([0] + [lengths[key] for key in keys]), strict=False))

    def pair(key: str) -> np.ndarray:
        return observations[..., starts[key] : starts[key] + 2]

    return pair(position_key), pair("desired_goal") if "desired_goal" in keys else None
