"""The curves of a report, as SVG whose colours follow the page's light or dark scheme.

Figures have the style of `plots.style`. The colours of its light page are then replaced by CSS
variables.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dtql_jax.commands.reporting.runs import Variant
from dtql_jax.evaluation import scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which readers with colour blindness can tell apart
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#5b5f66")
_INK, _GREY, _LINE, _GRID = "#22262b", "#6b737c", "#aab0b7", "#e6e8eb"
_VARIABLES = {_INK: "ink", _GREY: "grey", _LINE: "line", _GRID: "grid"}
_VARIABLES |= {colour: f"c{i}" for i, colour in enumerate(COLOURS)}


def colour(place: int) -> str:
    """The colour of a variant; after eight they repeat, with other dashes."""
    return COLOURS[place % len(COLOURS)]


def _dashes(place: int) -> str:
    return ("-", "--", ":")[place // len(COLOURS) % 3]


def learning_curves(variants: Sequence[Variant], title: str, score: str) -> Figure | None:
    """The score of each variant against updates, of one task; None without a second evaluation.

    Lines are means over seeds, bands 95 % bootstrap intervals of that mean (two seeds and more);
    thin lines are the seeds. The grey part is pretraining.
    """
    figure, axes = _figure(4.9, 3.1)
    drawn = False
    longest = 0.0
    for place, variant in enumerate(variants):
        curves = list(variant.curves("evaluations", "score").values())
        if not curves:
            continue
        at, values = _together(curves)
        drawn |= len(at) > 1
        longest = max(longest, at[-1])
        style: dict[str, Any] = {"color": colour(place), "linestyle": _dashes(place)}
        if len(values) > 1:
            for own in values:
                axes.plot(at, own, linewidth=0.7, alpha=0.4, **style)
            axes.fill_between(at, *_band(values), color=colour(place), alpha=0.18, linewidth=0)
        marker = "o" if len(at) < 16 else None
        axes.plot(
            at, values.mean(axis=0), linewidth=2.0, marker=marker, markersize=4,
            solid_capstyle="round", **style,
        )  # fmt: skip
    if not drawn:
        return None
    pretrained = max(v.run.config["pretrain_steps"] for v in variants)
    if 0 < pretrained < longest:
        axes.axvspan(0, pretrained, color=_GREY, alpha=0.12, linewidth=0, zorder=0)
    axes.set_xlim(0, longest * 1.03)
    if score == "success rate":
        axes.set_ylim(-4, 104)
    axes.set_ylabel("success rate (%)" if score == "success rate" else score)
    axes.set_xlabel("updates, pretraining included (grey)" if pretrained else "updates")
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=_INK)
    return figure


def metric_curve(variants: Sequence[Variant], metric: str) -> Figure | None:
    """A training metric of each variant against updates; None where none of them has it."""
    figure, axes = _figure(3.7, 2.3)
    drawn = []
    for place, variant in enumerate(variants):
        curves = list(variant.curves("metrics", metric).values())
        if not curves:
            continue
        at, values = _together(curves)
        style: dict[str, Any] = {"color": colour(place), "linestyle": _dashes(place)}
        if len(values) > 1:
            for own in values:
                axes.plot(at, own, linewidth=0.6, alpha=0.35, **style)
        axes.plot(at, values.mean(axis=0), linewidth=1.6, solid_capstyle="round", **style)
        drawn.append(values[np.isfinite(values)])
    if not drawn:
        return None
    seen = np.concatenate(drawn)
    if seen.size and seen.min() > 0 and seen.max() > 100 * seen.min():
        axes.set_yscale("log")
    axes.set_title(metric.replace("_", " "), loc="left", fontsize=11, color=_INK)
    axes.margins(x=0.02)
    return figure


def metric_names(variants: Sequence[Variant]) -> list[str]:
    """The metrics that any of the runs logged, in the order of their columns."""
    heads = ("update", "phase", "step", "member", "seed")
    names = (name for v in variants for run in v.runs for name in (run.metrics or [{}])[0])
    return [name for name in dict.fromkeys(names) if name not in heads]


def _together(curves: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """(updates [n], values [S, n]) where every seed has one, else of the longest seed alone."""
    common = set.intersection(*(set(at.tolist()) for at, _ in curves))
    if not common:
        at, values = max(curves, key=lambda curve: len(curve[0]))
        return at, values[None]
    at = np.array(sorted(common))
    return at, np.stack([values[np.isin(own, at)] for own, values in curves])


def _band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % bootstrap interval of the mean over seeds at each update: values [S, n] -> two [n]."""
    ends = [
        scores.stratified_bootstrap_interval(column, np.mean, resamples=2_000)
        for column in values.T
    ]
    low, high = np.array(ends).T
    return low, high


def _figure(width: float, height: float):
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained", facecolor="none")
    axes = figure.subplots()
    axes.set_facecolor("none")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_LINE)
    axes.tick_params(labelcolor=_GREY, labelsize=9.5, length=3, color=_LINE)
    axes.grid(color=_GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_color(_GREY)
        axis.label.set_fontsize(10)
    axes.xaxis.set_major_formatter(_short_number)
    axes.xaxis.set_major_locator(_few_ticks())
    return figure, axes


def _few_ticks():
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10])


def _short_number(value: float, _: object = None) -> str:
    """Writes large numbers short.

    >>> _short_number(250_000), _short_number(1_500_000), _short_number(20)
    ('250k', '1.5M', '20')
    """
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def svg(figure: Figure, label: str, salt: str) -> str:
    """A figure as an <svg> element for a page that defines --ink, --grey, --line, --grid, --c0...

    Args:
      figure: as the functions here draw it.
      label: what a screen reader says.
      salt: unlike that of any other figure of the page; ids within it follow from it.
    """
    import matplotlib

    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    # a style sheet would count for the whole page
    text = re.sub(r"<(metadata|style).*?</\1>", "", text, flags=re.S)
    for hexadecimal, name in _VARIABLES.items():
        text = re.sub(hexadecimal, f"var(--{name})", text, flags=re.I)
    text = re.sub(r"font-family: [^;\"]*;?", "", text)  # the page's own
    head, rest = text.split(">", 1)
    box = head.split('viewBox="', 1)[1].split('"', 1)[0]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" role="img"'
    head += ' xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'{head} aria-label="{html.escape(label)}">{rest}'
