"""Mazes: their cells, positions and goals in observations, and figures of paths through them."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

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
        """(left, right, bottom, top) of the whole map."""
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

    def corner(self, row: int, column: int) -> tuple[float, float]:
        """Returns (x, y) of the lower left corner of a cell."""
        left, _, _, top = self.extent
        return left + column * self.cell_size, top - (row + 1) * self.cell_size

    def centres(self, *kinds: int | str) -> np.ndarray:
        """Returns the centres of the cells of the given kinds, [n, 2]."""
        found = [
            self.corner(row, column)
            for row, cells in enumerate(self.cells)
            for column, kind in enumerate(cells)
            if kind in kinds
        ]
        return np.reshape(np.asarray(found, np.float64), (-1, 2)) + self.cell_size / 2


def read_maze(spec: EnvSpec) -> Maze:
    """Returns the maze of an environment.

    Raises:
      UserError: the environment is not a maze.
    """
    from dtql_jax.envs.make import make_env  # imports gymnasium, about a second

    env = make_env(spec)
    try:
        maze = getattr(env.unwrapped, "maze", None)
        if maze is None:
            raise UserError(f"{spec.env_id} is not a maze: it has no attribute 'maze'")
        cells = tuple(tuple(row) for row in maze.maze_map)
        # Gymnasium-Robotics' mazes have their middle at (0, 0), D4RL's their start.
        return Maze(cells, float(maze.maze_size_scaling), getattr(maze, "middle", (0.0, 0.0)))
    finally:
        env.close()


def positions_and_goals(
    spec: EnvSpec, observations: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the agent's and the goal's positions in flat observations of a maze.

    Args:
      spec: its `observation_keys` name the parts of an observation. The position is
        "achieved_goal", or the first two entries of a PointMaze's "observation" (an ant's
        "observation" begins with its height). The observation of D4RL's ant has no keys: it
        begins with the position and does not hold the goal.
      observations: [..., O].

    Returns:
      (positions [..., 2], goals [..., 2], or None where the observation does not hold them).

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


def trajectories(
    maze: Maze,
    paths: Sequence[np.ndarray],
    file: str | os.PathLike,
    *,
    goals: Sequence[np.ndarray] | np.ndarray | None = None,
    successes: Sequence[bool] | None = None,
    title: str = "",
    subtitle: str = "",
) -> None:
    """Draws paths through a maze, from a dot at the start to a star at the goal.

    Args:
      maze: from `read_maze`.
      paths: positions [T, 2] of each episode.
      file: the PNG file.
      goals: [n, 2], one for each path or common to all; None: the maze's goal cells.
      successes: whether each path reached its goal: blue if so, else vermilion with a cross at
        its end. None: coloured by time.
      title: first line above the maze.
      subtitle: second line.

    Raises:
      UserError: no paths, one of another shape, or another number of successes.
    """
    paths = [np.asarray(points, np.float64) for points in paths]
    if not paths or any(p.ndim != 2 or p.shape[1] != 2 for p in paths):
        raise UserError(
            f"paths have shapes {[p.shape for p in paths]}; expected one or more [T, 2]"
        )
    if successes is not None and len(successes) != len(paths):
        raise UserError(f"{len(successes)} successes for {len(paths)} paths")
    figure, axes = maze_figure(maze, bar=successes is None)
    draw_walls(axes, maze)
    alpha = float(np.clip(3.0 / math.sqrt(len(paths)), 0.35, 0.9))
    if successes is None:
        _paths_by_time(axes, paths)
    else:
        _paths_by_success(axes, paths, [bool(value) for value in successes], alpha)
    starts = np.stack([points[0] for points in paths])
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
    from matplotlib.collections import LineCollection, PatchCollection
    from matplotlib.patches import Rectangle

    size = maze.cell_size
    left, right, bottom, top = maze.view
    wall = np.array([[kind == 1 for kind in row] for row in maze.cells])
    cells = [Rectangle(maze.corner(*cell), size, size) for cell in np.argwhere(wall)]
    # Edges in the walls' own colour close the hairlines between neighbouring cells.
    axes.add_collection(PatchCollection(cells, facecolor=_WALL, edgecolor=_WALL, linewidth=0.6))
    edges = []
    for row, column in np.argwhere(wall[:, 1:] != wall[:, :-1]):
        x, y = maze.corner(row, column + 1)
        edges.append([(x, y), (x, y + size)])
    for row, column in np.argwhere(wall[1:] != wall[:-1]):
        x, y = maze.corner(row, column)
        edges.append([(x, y), (x + size, y)])
    axes.add_collection(
        LineCollection(edges, colors=_WALL_EDGE, linewidths=1.3, capstyle="projecting")
    )
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", facecolor=_FLOOR)
    axes.set(xlabel="x (m)", ylabel="y (m)")
    axes.grid(False)
    axes.spines[:].set_visible(False)


def draw_goals(axes: Axes, goals: np.ndarray, label: str = "goal") -> None:
    """Draws a star at each of the goals [n, 2]; the more there are, the smaller."""
    if len(goals):
        axes.plot(
            *goals.T, "*", color=style.ORANGE, markeredgecolor=style.INK, markeredgewidth=0.9,
            markersize=float(np.clip(40.0 / math.sqrt(len(goals)), 9, 18)), zorder=5, label=label,
        )  # fmt: skip


def legend_below(axes: Axes) -> None:
    """Adds a legend below the axes and their labels."""
    style.legend(
        axes, loc="upper center", bbox_to_anchor=(0.5, -0.09), ncols=4, fontsize=10,
        handletextpad=0.5, columnspacing=1.6,
    )  # fmt: skip


def _paths_by_success(
    axes: Axes, paths: list[np.ndarray], successes: list[bool], alpha: float
) -> None:
    kinds = ((True, style.BLUE, "reached the goal"), (False, style.VERMILION, "did not"))
    for success, color, words in kinds:
        own = [p for p, reached in zip(paths, successes, strict=True) if reached is success]
        for i, points in enumerate(own):
            axes.plot(
                *points.T, color=color, alpha=alpha, linewidth=1.5, zorder=3,
                label=f"{words} ({len(own)})" if i == 0 else None,
                solid_joinstyle="round", solid_capstyle="round",
            )  # fmt: skip
        if own and not success:
            ends = np.stack([points[-1] for points in own])
            axes.plot(*ends.T, "x", color=color, markersize=7, markeredgewidth=2, zorder=4)


def _paths_by_time(axes: Axes, paths: list[np.ndarray]) -> None:
    from matplotlib.collections import LineCollection

    segments = [np.stack([points[:-1], points[1:]], axis=1) for points in paths]
    times: Any = np.concatenate([np.arange(len(points) - 1) for points in paths])
    lines = LineCollection(
        list(np.concatenate(segments)), array=times, cmap="viridis", linewidths=1.7, zorder=3,
        capstyle="round",
    )  # fmt: skip
    axes.add_collection(lines, autolim=False)
    style.colour_bar(axes, lines, "steps since the start")
