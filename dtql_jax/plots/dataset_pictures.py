"""Pictures of a dataset: how its episodes ended, and where in a maze it has been.

Both functions write one PNG, in the style of `evaluation.pictures`, whose parts they use.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from dtql_jax.errors import UserError
from dtql_jax.plots import pictures as style
from dtql_jax.plots.mazes import Maze

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BARS = 40  # at most
# side of a square of the map, as a part of a cell
_SQUARE = 1 / 16


def histogram_of_returns(
    returns: np.ndarray,
    lengths: np.ndarray,
    path: str | os.PathLike,
    *,
    title: str = "",
    subtitle: str = "",
) -> None:
    """Draws how many episodes have which return, and which length, with the means marked.

    Args:
      returns: [episodes].
      lengths: [episodes], steps.
      path: of the PNG.
      title: first line.
      subtitle: second line.

    Raises:
      UserError: there are no episodes.
    """
    if not len(returns):
        raise UserError("no episodes to draw")
    figure, ((left, right),) = style._figure(8.6, 3.6, 1, 2)
    _histogram(left, np.asarray(returns, np.float64), style.BLUE, "return of an episode")
    _histogram(right, np.asarray(lengths, np.float64), style.GREEN, "length of an episode (steps)")
    left.set_ylabel(f"episodes (of {len(returns):,})")
    _titles(left, title, subtitle)
    style._save(figure, path)


def visited_states(
    maze: Maze,
    positions: np.ndarray,
    path: str | os.PathLike,
    *,
    title: str = "",
    subtitle: str = "",
) -> None:
    """Draws how often each place of a maze was visited, on a logarithmic scale.

    Args:
      maze: from `evaluation.mazes.read_maze`.
      positions: [N, 2].
      path: of the PNG.
      title: first line above the maze.
      subtitle: second line.

    Raises:
      UserError: positions of another shape, or none.
    """
    from matplotlib.colors import LogNorm

    positions = np.asarray(positions)
    if positions.ndim != 2 or positions.shape[1] != 2 or not len(positions):
        raise UserError(f"positions have shape {positions.shape}; expected [one or more, 2]")
    left, right, bottom, top = style._view(maze)
    scale = min(6.5 / (right - left), 6.5 / (top - bottom))
    figure, ((axes,),) = style._figure(scale * (right - left) + 1.3, scale * (top - bottom) + 1.0)
    style._draw_walls(axes, maze)
    across, down = (round(edge / (_SQUARE * maze.cell_size)) for edge in _size(maze))
    low, high = maze.extent[0::2], maze.extent[1::2]
    counts, _, _ = np.histogram2d(
        *positions.T, bins=(across, down), range=list(zip(low, high, strict=True))
    )
    shown = axes.imshow(
        np.ma.masked_equal(counts.T, 0),
        origin="lower",
        extent=maze.extent,
        cmap="viridis",
        norm=LogNorm(1, max(counts.max(), 10)),
        interpolation="nearest",
        zorder=2,
    )
    # imshow sets limits of its own
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    goals = maze.centres("g")
    if len(goals):
        axes.plot(
            *goals.T, "*", color=style.ORANGE, markeredgecolor=style._INK, markersize=16,
            markeredgewidth=0.9, zorder=5, label="cell of the evaluation goal",
        )  # fmt: skip
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.01), frameon=False, fontsize=10,
            labelcolor=style._INK,
        )  # fmt: skip
    bar = figure.colorbar(shown, ax=axes, fraction=0.04, pad=0.02, aspect=30)
    bar.outline.set_visible(False)
    side = _SQUARE * maze.cell_size
    bar.set_label(f"visits to a square of {side:g} x {side:g}", color=style._GREY, fontsize=9)
    bar.ax.tick_params(colors=style._GREY, labelsize=8, length=0)
    _titles(axes, title, subtitle)
    style._save(figure, path)


def _titles(axes: Axes, title: str, subtitle: str) -> None:
    style._titles(axes, title, subtitle)
    # names of datasets are long; the picture keeps its width all the same
    for text in axes.texts:
        text.set_in_layout(text.get_text() != subtitle)


def _size(maze: Maze) -> tuple[float, float]:
    left, right, bottom, top = maze.extent
    return right - left, top - bottom


def _histogram(axes: Axes, values: np.ndarray, color: str, label: str) -> None:
    """One bar for each value where these are few whole numbers, else bars of equal width."""
    from matplotlib.ticker import MaxNLocator

    low, high = values.min(), values.max()
    if (values == np.round(values)).all() and high - low <= _BARS:
        edges = np.arange(low, high + 2) - 0.5
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        bars = int(np.clip(2 * np.sqrt(len(values)), 10, _BARS))
        edges = np.linspace(low, high, bars + 1)
    counts, _, _ = axes.hist(values, edges, color=color, edgecolor="white", linewidth=0.6)
    mean = values.mean()
    axes.axvline(mean, color=style._INK, linewidth=1.2, linestyle="--")
    # beside the line, on the side where there is room, above all bars
    right = mean <= (edges[0] + edges[-1]) / 2
    axes.annotate(
        f"mean {mean:.4g}", (mean, 1), (5 if right else -5, -4),
        xycoords=("data", "axes fraction"), textcoords="offset points",
        ha="left" if right else "right", va="top", fontsize=9, color=style._INK,
    )  # fmt: skip
    axes.set_ylim(0, 1.15 * np.max(counts))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    # a single bar would fill the picture
    if len(counts) < 6:
        axes.set_xlim(edges[0] - 2, edges[-1] + 2)
    axes.set_xlabel(label)
    axes.yaxis.set_major_formatter(style._short_number)
