"""The figure: the paper's two rows, and the project's own setting below."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import study
from experiments.bandits import panels, scoring

_RED = "#E3120B"
_LIMIT = 18.0  # of both axes; samples beyond are counted in the corner


def draw(config: Mapping[str, Any], found: Sequence[panels.Panel], path: Path) -> None:
    """Draws the PNG: a row for each of `panels.ROWS`, a column for each bandit.

    Each panel shows the seed whose outcome is the most common. Under it stand the numbers of all
    seeds.

    Args:
      config: the study's.
      found: of `panels.compute`.
      path: of the PNG.
    """
    names = list(config["panels"])
    width, height = 2.5 * len(names) + 0.9, 2.75 * len(panels.ROWS) + 0.2
    figure, grid = study.new_figure(width, height, len(panels.ROWS), len(names))
    points = None
    for panel in found:
        if panel.row not in panels.ROWS:
            continue
        axes = grid[list(panels.ROWS).index(panel.row)][names.index(panel.name)]
        population = panel.population
        bandit, samples = panel.bandits[population.shown], panel.samples[population.shown]
        axes.grid(visible=False)
        points = axes.scatter(
            *bandit.actions.T, c=bandit.reward(bandit.actions) / bandit.best, s=2.0,
            cmap="viridis", vmin=0.0, vmax=1.0, linewidths=0, rasterized=True,
        )  # fmt: skip
        seen = (np.abs(samples) <= _LIMIT).all(axis=-1)
        axes.scatter(*samples[seen].T, s=5.0, c=_RED, alpha=0.55, linewidths=0, rasterized=True)
        if not seen.all():
            beyond = 100 * np.mean(~seen)
            axes.text(
                0.97, 0.03, f"{'<1' if beyond < 1 else f'{beyond:.0f}'} % beyond the frame",
                transform=axes.transAxes, ha="right", va="bottom", fontsize=7, color=_RED,
            )  # fmt: skip
        axes.set(xlim=(-_LIMIT, _LIMIT), ylim=(-_LIMIT, _LIMIT), aspect="equal")
        axes.set(xticks=(-10, 0, 10), yticks=(-10, 0, 10))
        text = scoring.number_text
        axes.set_xlabel(
            f"reward {text(population.reward)}    outside {100 * population.outside:.0f} %\n"
            f"{population.inside_seeds} of {len(panel.numbers)} seeds inside    "
            f"distance {text(population.distance)}",
            fontsize=8, color=study.INK,
        )  # fmt: skip
        if panel.row == "trust_region":
            axes.set_title(
                panels.title(config["panels"][panel.name]), fontsize=10, fontweight="bold"
            )
        if panel.name == names[0]:
            axes.set_ylabel(panels.ROWS[panel.row], fontsize=10, fontweight="bold", color=study.INK)
    bar = figure.colorbar(points, ax=grid, shrink=0.5, aspect=35, pad=0.01)
    bar.set_label("reward of the data / best mode's", fontsize=8, color=study.GREY)
    bar.ax.tick_params(labelsize=7, colors=study.GREY)
    bar.outline.set_visible(False)
    study.save_figure(figure, path)
