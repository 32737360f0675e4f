"""The curves of a report, as SVG whose colours follow the page's light or dark scheme."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dtql_jax.commands.reporting.runs import Variant
from dtql_jax.commands.reporting.scores import score_name
from dtql_jax.evaluation.scores import stratified_bootstrap_interval
from dtql_jax.plots import style
from dtql_jax.training.logging import METRIC_KEYS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = tuple[np.ndarray, np.ndarray]  # updates [n], values [S, n]

# Okabe and Ito's palette, distinguishable with colour blindness; the page defines --c0, --c1, ...
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#5b5f66")
_VARIABLES = {
    **{style.INK: "ink", style.GREY: "grey", style.LINE: "line", style.GRID: "grid"},
    **{colour: f"c{i}" for i, colour in enumerate(COLOURS)},
    "#000000": "line",
}


def learning_curves(variants: Sequence[Variant]) -> Figure | None:
    """Draws the scores of a task's variants; None without a second evaluation.

    Lines are means over seeds, bands their 95 % bootstrap intervals, thin lines the seeds.
    Pretraining has a grey background.
    """
    figure, ((axes,),) = style.figure(4.9, 3.1)
    curves = _draw(axes, variants, "evaluations", "score")
    if all(len(at) < 2 for at, _ in curves):
        return None
    longest = max(at[-1] for at, _ in curves)
    pretrained = max(variant.settings["pretrain_steps"] for variant in variants)
    if 0 < pretrained < longest:
        axes.axvspan(0, pretrained, color=style.GREY, alpha=0.12, linewidth=0, zorder=0)
    axes.set_xlim(0, longest * 1.03)
    axes.set_xlabel("updates, pretraining included (grey)" if pretrained else "updates")
    axes.set_ylabel(score_name(variants[0]))
    if score_name(variants[0]) == "success rate":
        axes.set_ylim(-4, 104)
        axes.set_ylabel("success rate (%)")
    style.titles(axes, variants[0].settings["task"])
    return figure


def metric_curve(variants: Sequence[Variant], metric: str) -> Figure:
    """Draws a training metric of each variant that has it."""
    figure, ((axes,),) = style.figure(3.7, 2.3)
    curves = _draw(axes, variants, "metrics", metric)
    drawn = np.hstack([np.zeros(0), *(values[np.isfinite(values)] for _, values in curves)])
    if drawn.size and drawn.min() > 0 and drawn.max() > 100 * drawn.min():
        axes.set_yscale("log")
    axes.margins(x=0.02)
    style.panel_title(axes, metric.replace("_", " "))
    return figure


def metric_names(variants: Sequence[Variant]) -> list[str]:
    """Returns the metrics with a value in any row, in the order of their columns."""
    runs = {member.run.path: member.run for variant in variants for member in variant.members}
    rows = [row for run in runs.values() for row in run.logs["metrics"]]
    names = dict.fromkeys(name for row in rows for name, value in row.items() if value)
    return [name for name in names if name not in METRIC_KEYS]


def _draw(axes: Axes, variants: Sequence[Variant], log: str, column: str) -> list[Curve]:
    """Draws a column of the logs against updates; returns the curves."""
    curves = []
    for place, variant in enumerate(variants):
        own = [member.curve(log, column) for member in variant.members]
        own = [curve for curve in own if curve[0].size]
        common = set.intersection(*(set(at.tolist()) for at, _ in own)) if own else set()
        if not common:
            continue
        at = np.array(sorted(common))
        values = np.stack([values[np.isin(each, at)] for each, values in own])
        line: dict[str, Any] = {
            "color": COLOURS[place % len(COLOURS)],
            "linestyle": ("-", "--", ":")[place // len(COLOURS) % 3],
        }
        if len(values) > 1:
            axes.plot(at, values.T, linewidth=0.7, alpha=0.4, **line)
        if len(values) > 1 and log == "evaluations":
            axes.fill_between(at, *_band(values), color=line["color"], alpha=0.18, linewidth=0)
        marker = "o" if log == "evaluations" and len(at) < 16 else None
        axes.plot(at, values.mean(axis=0), linewidth=1.8, marker=marker, markersize=4, **line)
        curves.append((at, values))
    style.count_axis(axes.xaxis)
    return curves


def _band(values: np.ndarray) -> np.ndarray:
    """Returns the 95 % bootstrap interval of the mean over seeds: [S, n] -> [2, n]."""
    return np.transpose(
        [stratified_bootstrap_interval(seeds, np.mean, resamples=2_000) for seeds in values.T]
    )


def svg(figure: Figure, label: str) -> str:
    """Returns a figure as an <svg> element for a page with --ink, --grey, --line, --grid, --c0...

    Args:
      figure: drawn by this module.
      label: text for screen readers.
    """
    import matplotlib

    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    # a style sheet would apply to the whole page
    text = re.sub(r"<(metadata|style).*?</\1>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r"font-family: [^;\"]*;?", "", text)
    for colour, name in _VARIABLES.items():
        text = re.sub(colour, f"var(--{name})", text, flags=re.IGNORECASE)
    head, rest = text.split(">", 1)
    box = head.split('viewBox="', 1)[1].split('"', 1)[0]
    return f'<svg viewBox="{box}" role="img" aria-label="{html.escape(label)}">{rest}'
