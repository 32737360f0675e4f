"""Learning curves of the table's runs, a panel for each task and dataset."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments import study
from experiments.paper_table.settings import ALGORITHMS
from experiments.paper_table.table import Row, groups, name

_ACROSS = 3
_COLOURS = dict(zip(ALGORITHMS, study.COLOURS, strict=False))


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draws scores against updates: means over seeds, standard errors as bands.

    The score of the last checkpoint, as in the table, is the diamond at the end. Dashed: mean
    return of the data's episodes. Dotted: the paper's score, where it is comparable.

    Args:
      rows: of `results.read_runs`.
      path: of the PNG.
    """
    from matplotlib.ticker import EngFormatter

    panels = groups(rows)
    across, down = min(_ACROSS, len(panels)), -(-len(panels) // _ACROSS)
    figure, grid = study.new_figure(4.1 * across, 2.7 * down + 0.2, down, across)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, panel in zip(grid.flat, panels, strict=False):
        for row in panel:
            colour, error = _COLOURS.get(row["algorithm"], study.GREY), row["standard_error"] or 0.0
            at, scores = np.array(row["curve"]["updates"]), row["curve"]["scores"]
            if len(at) > 1:
                found = [study.over_seeds(seeds) for seeds in scores]
                mean = np.array([m for m, _ in found])
                band = np.array([e or 0.0 for _, e in found])
                axes.plot(at, mean, color=colour, linewidth=1.5)
                axes.fill_between(at, mean - band, mean + band, color=colour, alpha=0.16, lw=0)
            axes.errorbar(
                row["updates"], row["mean"], error, fmt="D", color=colour, markersize=4, capsize=3,
                label=f"{name(row)} ({row['seeds']})",
            )  # fmt: skip
        first = panel[0]
        if first["score_name"] == "return" and first["data_return"] is not None:
            axes.axhline(first["data_return"], color=study.GREY, linestyle="--", linewidth=1)
        for row in panel:
            if row["paper"] is not None:
                axes.axhline(row["paper"]["score"], color=study.INK, linestyle=":", linewidth=1.2)
        if first["score_name"] == "success rate":
            axes.set_ylim(-4, 104)
        unit = " (%)" if first["score_name"] == "success rate" else ""
        axes.set_ylabel(first["score_name"] + unit, fontsize=8)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 100k
        axes.set_xlabel(f"updates of batch {first['batch_size']:,}", fontsize=8)
        axes.set_title(first["task"], loc="left", pad=14, fontsize=10, fontweight="bold")
        axes.annotate(
            f"{first['source']}: {first['dataset_id']}", (0, 1), (0, 4), fontsize=5.5,
            xycoords="axes fraction", textcoords="offset points", color=study.GREY,
        )  # fmt: skip
        axes.legend(frameon=False, fontsize=7, loc="best", title="(seeds)", title_fontsize=6)
    study.save_figure(figure, path)
