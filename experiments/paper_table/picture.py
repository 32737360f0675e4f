"""The table as a picture: a small one for each task, as tasks have no common scale."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.paper_table.settings import ALGORITHMS

_PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")  # Okabe and Ito's
_COLOURS: dict[str, str] = dict(zip(ALGORITHMS, _PALETTE, strict=True))
_INK, _GREY = "#22262B", "#6B737C"
_ACROSS = 3


def draw(rows: Sequence[Mapping[str, Any]], path: Path, names_of: Mapping[str, str]) -> None:
    """Draws mean and standard error of each algorithm, seeds as dots, a panel a row.

    Dashed: the mean return of the data's own episodes. Dotted: the paper's score, only where it
    may stand there.

    Args:
      rows: of `table.rows`.
      path: of the PNG.
      names_of: what algorithms are called in it.
    """
    from matplotlib.figure import Figure

    across, down = min(_ACROSS, len(rows)), -(-len(rows) // _ACROSS)
    figure = Figure((3.4 * across, 2.2 * down + 0.3), layout="constrained", facecolor="white")
    grid = figure.subplots(down, across, squeeze=False)
    for axes in grid.flat[len(rows) :]:
        axes.set_axis_off()
    for axes, row in zip(grid.flat, rows, strict=False):
        names = [n for n in (*ALGORITHMS, *row["cells"]) if n in row["cells"]]
        names = list(dict.fromkeys(names))
        for place, name in enumerate(reversed(names)):
            cell, colour = row["cells"][name], _COLOURS.get(name, _GREY)
            seeds = cell["score_by_seed"]
            axes.plot(seeds, [place] * len(seeds), "o", color=colour, alpha=0.35, markersize=4)
            error = cell["standard_error"] or 0.0
            axes.errorbar(cell["mean"], place, xerr=error, fmt="D", color=colour, capsize=3)
        axes.set_yticks(
            range(len(names)), [names_of.get(n, n) for n in reversed(names)], fontsize=8
        )
        axes.set_ylim(-0.6, len(names) - 0.4)
        first = row["cells"][names[0]]
        if row["score_name"] == "return" and first["behaviour_return"] is not None:
            axes.axvline(first["behaviour_return"], color=_GREY, linestyle="--", linewidth=1)
        if first["paper"] is not None:
            axes.axvline(first["paper"]["score"], color=_INK, linestyle=":", linewidth=1.2)
        if row["score_name"] == "success rate":
            axes.set_xlim(-4, 104)
        unit = " (%)" if row["score_name"] == "success rate" else ""
        axes.set_xlabel(row["score_name"] + unit, fontsize=8, color=_GREY)
        axes.set_title(row["task"], loc="left", pad=17, fontsize=9, fontweight="bold", color=_INK)
        folder, slash, name = row["dataset_id"].rpartition("/")  # too long for one line in mazes
        axes.annotate(
            f"{row['source']}: {folder}{slash}\n{name}", (0, 1), (0, 2), xycoords="axes fraction",
            textcoords="offset points", fontsize=5, color=_GREY,
        )  # fmt: skip
        axes.tick_params(colors=_GREY, labelsize=8)
        axes.grid(axis="x", color="#E6E8EB", linewidth=0.7)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=140, format="png")
