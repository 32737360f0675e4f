"""Figures of a run: its learning curve and its training metrics."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dtql_jax.errors import UserError, near_matches
from dtql_jax.plots import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]
Curves = Mapping[str, tuple[np.ndarray, np.ndarray]]  # member -> (x [n] ascending, y [n])

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
    """Draws the score against updates: each seed, their mean, and +- one standard error.

    Args:
      rows: one for each seed and evaluation, as in evaluations.csv: "seed", `x` and "score"
        (numbers, or their text).
      path: the PNG file.
      task: the title, with `source` and `dataset` below it.
      source: "minari", "d4rl" or "generated".
      dataset: its id.
      score_name: label of the vertical axis, from `scores.score`.
      x: the column of the horizontal axis.

    Raises:
      UserError: there are no rows, or a row lacks a column.
    """
    curves = _by_seed(rows, x, "score")
    at, mean, error = _mean_and_error(curves)
    several = len(curves) > 1
    figure, ((axes,),) = style.figure(6.4, 4.0)
    _draw_seeds(axes, curves)
    if several:
        axes.fill_between(
            at, mean - error, mean + error, color=style.BLUE, alpha=0.22, linewidth=0,
            label="± standard error",
        )  # fmt: skip
    label = f"mean of {len(curves)} seeds" if several else "one seed"
    axes.plot(at, mean, color=style.BLUE, linewidth=2.2, label=label, solid_capstyle="round")
    axes.plot(at[-1:], mean[-1:], "o", color=style.BLUE, markersize=5)
    axes.annotate(
        f"{mean[-1]:.1f}" + (f" ± {error[-1]:.1f}" if several else ""),
        (at[-1], mean[-1]), (8, 0), textcoords="offset points", va="center",
        color=style.BLUE, fontsize=10, fontweight="bold", annotation_clip=False,
    )  # fmt: skip
    if score_name == "success rate":
        axes.set_ylim(-4, 104)
    axes.set_ylabel("success rate (%)" if score_name == "success rate" else score_name)
    axes.set_xlabel("updates")
    axes.xaxis.set_major_formatter(style.short_number)
    style.legend(axes, loc="best")
    style.titles(axes, task, f"{source} data: {dataset}")
    style.save(figure, path)


def training_curves(
    rows: Sequence[Row],
    path: str | os.PathLike,
    *,
    title: str = "",
    metrics: Sequence[str] | None = None,
    x: str = "update",
) -> None:
    """Draws each metric against updates in a panel of its own.

    Updates of pretraining ("phase" is not "train") have a grey background. A metric that stays
    above 0 and spans more than a factor of 100 has a logarithmic axis.

    Args:
      rows: one for each seed and segment, as in metrics.csv: "seed", `x` and the metrics
        (numbers, or their text; empty where a metric was not computed).
      path: the PNG file.
      title: written above all panels.
      metrics: their names, in order; None: every column but update, step, member, seed and
        phase.
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
    figure, grid = style.figure(3.3 * across + 0.2, 2.5 * down + 0.6, down, across)
    pretrained = [float(row[x]) for row in rows if row.get("phase", "train") != "train"]
    panels = list(grid.flat)
    for axes, name in zip(panels, metrics, strict=False):
        curves = _by_seed(rows, x, name)
        at, mean, _ = _mean_and_error(curves)
        _draw_seeds(axes, curves)
        label = "mean over seeds" if len(curves) > 1 else "one seed"
        axes.plot(at, mean, color=style.BLUE, linewidth=1.8, label=label, solid_capstyle="round")
        drawn = np.concatenate([values for _, values in curves.values()])
        drawn = drawn[np.isfinite(drawn)]
        if drawn.size and drawn.min() > 0 and drawn.max() > 100 * drawn.min():
            axes.set_yscale("log")
        if pretrained:
            axes.axvspan(
                0, max(pretrained), color=style.GREY, alpha=0.15, linewidth=0, zorder=0,
                label="pretraining",
            )  # fmt: skip
        style.panel_title(axes, name.replace("_", " "))
        axes.xaxis.set_major_formatter(style.short_number)
        axes.margins(x=0.02)
        axes.set_xlabel("updates", fontsize=8)
    for axes in panels[len(metrics) :]:
        axes.remove()
    handles, labels = panels[0].get_legend_handles_labels()
    style.legend(
        figure, handles=handles, labels=labels, loc="outside lower center", ncols=len(labels)
    )
    style.figure_title(figure, title)
    style.save(figure, path)


def _by_seed(rows: Sequence[Row], x: str, y: str) -> Curves:
    """Returns the curve of each member; rows without a `y` are left out."""
    points: dict[str, dict[float, float]] = {}
    for row in rows:
        if x not in row:
            raise UserError(f"a row has no {x!r}: {near_matches(x, list(row))}")
        if row.get(y, "") not in ("", None):
            # members of a sweep share seeds
            member = f"{row.get('member', '')}/{row.get('seed', '')}"
            points.setdefault(member, {})[float(row[x])] = float(row[y])
    if not points:
        known = list(rows[0]) if rows else []
        raise UserError(
            f"no row has {y!r}: " + (near_matches(y, known) if known else "there are no rows")
        )
    curves = {}
    for member, values in points.items():
        at = np.array(sorted(values))
        curves[member] = at, np.array([values[number] for number in at])
    return curves


def _mean_and_error(curves: Curves) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns x [n], mean [n] and standard error [n] where every seed has a value."""
    at = sorted(set.intersection(*(set(own.tolist()) for own, _ in curves.values())))
    if not at:
        raise UserError("no update has rows of every seed")
    values = np.stack([own[np.isin(times, at)] for times, own in curves.values()])
    error = np.full(len(at), np.nan)
    if len(curves) > 1:
        error = values.std(axis=0, ddof=1) / math.sqrt(len(curves))
    return np.asarray(at), values.mean(axis=0), error


def _draw_seeds(axes: Axes, curves: Curves) -> None:
    """Draws each seed as a thin line where there are several."""
    if len(curves) > 1:
        for i, (at, values) in enumerate(curves.values()):
            label = "each seed" if i == 0 else None
            axes.plot(at, values, color=style.GREY, linewidth=0.7, alpha=0.45, label=label)
