"""Pictures of a run: its learning curve, its training metrics, its paths through a maze.

All functions write one PNG and return nothing. Matplotlib is imported when the first picture
is drawn, and only its object-oriented interface is used: no window, no global state.
"""

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dtql_jax.errors import UserError, near_matches
from dtql_jax.plots.mazes import Maze

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]

# Okabe and Ito's palette, told apart with every common form of colour blindness.
BLUE, VERMILION, ORANGE, GREEN = "#0072B2", "#D55E00", "#E69F00", "#009E73"
_INK, _GREY, _WALL, _FLOOR = "#22262B", "#6B737C", "#C9CED6", "#FBFBFC"
_DPI = 160
_NOT_METRICS = ("update", "step", "member", "seed", "phase")


def learning_curve(
    rows: Sequence[Row],
    path: str | os.PathLike,
    *,
    task: str,
    source: str,
    dataset: str,
    score_name: str = "score",
    x: str = "update",
) -> None:
    """Draws the score against updates: every seed thin, the mean thick with its error's band.

    The band is the mean +- one standard error over the seeds (none with a single seed). The
    last checkpoint's mean is written beside the curve.

    Args:
      rows: one for each seed and evaluation, as in evaluations.csv: "seed", `x` and "score"
        (numbers, or their text).
      path: of the PNG.
      task: title, with `source` and `dataset` below it.
      source: "minari", "d4rl" or "generated".
      dataset: its id.
      score_name: label of the vertical axis, from `scores.score`.
      x: the column of the horizontal axis.

    Raises:
      UserError: there are no rows, or a row lacks a column.
    """
    curves = _by_seed(rows, x, "score")
    at, mean, error = _mean_and_error(curves)
    figure, ((axes,),) = _figure(6.4, 4.0)
    _thin_lines(axes, curves)
    if len(curves) > 1:
        axes.fill_between(at, mean - error, mean + error, color=BLUE, alpha=0.22, linewidth=0)
    label = f"mean of {len(curves)} seeds" if len(curves) > 1 else "one seed"
    axes.plot(at, mean, color=BLUE, linewidth=2.2, label=label, solid_capstyle="round")
    axes.plot(at[-1:], mean[-1:], "o", color=BLUE, markersize=5)
    final = f"{mean[-1]:.1f}" + (f" ± {error[-1]:.1f}" if len(curves) > 1 else "")
    axes.annotate(
        final, (at[-1], mean[-1]), (8, 0), textcoords="offset points", va="center",
        color=BLUE, fontsize=10, fontweight="bold", annotation_clip=False,
    )  # fmt: skip
    if score_name == "success rate":
        axes.set_ylim(-4, 104)
        axes.set_ylabel("success rate (%)")
    else:
        axes.set_ylabel(score_name)
    axes.set_xlabel("updates")
    axes.xaxis.set_major_formatter(_short_number)
    if len(curves) > 1:
        _curve_legend(axes, "mean ± standard error over seeds")
    _titles(axes, task, f"{source} data: {dataset}")
    _save(figure, path)


def training_curves(
    rows: Sequence[Row],
    path: str | os.PathLike,
    *,
    title: str = "",
    metrics: Sequence[str] | None = None,
    x: str = "update",
) -> None:
    """Draws each metric over the updates in a small picture of its own.

    Seeds are thin, their mean is thick; the updates of pretraining ("phase" is not "train")
    lie on a grey ground. A metric that stays above 0 and spans more than a factor of 100 has a
    logarithmic axis.

    Args:
      rows: one for each seed and segment, as in metrics.csv: "seed", `x` and the metrics
        (numbers, or their text; empty where a metric was not computed).
      path: of the PNG.
      title: above all of them.
      metrics: which, in order; None: every column but update, step, member, seed and phase.
      x: the column of the horizontal axis.

    Raises:
      UserError: there are no rows, no metrics, or a metric that no row has.
    """
    if metrics is None:
        metrics = [name for name in (rows[0] if rows else ()) if name not in _NOT_METRICS]
    if not metrics:
        raise UserError("no metrics to draw: there are no rows, or none has a metric")
    across = min(3, len(metrics))
    down = math.ceil(len(metrics) / across)
    figure, grid = _figure(3.3 * across + 0.2, 2.3 * down + 0.5, down, across)
    pretrained = [float(row[x]) for row in rows if row.get("phase", "train") != "train"]
    panels = [axes for line in grid for axes in line]
    for axes, name in zip(panels, metrics, strict=False):
        curves = _by_seed(rows, x, name)
        at, mean, _ = _mean_and_error(curves)
        _thin_lines(axes, curves)
        axes.plot(at, mean, color=BLUE, linewidth=1.8, solid_capstyle="round")
        drawn = np.concatenate([values for _, values in curves.values()])
        drawn = drawn[np.isfinite(drawn)]
        if drawn.size and drawn.min() > 0 and drawn.max() > 100 * drawn.min():
            axes.set_yscale("log")
        if pretrained:
            axes.axvspan(0, max(pretrained), color=_GREY, alpha=0.10, linewidth=0, zorder=0)
        axes.set_title(name.replace("_", " "), loc="left", fontsize=10, color=_INK)
        axes.xaxis.set_major_formatter(_short_number)
        axes.margins(x=0.02)
    for axes in panels[len(metrics) :]:
        axes.remove()
    ground = "  (grey: pretraining)" if pretrained else ""
    figure.supxlabel("updates" + ground, fontsize=9, color=_GREY)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=_INK)
    _save(figure, path)


def maze_trajectories(
    maze: Maze,
    trajectories: Sequence[np.ndarray],
    path: str | os.PathLike,
    *,
    goals: Sequence[np.ndarray] | np.ndarray | None = None,
    successes: Sequence[bool] | None = None,
    title: str = "",
    subtitle: str = "",
) -> None:
    """Draws paths through a maze: from a dot at the start to a star at the goal.

    Args:
      maze: from `mazes.read_maze`.
      trajectories: positions [T, 2] of each episode.
      path: of the PNG.
      goals: [n, 2], one for each trajectory, or those that all share; None: the maze's own
        goal cells.
      successes: whether each trajectory reached its goal: blue if so, else vermilion and with
        a cross at its end. None: coloured by time instead.
      title: first line above the maze.
      subtitle: second line.

    Raises:
      UserError: no trajectories, one of another shape, or another number of successes.
    """
    trajectories = [np.asarray(points, np.float64) for points in trajectories]
    if not trajectories or any(p.ndim != 2 or p.shape[1] != 2 for p in trajectories):
        shapes = [points.shape for points in trajectories]
        raise UserError(f"trajectories have shapes {shapes}; expected one or more [T, 2]")
    if successes is not None and len(successes) != len(trajectories):
        raise UserError(f"{len(successes)} successes for {len(trajectories)} trajectories")
    left, right, bottom, top = _view(maze)
    scale = min(6.5 / (right - left), 6.5 / (top - bottom))
    bar = 0.0 if successes is not None else 0.95
    figure, ((axes,),) = _figure(scale * (right - left) + 0.2 + bar, scale * (top - bottom) + 1.2)
    _draw_walls(axes, maze)
    # Many paths over each other stay readable when each is fainter.
    alpha = float(np.clip(6.0 / math.sqrt(len(trajectories)) / 2, 0.35, 0.9))
    if successes is None:
        _paths_by_time(figure, axes, trajectories)
    else:
        _paths_by_success(axes, trajectories, [bool(value) for value in successes], alpha)
    starts = np.stack([points[0] for points in trajectories])
    axes.plot(
        *starts.T, "o", color="white", markeredgecolor=_INK, markersize=5, markeredgewidth=1.1,
        label="start", zorder=4,
    )  # fmt: skip
    goals = maze.centres("g", "c") if goals is None else np.reshape(np.asarray(goals), (-1, 2))
    if len(goals) == len(trajectories):
        # An episode ends near its goal, not on it: a dotted line tells whose goal it is.
        for points, goal in zip(trajectories, goals, strict=True):
            axes.plot(*np.stack([points[-1], goal]).T, ":", color=_GREY, linewidth=1.1, zorder=2)
    if len(goals):
        size = float(np.clip(40.0 / math.sqrt(len(goals)), 9, 20))
        axes.plot(
            *goals.T, "*", color=ORANGE, markeredgecolor=_INK, markersize=size,
            markeredgewidth=0.9, label="goal", zorder=5,
        )  # fmt: skip
    legend = axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=4, frameon=False, fontsize=10,
        labelcolor=_INK, handletextpad=0.5, columnspacing=1.6,
    )  # fmt: skip
    for handle in legend.legend_handles:
        handle.set_alpha(1.0)
        if handle.get_marker() == "*":
            handle.set_markersize(13)
    _titles(axes, title, subtitle)
    _save(figure, path)


def _view(maze: Maze) -> tuple[float, float, float, float]:
    """Returns the part of the map to show: its outermost ring, all wall, is cut to a half."""
    left, right, bottom, top = maze.extent
    cut = maze.cell_size / 2
    return left + cut, right - cut, bottom + cut, top - cut


def _draw_walls(axes: "Axes", maze: Maze) -> None:
    from matplotlib.collections import LineCollection, PatchCollection
    from matplotlib.patches import Rectangle

    size = maze.cell_size
    left, right, bottom, top = _view(maze)
    wall = np.array([[kind == 1 for kind in row] for row in maze.cells])
    cells = [Rectangle(maze.corner(*cell), size, size) for cell in np.argwhere(wall)]
    # The edge in the wall's own colour closes the hairlines between neighbouring cells.
    axes.add_collection(PatchCollection(cells, facecolor=_WALL, edgecolor=_WALL, linewidth=0.6))
    edges = []
    for row, column in np.argwhere(wall[:, 1:] != wall[:, :-1]):
        x, y = maze.corner(row, column + 1)
        edges.append([(x, y), (x, y + size)])
    for row, column in np.argwhere(wall[1:] != wall[:-1]):
        x, y = maze.corner(row, column)
        edges.append([(x, y), (x + size, y)])
    axes.add_collection(
        LineCollection(edges, colors="#8A929C", linewidths=1.3, capstyle="projecting")
    )
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_aspect("equal")
    axes.set_facecolor(_FLOOR)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _paths_by_success(
    axes: "Axes", trajectories: list[np.ndarray], successes: list[bool], alpha: float
) -> None:
    kinds = ((True, BLUE, "reached the goal"), (False, VERMILION, "did not"))
    for success, color, words in kinds:
        own = [p for p, came in zip(trajectories, successes, strict=True) if came is success]
        label = f"{words} ({len(own)})"
        for points in own:
            axes.plot(
                *points.T, color=color, alpha=alpha, linewidth=1.5, label=label, zorder=3,
                solid_joinstyle="round", solid_capstyle="round",
            )  # fmt: skip
            label = None
        if own and not success:
            ends = np.stack([points[-1] for points in own])
            axes.plot(*ends.T, "x", color=color, markersize=7, markeredgewidth=2, zorder=4)


def _paths_by_time(figure: "Figure", axes: "Axes", trajectories: list[np.ndarray]) -> None:
    from matplotlib.collections import LineCollection

    segments, times = [], []
    for points in trajectories:
        segments.append(np.stack([points[:-1], points[1:]], axis=1))
        times.append(np.arange(len(points) - 1))
    lines = LineCollection(
        list(np.concatenate(segments)), array=np.concatenate(times), cmap="viridis", linewidths=1.7,
        zorder=3, capstyle="round",
    )  # fmt: skip
    axes.add_collection(lines, autolim=False)
    bar = figure.colorbar(lines, ax=axes, fraction=0.035, pad=0.02, aspect=30)
    bar.outline.set_visible(False)
    bar.set_label("steps since the start", color=_GREY, fontsize=9)
    bar.ax.tick_params(colors=_GREY, labelsize=8, length=0)


def _by_seed(rows: Sequence[Row], x: str, y: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns member -> (x [n] ascending, y [n]); rows whose y is missing or empty are left out."""
    points: dict[str, dict[float, float]] = {}
    for row in rows:
        if x not in row:
            raise UserError(f"a row has no {x!r}: {near_matches(x, list(row))}")
        if row.get(y, "") not in ("", None):
            # members of a sweep share seeds
            who = f"{row.get('member', '')}/{row.get('seed', '')}"
            points.setdefault(who, {})[float(row[x])] = float(row[y])
    if not points:
        known = list(rows[0]) if rows else []
        raise UserError(
            f"no row has {y!r}: " + (near_matches(y, known) if known else "there are no rows")
        )
    curves = {}
    for seed, values in points.items():
        at = np.array(sorted(values))
        curves[seed] = at, np.array([values[number] for number in at])
    return curves


def _mean_and_error(curves: Mapping[str, tuple[np.ndarray, np.ndarray]]):
    """Returns x [n], and mean and standard error over seeds [n], where every seed has a value."""
    at = sorted(set.intersection(*(set(own.tolist()) for own, _ in curves.values())))
    if not at:
        raise UserError("no update has rows of every seed")
    values = np.stack([own[np.isin(times, at)] for times, own in curves.values()])
    error = np.full(len(at), np.nan)
    if len(curves) > 1:
        error = values.std(axis=0, ddof=1) / math.sqrt(len(curves))
    return np.asarray(at), values.mean(axis=0), error


def _thin_lines(axes: "Axes", curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    if len(curves) > 1:
        for at, values in curves.values():
            axes.plot(at, values, color=_GREY, linewidth=0.7, alpha=0.45)


def _curve_legend(axes: "Axes", mean: str) -> None:
    from matplotlib.lines import Line2D

    axes.legend(
        handles=[
            Line2D([], [], color=BLUE, linewidth=2.2, label=mean),
            Line2D([], [], color=_GREY, linewidth=0.8, label="each seed"),
        ],
        loc="best", frameon=False, fontsize=9, labelcolor=_INK,
    )  # fmt: skip


def _figure(width: float, height: float, rows: int = 1, columns: int = 1):
    """Returns a figure, in inches, and its axes, [rows][columns], in the style of all pictures."""
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained", facecolor="white")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_color("#AAB0B7")
        axes.tick_params(colors=_GREY, labelsize=8, length=3, color="#AAB0B7")
        axes.grid(color="#E6E8EB", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.xaxis.label.set_color(_GREY)
        axes.yaxis.label.set_color(_GREY)
    return figure, grid


def _titles(axes: "Axes", title: str, subtitle: str) -> None:
    if subtitle:
        axes.annotate(
            subtitle, (0, 1), (0, 7), xycoords="axes fraction", textcoords="offset points",
            fontsize=9, color=_GREY,
        )  # fmt: skip
    pad = 24 if subtitle else 8
    axes.set_title(title, loc="left", pad=pad, fontsize=13, fontweight="bold", color=_INK)


def _short_number(value: float, _: Any = None) -> str:
    """Writes 250000 as 250k and 1500000 as 1.5M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _save(figure: "Figure", path: str | os.PathLike) -> None:
    figure.savefig(path, dpi=_DPI, format="png")
