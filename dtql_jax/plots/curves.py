"""Figures of a run: its learning curve and its training metrics."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dtql_jax.errors import UserError
from dtql_jax.plots import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]

_NOT_METRICS = ("update", "step", "member", "seed", "phase")
_SCORES = {
    "normalised score": "normalised score (0: random, 100: expert)",
    "success rate": "success rate (%)",
    "return": "return (sum of rewards)",
}
# units of the metrics that have one, as in docs/metrics.md
UNITS = {
    "critic_loss": "reward²",
    "nll_loss": "nats",
    "q_data": "reward",
    "q_loss": "reward",
    "td_loss": "reward²",
    "v_data": "reward",
    "value_loss": "reward²",
}


def learning_curve(
    rows: Sequence[Row],
    path: str | os.PathLike,
    *,
    task: str,
    source: str,
    dataset: str,
    score_name: str,
) -> None:
    """Draws the score against updates: each seed, their mean, and ± one standard error.

    Args:
      rows: those of evaluations.csv, numbers or their text.
      path: the PNG file.
      task: the title; source and dataset are below it.
      source: source of the data.
      dataset: id of the dataset.
      score_name: name of the score, from `scores.score`.

    Raises:
      UserError: no row has a score.
    """
    figure, ((axes,),) = style.figure(6.4, 4.0)
    at, values = _draw_members(axes, _by_member(rows, "score"))
    mean, text = values.mean(axis=0), ""
    if len(values) > 1:
        error = values.std(axis=0, ddof=1) / math.sqrt(len(values))
        text = f" ± {error[-1]:.1f}"
        axes.fill_between(
            at, mean - error, mean + error, color=style.BLUE, alpha=0.22, linewidth=0,
            label="± standard error",
        )  # fmt: skip
    axes.plot(at[-1:], mean[-1:], "o", color=style.BLUE, markersize=5)
    axes.annotate(
        f"{mean[-1]:.1f}{text}", (at[-1], mean[-1]), (8, 0), textcoords="offset points",
        va="center", color=style.BLUE, fontsize=10, fontweight="bold", annotation_clip=False,
    )  # fmt: skip
    if score_name == "success rate":
        axes.set_ylim(-4, 104)
    axes.set_ylabel(_SCORES.get(score_name, score_name))
    axes.set_xlabel("updates, pretraining included")
    style.count_axis(axes.xaxis)
    style.legend(axes, loc="best")
    style.titles(axes, task, f"{source} data: {dataset}")
    style.save(figure, path)


def training_curves(rows: Sequence[Row], path: str | os.PathLike, *, title: str) -> None:
    """Draws each metric against updates in a panel of its own.

    Updates of pretraining have a grey background. A metric that stays above 0 and spans more than a
    factor of 100 has a logarithmic axis.

    Args:
      rows: those of metrics.csv, numbers or their text; empty where a metric was not computed.
      path: the PNG file.
      title: written above all panels.

    Raises:
      UserError: there are no rows.
    """
    if not rows:
        raise UserError("no metrics to draw")
    names = [name for name in rows[0] if name not in _NOT_METRICS]
    across = min(3, len(names))
    down = math.ceil(len(names) / across)
    figure, grid = style.figure(3.3 * across + 0.2, 2.5 * down + 0.6, down, across)
    pretrained = max((float(r["update"]) for r in rows if r["phase"] == "pretrain"), default=0.0)
    for axes, name in zip(grid.flat, names, strict=False):
        _, values = _draw_members(axes, _by_member(rows, name))
        drawn = values[np.isfinite(values)]
        if drawn.size and drawn.min() > 0 and drawn.max() > 100 * drawn.min():
            axes.set_yscale("log")
        if pretrained:
            axes.axvspan(
                0, pretrained, color=style.GREY, alpha=0.15, linewidth=0, zorder=0,
                label="pretraining",
            )  # fmt: skip
        unit = f" ({UNITS[name]})" if name in UNITS else ""
        axes.set_ylabel(name.replace("_", " ") + unit)
        axes.set_xlabel("updates", fontsize=8)
        style.count_axis(axes.xaxis)
        axes.margins(x=0.02)
    for axes in list(grid.flat)[len(names) :]:
        axes.remove()
    style.figure_legend(figure)
    style.figure_title(figure, title)
    style.save(figure, path)


def _by_member(rows: Sequence[Row], name: str) -> list[dict[float, float]]:
    """Returns {update: value} of each member; UserError if no row has a value."""
    members: dict[Any, dict[float, float]] = {}
    for row in rows:
        if row.get(name) not in ("", None):
            # members of a sweep share seeds
            member = members.setdefault((row.get("member"), row["seed"]), {})
            member[float(row["update"])] = float(row[name])
    if not members:
        raise UserError(f"no row has a {name} to draw")
    return list(members.values())


def _draw_members(
    axes: Axes, members: Sequence[Mapping[float, float]]
) -> tuple[np.ndarray, np.ndarray]:
    """Draws a thin line for each member and a thick one for their mean.

    Returns the updates [n] at which all members have a value, and these values [P, n].
    """
    at = np.array(sorted(set.intersection(*map(set, members))))
    values = np.array([[member[update] for update in at] for member in members])
    label = "one seed"
    if len(members) > 1:
        label = f"mean of {len(members)} seeds"
        for i, member in enumerate(members):
            axes.plot(
                list(member), list(member.values()), color=style.GREY, linewidth=0.7, alpha=0.45,
                label="each seed" if i == 0 else None,
            )  # fmt: skip
    axes.plot(
        at, values.mean(axis=0), color=style.BLUE, linewidth=2, label=label, solid_capstyle="round"
    )
    return at, values
