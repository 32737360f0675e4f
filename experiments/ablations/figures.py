"""One figure of all ablations: a row of panels for each task, a column for each comparison."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import study
from experiments.study import COLOURS

# column -> (its groups, title, label of the horizontal axis)
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
    "trust region": "TR",
    "trust region, implicit policy": "TR\nimplicit",
    "KL, implicit policy": "KL\nimplicit",
    "edm": "EDM",
    "elbo": "ELBO",
}


def draw(
    rows: Sequence[study.Row], score_names: Mapping[str, str], path: Path, subtitle: str
) -> None:
    """Draws means with standard errors over seeds; a task's own setting is filled.

    Args:
      rows: of `tables.trained` and `tables.acted`.
      score_names: {task: name of its score}, in the order of the panels.
      path: of the PNG.
      subtitle: below the figure.
    """
    width, height = 2.35 * len(COLUMNS) + 0.6, 2.05 * len(score_names) + 1.0
    figure, grid = study.new_figure(width, height, len(score_names), len(COLUMNS), sharey="row")
    figure.suptitle("DTQL, one setting changed at a time", x=0.008, ha="left", fontsize=13)
    figure.supxlabel(subtitle, x=0.008, ha="left", fontsize=9, color=study.GREY)
    for axes, (_, title, _) in zip(grid[0], COLUMNS, strict=True):
        axes.set_title(title, fontsize=10, fontweight="bold", loc="left")
    for line, (task, score_name) in zip(grid, score_names.items(), strict=True):
        for axes, (groups, _, values) in zip(line, COLUMNS, strict=True):
            axes.grid(axis="x", visible=False)
            axes.set_xlabel(values, fontsize=8, labelpad=1)
            shown = [r for r in rows if r["task"] == task and r["group"] in groups]
            if groups == ("acting",):
                _acting(axes, shown)
            else:
                _points(axes, shown, lines=bool(values))
        line[0].set_ylim(0, None)
        study.score_axis(line[0], score_name, task)
    study.save_figure(figure, path)


def _draw(axes: Any, at: Sequence[float], rows: Sequence[study.Row], colour: str) -> None:
    for x, found in zip(at, rows, strict=True):
        seeds = np.asarray(found["scores_by_seed"])
        axes.plot(np.full(len(seeds), x), seeds, ".", color=colour, alpha=0.3, markersize=3.5)
        axes.errorbar(
            [x], [found["mean"]], [found["standard_error"] or 0.0], fmt="o", color=colour,
            markersize=5.5, markerfacecolor=colour if found["own"] else "white",
            markeredgewidth=1.4, elinewidth=1.4, capsize=2.5,
        )  # fmt: skip


def _points(axes: Any, rows: Sequence[study.Row], *, lines: bool) -> None:
    """Draws one comparison, or two with a gap between them; `lines` joins an ordered scale."""
    groups = list(dict.fromkeys(r["group"] for r in rows))
    at = [i + 0.5 * groups.index(r["group"]) for i, r in enumerate(rows)]
    if lines:
        axes.plot(at, [r["mean"] for r in rows], color=COLOURS[0], linewidth=1.1, alpha=0.5)
    _draw(axes, at, rows, COLOURS[0])
    axes.set_xticks(at, [SHORT.get(r["label"], r["label"]) for r in rows])
    axes.set_xlim(at[0] - 0.5, at[-1] + 0.5)


def _acting(axes: Any, rows: Sequence[study.Row]) -> None:
    """Draws scores against the number of candidates, a line for each selection."""
    numbers = sorted({r["candidates"] for r in rows})
    shared = [r for r in rows if r["candidates"] == 1]
    selections = list(dict.fromkeys(r["selection"] for r in rows))
    for i, selection in enumerate(selections):
        own = [r for r in rows if r["selection"] == selection and r["candidates"] > 1]
        own = sorted([*shared, *own], key=lambda r: r["candidates"])
        shift = 0.16 * (i - 0.5 * (len(selections) - 1))
        at = [numbers.index(r["candidates"]) + shift for r in own]
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(at, [r["mean"] for r in own], color=colour, linewidth=1.1, alpha=0.5)
        _draw(axes, at, own, colour)
        axes.plot([], [], "o-", color=colour, markersize=4, label=selection)
    axes.set_xticks(range(len(numbers)), [f"{n:,}" for n in numbers])
    axes.legend(loc="best", frameon=False, fontsize=7.5, handlelength=1.2)
