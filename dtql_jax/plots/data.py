"""Figures of a dataset: returns and lengths of its episodes, and visited states in a maze."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from dtql_jax.plots import mazes, style
from dtql_jax.plots.mazes import Maze

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BARS = 40  # at most
_SQUARE = 1 / 16  # side of a square of the map, in cells


def histogram_of_returns(
    returns: np.ndarray, lengths: np.ndarray, path: str | os.PathLike, *, title: str, subtitle: str
) -> None:
    """Draws histograms of the returns and the lengths [episodes], with their means, as a PNG."""
    figure, ((left, right),) = style.figure(8.6, 3.6, 1, 2)
    _histogram(left, returns, style.BLUE, "return of an episode (sum of rewards)")
    _histogram(right, lengths, style.GREEN, "length of an episode (steps)")
    left.set_ylabel(f"episodes (of {len(returns):,})")
    right.set_ylabel("episodes")
    style.titles(left, title, subtitle)
    style.save(figure, path)


def visited_states(
    maze: Maze, positions: np.ndarray, path: str | os.PathLike, *, title: str, subtitle: str
) -> None:
    """Draws how often each place of a maze was visited, on a logarithmic scale, as a PNG.

    Args:
      maze: the maze.
      positions: [N, 2], in metres.
      path: the PNG file.
      title: first line above the maze.
      subtitle: second line.
    """
    from matplotlib.colors import LogNorm

    figure, axes = mazes.maze_figure(maze, bar=True)
    left, right, bottom, top = maze.extent
    side = _SQUARE * maze.cell_size
    counts, _, _ = np.histogram2d(
        *positions.T,
        bins=(round((right - left) / side), round((top - bottom) / side)),
        range=[(left, right), (bottom, top)],
    )
    shown = axes.imshow(
        np.ma.masked_equal(counts.T, 0),
        origin="lower",
        extent=maze.extent,
        norm=LogNorm(1, max(counts.max(), 10)),
        interpolation="nearest",
        zorder=2,
    )
    mazes.draw_walls(axes, maze)
    goals = maze.centres("g")
    if len(goals):
        mazes.draw_goals(axes, goals, "cell of the evaluation goal")
        mazes.legend_below(axes)
    style.colour_bar(axes, shown, f"visits to a square of {side:g} m x {side:g} m")
    style.titles(axes, title, subtitle)
    style.save(figure, path)


def _histogram(axes: Axes, values: np.ndarray, color: str, label: str) -> None:
    """Draws a bar for each value where these are few whole numbers, else bars of equal width."""
    values = np.asarray(values, np.float64)
    low, high, mean = values.min(), values.max(), values.mean()
    if (values == np.round(values)).all() and high - low <= _BARS:
        edges = np.arange(low, high + 2) - 0.5
        style.count_axis(axes.xaxis)
    else:
        edges = np.linspace(low, high, int(np.clip(2 * np.sqrt(len(values)), 10, _BARS)) + 1)
    counts, _, _ = axes.hist(values, edges, color=color, edgecolor="white", linewidth=0.6)
    axes.axvline(mean, color=style.INK, linewidth=1.2, linestyle="--", label=f"mean {mean:.4g}")
    axes.set_ylim(0, 1.25 * np.max(counts))
    if len(edges) < 7:
        axes.set_xlim(edges[0] - 2, edges[-1] + 2)  # a single bar would fill the axes
    axes.set_xlabel(label)
    style.count_axis(axes.yaxis)
    style.legend(axes, loc="upper right")
