"""The style that all figures share: colours, axes, titles, legends, and how a figure is saved.

Matplotlib is imported when the first figure is drawn. Only its object-oriented interface is used:
no window and no global state.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Okabe and Ito's palette, distinguishable with all common forms of colour blindness
BLUE, VERMILION, ORANGE, GREEN = "#0072B2", "#D55E00", "#E69F00", "#009E73"
INK, GREY, LINE, GRID = "#22262B", "#6B737C", "#AAB0B7", "#E6E8EB"


def figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """Returns a figure of this size, in inches, and its axes [rows, columns]."""
    from matplotlib.figure import Figure

    made = Figure((width, height), layout="constrained", facecolor="white")
    grid = made.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(LINE)
        axes.tick_params(labelcolor=GREY, labelsize=8, length=3, color=LINE)
        axes.grid(color=GRID, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.xaxis.label.set_color(GREY)
        axes.yaxis.label.set_color(GREY)
    return made, grid


def titles(axes: Axes, title: str, subtitle: str = "") -> None:
    """Writes a title above the axes, and a smaller line below it."""
    if subtitle:
        text = axes.annotate(
            subtitle, (0, 1), (0, 7), xycoords="axes fraction", textcoords="offset points",
            fontsize=9, color=GREY,
        )  # fmt: skip
        text.set_in_layout(False)  # a long name must not change the figure's width
    pad = 24 if subtitle else 8
    axes.set_title(title, loc="left", pad=pad, fontsize=13, fontweight="bold", color=INK)


def figure_title(figure: Figure, title: str) -> None:
    """Writes a title above all axes of a figure."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)


def panel_title(axes: Axes, title: str) -> None:
    """Writes the small title of one of several axes."""
    axes.set_title(title, loc="left", fontsize=10, color=INK)


def legend(owner: Axes | Figure, **arguments: Any) -> None:
    """Adds a legend whose lines are opaque even where the drawn ones are faint."""
    from matplotlib.lines import Line2D

    arguments = {"frameon": False, "fontsize": 9, "labelcolor": INK} | arguments
    for handle in owner.legend(**arguments).legend_handles:
        if isinstance(handle, Line2D):
            handle.set_alpha(1.0)


def figure_legend(figure: Figure) -> None:
    """Adds one legend for all axes below a figure; equal labels appear once."""
    found: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    style = {"loc": "outside lower center", "ncols": 5, "fontsize": 10}
    legend(figure, handles=list(found.values()), labels=list(found), **style)


def colour_bar(axes: Axes, shown: Any, label: str) -> None:
    """Adds a colour bar beside the axes, of the same height."""
    bar = axes.figure.colorbar(shown, cax=axes.inset_axes((1.02, 0.0, 0.03, 1.0)))
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.set_label(label, color=GREY, fontsize=9)
    bar.ax.tick_params(labelcolor=GREY, labelsize=8, length=0)


def short_number(value: float, _: Any = None) -> str:
    """Formats the number of a tick.

    >>> short_number(250_000), short_number(1_500_000), short_number(20)
    ('250k', '1.5M', '20')
    """
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def count_axis(axis: Axis) -> None:
    """Labels an axis of counts with short whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(6, integer=True))
    axis.set_major_formatter(short_number)


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Writes a figure as a PNG."""
    figure.savefig(path, dpi=160, format="png")
