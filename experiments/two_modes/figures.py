"""The figure of the study: a row for the bandit, a row for the maze, a column an algorithm."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtql_jax.plots.mazes import Maze
from experiments import study
from experiments.bandits.problems import Bandit
from experiments.study import COLOURS, GREY, INK
from experiments.two_modes import corners, maze, ring
from experiments.two_modes.ring import Collection

_LIMIT = 14.0  # of the bandit's axes
_DATA_PATHS = 30  # of the data's episodes, drawn


def draw(
    bandit: Bandit,
    collection: Collection,
    found: Mapping[str, Mapping[str, np.ndarray]],
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    panels: Mapping[str, Mapping[str, str]],
    path: Path,
) -> None:
    """Draws samples and paths of all algorithms; each seed has its own colour.

    Args:
      bandit: its data is grey, darker where the reward is higher.
      collection: the maze's data.
      found: the study's arrays.
      rows: of both tables.
      panels: {"bandit" or "maze": {entry: title}}, in order.
      path: of the PNG.
    """
    columns = 1 + max(len(own) for own in panels.values())
    figure, grid = study.new_figure(
        2.75 * columns, 6.1, 2, columns, height_ratios=(1.0, 0.8), subplot_kw={"visible": False}
    )
    for axes in grid.flat:
        axes.grid(False)
        axes.spines[:].set_visible(True)
    for axes, part in zip(grid[:, 0], ("bandit", "maze"), strict=True):
        axes.set_ylabel(part, fontsize=11, fontweight="bold", color=INK)
    _bandit_panel(grid[0][0], bandit, None, "data")
    _below(grid[0][0], "dark: high reward", "stars: the two best modes")
    acting = {r["algorithm"]: r for r in rows["bandit"] if r["samples"] == "acting"}
    for axes, (name, title) in zip(grid[0][1:], panels["bandit"].items(), strict=False):
        _bandit_panel(axes, bandit, found[f"bandit/{name}"]["acting"], title)
        row = acting[title]
        _below(
            axes,
            f"{row['upper_right']:.0%} upper right, {row['lower_left']:.0%} lower left",
            f"reward {row['reward']:.2f} of the best, {row['outside']:.0%} outside",
        )
    entries = {row["algorithm"]: row for row in rows["maze"]}
    _maze_panel(grid[1][0], [collection.paths[:_DATA_PATHS]], "data", (GREY,))
    _below(grid[1][0], *_maze_lines(entries["data (planner)"]))
    for axes, (name, title) in zip(grid[1][1:], panels["maze"].items(), strict=False):
        _maze_panel(axes, maze.split(found[f"maze/{name}"]), title, COLOURS)
        _below(axes, *_maze_lines(entries[title]))
    seeds = len(next(iter(found.values()))["policy"])
    _legend(figure, seeds)
    study.save_figure(figure, path)


def _maze_lines(row: Mapping[str, Any]) -> tuple[str, str]:
    steps = "" if row["steps"] is None else f", {row['steps']:.0f} steps"
    ways = f"{row['upper']:.0%} upper, {row['lower']:.0%} lower way"
    return ways, f"{row['success']:.0%} reach the goal{steps}"


def _below(axes: Any, *lines: str) -> None:
    axes.set_xlabel("\n".join(lines), fontsize=9, color=INK, labelpad=5)


def _bandit_panel(axes: Any, bandit: Bandit, samples: np.ndarray | None, title: str) -> None:
    axes.set_visible(True)
    axes.set_title(title, fontsize=11, fontweight="bold", color=INK)
    relative = bandit.reward(bandit.actions) / bandit.best
    axes.scatter(
        *bandit.actions.T, c=relative, s=1.6, cmap="Greys", vmin=-0.35, vmax=1.3, linewidths=0,
        rasterized=True,
    )  # fmt: skip
    if samples is None:
        axes.plot(*corners.CORNERS.T, "*", color=INK, markersize=11, markeredgecolor="white")
    else:
        # shuffled: seeds drawn one after the other would hide each other
        colours = np.repeat(np.arange(len(samples)), samples.shape[1])
        order = np.random.default_rng(0).permutation(len(colours))
        axes.scatter(
            *samples.reshape(-1, 2)[order].T, s=7.0, alpha=0.6, linewidths=0, rasterized=True,
            c=[COLOURS[i % len(COLOURS)] for i in colours[order]],
        )  # fmt: skip
    axes.set(xlim=(-_LIMIT, _LIMIT), ylim=(-_LIMIT, _LIMIT), aspect="equal", xticks=(), yticks=())


def _maze_panel(
    axes: Any, members: list[list[np.ndarray]], title: str, colours: Sequence[str]
) -> None:
    axes.set_visible(True)
    axes.set_title(title, fontsize=11, fontweight="bold", color=INK)
    walls = np.array([[cell == 1 for cell in row] for row in ring.MAP])
    height, width = walls.shape
    extent = (-width / 2, width / 2, -height / 2, height / 2)
    axes.imshow(walls, cmap="Greys", vmax=4, extent=extent)
    # episodes of all seeds in turn, so that no seed covers the others
    for episode in range(max(len(paths) for paths in members)):
        for i, paths in enumerate(members):
            if episode < len(paths):
                colour = colours[i % len(colours)]
                axes.plot(*paths[episode].T, color=colour, linewidth=1.0, alpha=0.5)
    maze_map = Maze(tuple(tuple(row) for row in ring.MAP), 1.0)
    for kind, marker, size in (("r", "o", 6), ("g", "*", 13)):
        centres = maze_map.centres(kind).T
        axes.plot(*centres, marker, color=INK, markersize=size, markeredgecolor="white", zorder=5)
    axes.set(xlim=extent[:2], ylim=extent[2:], aspect="equal", xticks=(), yticks=())


def _legend(figure: Any, seeds: int) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=COLOURS[i % len(COLOURS)], linewidth=3, label=f"member {i}")
        for i in range(seeds)
    ]
    for marker, size, label in (("o", 6, "start"), ("*", 11, "goal")):
        style = {"marker": marker, "markersize": size, "linestyle": "", "color": INK}
        handles.append(Line2D([], [], label=label, **style))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9
    )
