"""Learning curves of the table's runs, a panel for each task and dataset."""

from collections.abc import Sequence
from pathlib import Path

from experiments import study
from experiments.paper_table.settings import ALGORITHMS
from experiments.paper_table.table import Row, groups, has_data_return, name

_ACROSS = 3
_COLOURS = dict(zip(ALGORITHMS, study.COLOURS, strict=False))


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draws scores against updates: means over seeds, standard errors as bands.

    The diamond at the end is the last checkpoint's score, as in the table. Dashed: mean return of
    the data's episodes. Dotted: the paper's score, where it is comparable.

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
            colour = _COLOURS.get(row["algorithm"], study.GREY)
            if len(row["curve"]["updates"]) > 1:
                study.draw_curve(axes, row["curve"]["updates"], row["curve"]["scores"], colour)
            axes.errorbar(
                row["updates"], row["mean"], row["standard_error"] or 0.0, fmt="D", color=colour,
                markersize=4, capsize=3, label=f"{name(row)} ({row['seeds']})",
            )  # fmt: skip
            if row["paper"] is not None:
                axes.axhline(row["paper"]["score"], color=study.INK, linestyle=":", linewidth=1.2)
        first = panel[0]
        if has_data_return(first):
            axes.axhline(first["data_return"], color=study.GREY, linestyle="--", linewidth=1)
        study.score_axis(axes, first["score_name"])
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 100k
        axes.set_xlabel(f"updates of batch {first['batch_size']:,}", fontsize=8)
        axes.set_title(first["task"], loc="left", pad=14, fontsize=10, fontweight="bold")
        axes.annotate(
            f"{first['source']}: {first['dataset_id']}", (0, 1), (0, 4), fontsize=5.5,
            xycoords="axes fraction", textcoords="offset points", color=study.GREY,
        )  # fmt: skip
        axes.legend(frameon=False, fontsize=7, loc="best", title="(seeds)", title_fontsize=6)
    study.save_figure(figure, path)
