"""One picture of all ablations: a line of panels for each task, a column for each comparison."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_INK, _GREY, _LINE = "#22262B", "#6B737C", "#AAB0B7"
BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
# column -> (its groups, title, what its values are)
COLUMNS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("gamma",), "NLL", "gamma"),
    (("alpha",), "trust region", "alpha"),
    (("policy",), "policy, gamma 0", ""),
    (("objective",), "trust region or KL", ""),
    (("weighting", "value_target"), "weights, value target", ""),
    (("acting",), "acting", "candidates"),
)
SHORT = {
    "gaussian": "Gaussian",
    "deterministic": "determ.",
    "implicit": "implicit",
    "trust region": "TR",
    "trust region, implicit policy": "TR\nimplicit",
    "KL, implicit policy": "KL\nimplicit",
    "edm": "EDM",
    "elbo": "ELBO",
    "online": "online",
    "target": "target",
}


def figure(
    rows: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    score_names: Mapping[str, str],
    path: str | os.PathLike,
    subtitle: str,
) -> None:
    """Draws the PNG: means with standard errors over seeds; a task's own setting is filled.

    Args:
      rows: of `tables.row`.
      names: of the tasks, in order.
      score_names: task -> what its score is.
      path: of the PNG.
      subtitle: below the title.
    """
    from matplotlib.figure import Figure

    width, height = 2.35 * len(COLUMNS) + 0.6, 2.05 * len(names) + 1.0
    drawn = Figure((width, height), layout="constrained", facecolor="white")
    grid = drawn.subplots(len(names), len(COLUMNS), squeeze=False, sharey="row")
    drawn.suptitle(
        "DTQL, one setting changed at a time", x=0.008, ha="left", fontsize=13,
        fontweight="bold", color=_INK,
    )  # fmt: skip
    drawn.supxlabel(subtitle, x=0.008, ha="left", fontsize=9, color=_GREY)
    for line, name in zip(grid, names, strict=True):
        own = [r for r in rows if r["task"] == name]
        for axes, (groups, title, values) in zip(line, COLUMNS, strict=True):
            _style(axes)
            if "acting" in groups:
                _acting(axes, [r for r in own if r["group"] == "acting"])
            else:
                _points(axes, [r for r in own if r["group"] in groups], lines=bool(values))
            if name == names[0]:
                axes.set_title(title, fontsize=10, fontweight="bold", color=_INK, loc="left")
            if values:
                axes.set_xlabel(values, fontsize=8, color=_GREY, labelpad=1)
        unit = " (%)" if score_names[name] == "success rate" else ""
        line[0].set_ylabel(f"{name}\n{score_names[name]}{unit}", fontsize=9, color=_INK)
        if score_names[name] == "success rate":
            line[0].set_ylim(-4, 104)
        else:
            line[0].set_ylim(bottom=0)
    drawn.savefig(path, dpi=150, format="png")


def _style(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_LINE)
    axes.tick_params(colors=_GREY, labelsize=7.5, color=_LINE, length=3)
    axes.grid(axis="y", color="#E6E8EB", linewidth=0.7)
    axes.set_axisbelow(True)


def _draw(axes: Any, at: Any, rows: Sequence[Mapping[str, Any]], colour: str) -> None:
    for x, found in zip(at, rows, strict=True):
        seeds = np.asarray(found["scores_by_seed"])
        axes.plot(np.full(len(seeds), x), seeds, ".", color=colour, alpha=0.3, markersize=3.5)
        axes.errorbar(
            [x], [found["mean"]], [found["standard_error"] or 0.0], fmt="o", color=colour,
            markersize=5.5, markerfacecolor=colour if found["own"] else "white",
            markeredgewidth=1.4, elinewidth=1.4, capsize=2.5,
        )  # fmt: skip


def _points(axes: Any, rows: Sequence[Mapping[str, Any]], *, lines: bool) -> None:
    at = np.arange(len(rows), dtype=float)
    if lines:  # an ordered scale
        axes.plot(at, [r["mean"] for r in rows], color=BLUE, linewidth=1.1, alpha=0.5)
    groups = list(dict.fromkeys(r["group"] for r in rows))
    if len(groups) > 1:  # two comparisons in one panel, with a gap between them
        at += np.array([0.5 * groups.index(r["group"]) for r in rows])
    _draw(axes, at, rows, BLUE)
    axes.set_xticks(at, [SHORT.get(r["label"], r["label"]) for r in rows])
    axes.set_xlim(at[0] - 0.5, at[-1] + 0.5)


def _acting(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    numbers = sorted({r["candidates"] for r in rows})
    shared = [r for r in rows if r["candidates"] == 1]
    selections = list(dict.fromkeys(r["selection"] for r in rows))
    for i, selection in enumerate(selections):
        own = [r for r in rows if r["selection"] == selection and r["candidates"] > 1]
        own = sorted([*shared, *own], key=lambda r: r["candidates"])
        shift = 0.16 * (i - 0.5 * (len(selections) - 1))
        at = [numbers.index(r["candidates"]) + shift for r in own]
        colour = (BLUE, VERMILION, GREEN)[i % 3]
        axes.plot(at, [r["mean"] for r in own], color=colour, linewidth=1.1, alpha=0.5)
        _draw(axes, at, own, colour)
        axes.plot([], [], "o-", color=colour, markersize=4, label=selection)
    axes.set_xticks(range(len(numbers)), [f"{n:,}" for n in numbers])
    axes.legend(loc="best", frameon=False, fontsize=7.5, labelcolor=_INK, handlelength=1.2)
