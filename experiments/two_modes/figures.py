"""The picture of the study: a row for the bandit, a row for the maze, a column an algorithm."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dtql_jax.plots import pictures
from dtql_jax.plots.mazes import Maze
from dtql_jax.plots.pictures import BLUE, GREEN, ORANGE, VERMILION
from experiments.bandits.problems import Bandit
from experiments.two_modes import corners, maze, ring, study
from experiments.two_modes.ring import Collection
from experiments.two_modes.store import Found

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _GREY, _LIGHT = "#22262B", "#6B737C", "#AAB0B7"
_DPI = 150
_LIMIT = 14.0  # of the bandit's axes
_SEEDS = (BLUE, VERMILION, GREEN, ORANGE, "#CC79A7", "#56B4E9")
_DATA_PATHS = 30  # drawn of the data's episodes


def figure(
    config: Mapping[str, Any],
    bandit: Bandit,
    collection: Collection,
    found: Found,
    path: str | os.PathLike,
) -> None:
    """Draws the PNG.

    Args:
      config: the study's.
      bandit: of `corners.make`; its data is grey, darker where the reward is higher.
      collection: of `ring.collect`.
      found: of `study.run`; each seed has a colour of its own.
      path: of the PNG.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows = {part: study.names(config, part) for part in study.PARTS}
    columns = 1 + max(len(names) for names in rows.values())
    layout = ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.09, rect=(0.0, 0.0, 1.0, 0.97))
    drawn = Figure((2.75 * columns, 6.1), layout=layout, facecolor="white")
    grid = drawn.subplots(2, columns, squeeze=False, height_ratios=(1.0, 0.8))
    for axes in grid.flat:
        axes.set_visible(False)
    # the names stand above the upper row alone where both rows have the same
    same = rows["bandit"] == rows["maze"]
    _bandit_panel(grid[0][0], bandit, None, "data")
    for axes, words in zip(grid[:, 0], ("bandit", "maze"), strict=True):
        axes.set_ylabel(words, fontsize=11, fontweight="bold", color=_INK, labelpad=4)
    for axes, name in zip(grid[0][1:], rows["bandit"], strict=False):
        samples = found[f"bandit/{name}"]["acting"]
        numbers = corners.numbers(samples, bandit)
        _bandit_panel(axes, bandit, samples, study.title(name))
        shares = numbers.at.mean(axis=0)
        _below(
            axes,
            f"{100 * shares[0]:.0f}% upper right, {100 * shares[1]:.0f}% lower left",
            f"reward {numbers.reward:.2f} of the best, {100 * numbers.outside:.0f}% outside",
        )
    _below(grid[0][0], "dark: high reward", "stars: the two best modes")
    walls = Maze(tuple(tuple(row) for row in ring.MAP), 1.0)
    _maze_panel(
        grid[1][0], walls, [collection.paths[:_DATA_PATHS]], "" if same else "data", [_GREY]
    )
    data = collection.numbers
    _below(
        grid[1][0],
        f"{100 * data.shares[0]:.0f}% upper, {100 * data.shares[1]:.0f}% lower way",
        "" if data.steps is None else f"{data.steps:.0f} steps to the goal",
    )
    entries = {row["algorithm"]: row for row in study.maze_rows(config, collection, found)}
    for axes, name in zip(grid[1][1:], rows["maze"], strict=False):
        members = maze.split(found[f"maze/{name}"])
        _maze_panel(axes, walls, members, "" if same else study.title(name), _SEEDS)
        row = entries[study.title(name)]
        steps = "" if row["steps"] is None else f", {row['steps']:.0f} steps"
        _below(
            axes,
            f"{100 * row['upper']:.0f}% upper, {100 * row['lower']:.0f}% lower way",
            f"{100 * row['success']:.0f}% reach the goal{steps}",
        )
    _legend(drawn, study.seeds(config))
    drawn.savefig(path, dpi=_DPI, format="png")


def _titled(axes: Axes, title: str) -> None:
    axes.set_visible(True)
    if title:
        axes.set_title(title, fontsize=11, fontweight="bold", color=_INK)
    for spine in axes.spines.values():
        spine.set_color(_LIGHT)


def _below(axes: Axes, *lines: str) -> None:
    axes.set_xlabel("\n".join(lines), fontsize=9, color=_INK, labelpad=5)


def _bandit_panel(axes: Axes, bandit: Bandit, samples: np.ndarray | None, title: str) -> None:
    _titled(axes, title)
    relative = bandit.reward(bandit.actions) / bandit.best
    axes.scatter(
        *bandit.actions.T, c=relative, s=1.6, cmap="Greys", vmin=-0.35, vmax=1.3, linewidths=0,
        rasterized=True,
    )  # fmt: skip
    if samples is not None:
        # seeds one after the other would hide each other: one shuffled cloud
        color = np.repeat(np.arange(len(samples)), samples.shape[1])
        flat = samples.reshape(-1, 2)
        order = np.random.default_rng(0).permutation(len(flat))
        axes.scatter(
            *flat[order].T, s=7.0, c=[_SEEDS[i % len(_SEEDS)] for i in color[order]], alpha=0.6,
            linewidths=0, rasterized=True,
        )  # fmt: skip
    else:
        axes.plot(
            *corners.CORNERS.T, "*", color=_INK, markersize=11, markeredgecolor="white",
            markeredgewidth=0.8,
        )  # fmt: skip
    axes.set(xlim=(-_LIMIT, _LIMIT), ylim=(-_LIMIT, _LIMIT), aspect="equal", xticks=(), yticks=())


def _maze_panel(
    axes: Axes, walls: Maze, members: list[list[np.ndarray]], title: str, colors: Any
) -> None:
    pictures._draw_walls(axes, walls)
    _titled(axes, title)
    longest = max(len(paths) for paths in members)
    # the seeds' episodes in turn, so that none lies on top of all others
    for episode in range(longest):
        for i, paths in enumerate(members):
            if episode < len(paths):
                axes.plot(
                    *paths[episode].T, color=colors[i % len(colors)], linewidth=1.0, alpha=0.5,
                    solid_capstyle="round",
                )  # fmt: skip
    for kind, marker, size in (("r", "o", 6), ("g", "*", 13)):
        axes.plot(
            *walls.centres(kind).T, marker, color=_INK, markersize=size, markeredgecolor="white",
            markeredgewidth=0.9, zorder=5,
        )  # fmt: skip


def _legend(drawn: Any, seeds: list[int]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=_SEEDS[i % len(_SEEDS)], linewidth=3, label=f"seed {seed}")
        for i, seed in enumerate(seeds)
    ]
    handles += [
        Line2D([], [], marker="o", color=_INK, linestyle="", markersize=6, label="start"),
        Line2D([], [], marker="*", color=_INK, linestyle="", markersize=11, label="goal"),
    ]
    drawn.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9,
        labelcolor=_INK, handlelength=1.2, columnspacing=1.6,
    )  # fmt: skip
