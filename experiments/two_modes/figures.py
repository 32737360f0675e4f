"""The figure of the study: a row for the bandit, a row for the maze, a column an algorithm."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import study
from experiments.bandits.problems import Bandit
from experiments.study import COLOURS, GREY, INK
from experiments.two_modes import bandit, maze
from experiments.two_modes.settings import NAMES

_LIMIT = 14.0  # of the bandit's axes
_DATA_PATHS = 30  # of the data's episodes, drawn


def draw(
    data: Mapping[str, Any],
    found: Mapping[str, Mapping[str, study.Arrays]],
    rows: Mapping[str, Sequence[study.Row]],
    path: Path,
) -> None:
    """Draws samples and paths of all algorithms; each seed has its own colour.

    Args:
      data: {"bandit": Bandit, "maze": Collection}.
      found: the study's arrays: {part: {algorithm: arrays}}.
      rows: of both tables.
      path: of the PNG.
    """
    columns = 1 + len(NAMES)
    figure, grid = study.new_figure(2.75 * columns, 6.1, 2, columns, height_ratios=(1.0, 0.8))
    for axes in grid.flat:
        axes.grid(False)
        axes.spines[:].set_visible(True)
    for part, line in zip(("bandit", "maze"), grid, strict=True):
        line[0].set_ylabel(part, fontsize=11, fontweight="bold", color=INK)
        for axes, title in zip(line, ("data", *NAMES.values()), strict=True):
            axes.set_title(title, fontsize=11, fontweight="bold", color=INK)

    _bandit_panel(grid[0][0], data["bandit"], None)
    _below(grid[0][0], "dark: high reward", "stars: the two best modes")
    acting = [row for row in rows["bandit"] if row["samples"] == "acting"]
    for axes, name, row in zip(grid[0][1:], NAMES, acting, strict=True):
        _bandit_panel(axes, data["bandit"], found["bandit"][name]["acting"])
        _below(
            axes,
            f"{row['upper_right']:.0%} upper right, {row['lower_left']:.0%} lower left",
            f"reward {row['reward']:.2f} of the best, {row['outside']:.0%} outside",
        )
    planned = [data["maze"].episodes.paths[0][:_DATA_PATHS]]
    played = [maze.episodes_of(found["maze"][name]).paths for name in NAMES]
    for axes, paths, row in zip(grid[1], [planned, *played], rows["maze"], strict=True):
        _maze_panel(axes, paths, (GREY,) if paths is planned else COLOURS)
        steps = "" if row["steps"] is None else f", {row['steps']:.0f} steps"
        _below(
            axes,
            f"{row['upper']:.0%} upper, {row['lower']:.0%} lower way",
            f"{row['success']:.0%} reach the goal{steps}",
        )
    _legend(figure, len(played[0]))
    study.save_figure(figure, path)


def _below(axes: Any, *lines: str) -> None:
    axes.set_xlabel("\n".join(lines), fontsize=9, color=INK, labelpad=5)


def _bandit_panel(axes: Any, problem: Bandit, samples: np.ndarray | None) -> None:
    relative = problem.reward(problem.actions) / problem.best
    axes.scatter(
        *problem.actions.T, c=relative, s=1.6, cmap="Greys", vmin=-0.35, vmax=1.3, linewidths=0,
        rasterized=True,
    )  # fmt: skip
    if samples is None:
        axes.plot(*bandit.CORNERS.T, "*", color=INK, markersize=11, markeredgecolor="white")
    else:
        # shuffled: seeds drawn one after the other would hide each other
        colours = np.repeat(np.arange(len(samples)), samples.shape[1])
        order = np.random.default_rng(0).permutation(len(colours))
        axes.scatter(
            *samples.reshape(-1, 2)[order].T, s=7.0, alpha=0.6, linewidths=0, rasterized=True,
            c=[COLOURS[i % len(COLOURS)] for i in colours[order]],
        )  # fmt: skip
    axes.set(xlim=(-_LIMIT, _LIMIT), ylim=(-_LIMIT, _LIMIT), aspect="equal", xticks=(), yticks=())


def _maze_panel(axes: Any, members: list[list[np.ndarray]], colours: Sequence[str]) -> None:
    walls = np.array([[cell == 1 for cell in row] for row in maze.MAP])
    height, width = walls.shape
    extent = (-width / 2, width / 2, -height / 2, height / 2)
    axes.imshow(walls, cmap="Greys", vmax=4, extent=extent)
    # episodes of all seeds in turn, so that no seed covers the others
    for episode in zip(*members, strict=True):
        for i, positions in enumerate(episode):
            colour = colours[i % len(colours)]
            axes.plot(*positions.T, color=colour, linewidth=1.0, alpha=0.5)
    for place, marker, size in ((maze.START, "o", 6), (maze.GOAL, "*", 13)):
        axes.plot(*place, marker, color=INK, markersize=size, markeredgecolor="white", zorder=5)
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
