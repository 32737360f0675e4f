"""Mazes: their cells, positions and goals in observations, and figures of paths through them."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dtql_jax.envs.spec import EnvSpec
from dtql_jax.errors import UserError
from dtql_jax.plots import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WALL, _WALL_EDGE, _FLOOR = "#C9CED6", "#8A929C", "#FBFBFC"
_LONGEST = 6.5  # inches of the longer side of a maze


@dataclasses.dataclass(frozen=True)
class Maze:
    """A maze of Gymnasium-Robotics, or D4RL's in `envs.antmaze_d4rl`.

    Attributes:
      cells: rows from top to bottom, each from left to right: 1 a wall, 0 free, "g" a goal cell,
        "r" a start cell, "c" either.
      cell_size: edge of a cell, in metres.
      middle: position (x, y) of the map's middle.
    """

    cells: tuple[tuple[int | str, ...], ...]
    cell_size: float
    middle: tuple[float, float] = (0.0, 0.0)

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """(left, right, bottom, top) of the whole map, in metres."""
        x, y = self.middle
        half_width = len(self.cells[0]) * self.cell_size / 2
        half_height = len(self.cells) * self.cell_size / 2
        return x - half_width, x + half_width, y - half_height, y + half_height

    @property
    def view(self) -> tuple[float, float, float, float]:
        """(left, right, bottom, top) of the part to show: half of the outer walls is cut off."""
        left, right, bottom, top = self.extent
        cut = self.cell_size / 2
        return left + cut, right - cut, bottom + cut, top - cut

    def centres(self, *kinds: int | str) -> np.ndarray:
        """Returns the centres of the cells of the given kinds, [n, 2]."""
        left, _, _, top = self.extent
        places = [
            (left + (column + 0.5) * self.cell_size, top - (row + 0.5) * self.cell_size)
            for row, cells in enumerate(self.cells)
            for column, kind in enumerate(cells)
            if kind in kinds
        ]
        return np.array(places, np.float64).reshape(-1, 2)


def read_maze(spec: EnvSpec) -> Maze:
    """Returns the maze of an environment; UserError where it is not a maze."""
    from dtql_jax.envs.make import make_env  # imports gymnasium, about a second

    env = make_env(spec)
    maze = getattr(env.unwrapped, "maze", None)
    env.close()
    if maze is None:
        raise UserError(f"{spec.env_id} is not a maze: it has no attribute 'maze'")
    cells = tuple(tuple(row) for row in maze.maze_map)
    # Gymnasium-Robotics' mazes have their middle at (0, 0), D4RL's their start
    return Maze(cells, float(maze.maze_size_scaling), getattr(maze, "middle", (0.0, 0.0)))


def positions_and_goals(
    spec: EnvSpec, observations: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the agent's and the goal's positions in flat observations of a maze.

    Args:
      spec: the environment. Its `observation_keys` name the parts of an observation.
      observations: [..., O].

    Returns:
      (positions [..., 2], goals [..., 2], or None where the observation does not hold them).

    Raises:
      UserError: the observation does not hold the position.
    """
    observations = np.asarray(observations)
    if spec.env_id == "dtql_jax/AntMazeD4RL-v0":
        return observations[..., :2], None
    keys = spec.observation_keys
    sizes = {"achieved_goal": 2, "desired_goal": 2}
    sizes["observation"] = observations.shape[-1] - sum(sizes.get(key, 0) for key in keys)
    ends = np.cumsum([sizes[key] for key in keys])
    parts = dict(zip(keys, np.split(observations, ends[:-1], axis=-1), strict=True))
    # a point's observation begins with its position, an ant's with its height
    holder = "observation" if spec.env_id.startswith("PointMaze") else "achieved_goal"
    if holder not in parts:
        raise UserError(
            f"no position is known in the observation of {spec.env_id}; expected "
            f"{holder!r} among its observation_keys {list(keys)}"
        )
    return parts[holder][..., :2], parts.get("desired_goal")


def trajectories(
    maze: Maze,
    paths: Sequence[np.ndarray],
    file: str | os.PathLike,
    *,
    successes: Sequence[bool],
    goals: Sequence[np.ndarray] | np.ndarray | None = None,
    title: str = "",
    subtitle: str = "",
) -> None:
    """Draws paths through a maze, from a dot at the start to a star at the goal.

    Args:
      maze: the maze.
      paths: positions [T, 2] of each episode, in metres.
      file: the PNG file.
      successes: whether each path reached its goal: blue if so, else vermilion with a cross at
        its end.
      goals: [n, 2]; None: the maze's goal cells.
      title: first line above the maze.
      subtitle: second line.
    """
    figure, axes = maze_figure(maze, bar=False)
    draw_walls(axes, maze)
    alpha = float(np.clip(3.0 / math.sqrt(len(paths)), 0.35, 0.9))
    kinds = ((True, style.BLUE, "reached the goal"), (False, style.VERMILION, "did not"))
    for kind, color, words in kinds:
        own = [path for path, success in zip(paths, successes, strict=True) if success == kind]
        for i, path in enumerate(own):
            axes.plot(
                *path.T, color=color, alpha=alpha, linewidth=1.5, zorder=3,
                label=f"{words} ({len(own)})" if i == 0 else None,
                solid_joinstyle="round", solid_capstyle="round",
            )  # fmt: skip
            if not kind:
                axes.plot(*path[-1], "x", color=color, markersize=7, markeredgewidth=2, zorder=4)
    starts = np.stack([path[0] for path in paths])
    axes.plot(*starts.T, "o", color=style.INK, markersize=4.5, alpha=alpha, label="start", zorder=4)
    draw_goals(axes, maze.centres("g", "c") if goals is None else np.reshape(goals, (-1, 2)))
    legend_below(axes)
    style.titles(axes, title, subtitle)
    style.save(figure, file)


def maze_figure(maze: Maze, bar: bool) -> tuple[Figure, Axes]:
    """Returns a figure in the maze's proportions, with room for a legend and a colour bar."""
    left, right, bottom, top = maze.view
    scale = _LONGEST / max(right - left, top - bottom)
    width, height = scale * (right - left), scale * (top - bottom)
    figure, grid = style.figure(width + (1.4 if bar else 0.7), height + 1.5)
    return figure, grid[0][0]


def draw_walls(axes: Axes, maze: Maze) -> None:
    """Draws the walls, and sets the limits and labels of the axes."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    size, (left, right, bottom, top) = maze.cell_size, maze.view
    walls = [Rectangle((x, y), size, size) for x, y in maze.centres(1) - size / 2]
    # the fill hides the inner half of the outline, and the lines between neighbouring walls
    for colour, width in ((_WALL_EDGE, 2.8), (_WALL, 0.6)):
        axes.add_collection(PatchCollection(walls, color=colour, linewidth=width))
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", facecolor=_FLOOR)
    axes.set(xlabel="x (m)", ylabel="y (m)")
    axes.grid(False)
    axes.spines[:].set_visible(False)


def draw_goals(axes: Axes, goals: np.ndarray, label: str = "goal") -> None:
    """Draws a star at each of the goals [n, 2]; the more there are, the smaller."""
    size = float(np.clip(40.0 / math.sqrt(max(len(goals), 1)), 9, 18))
    axes.plot(
        *goals.T, "*", color=style.ORANGE, markeredgecolor=style.INK, markeredgewidth=0.9,
        markersize=size, zorder=5, label=label,
    )  # fmt: skip


def legend_below(axes: Axes) -> None:
    """Adds a legend below the axes and their labels."""
    style.legend(
        axes, loc="upper center", bbox_to_anchor=(0.5, -0.09), ncols=4, fontsize=10,
        handletextpad=0.5, columnspacing=1.6,
    )  # fmt: skip
