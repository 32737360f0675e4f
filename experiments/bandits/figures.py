"""Pictures of the panels: the paper's figure, and the same over training as a GIF."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.bandits import scoring
from experiments.bandits.panels import ROW_NAMES, ROWS, Panel
from experiments.bandits.problems import Bandit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_RED, _INK, _GREY = "#E3120B", "#22262B", "#6B737C"
_LIMIT = 18.0  # of both axes; samples beyond are counted in the corner
_DPI = 150
TITLES = {"gaussians": "25 Gaussians", "swiss_roll": "swiss roll"}


def _grid(rows: int, columns: int, width: float, height: float) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0.01, hspace=0.02)
    figure = Figure((width, height), layout=layout, facecolor="white")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set(xlim=(-_LIMIT, _LIMIT), ylim=(-_LIMIT, _LIMIT), aspect="equal")
        axes.set(xticks=(-10, 0, 10), yticks=(-10, 0, 10))
        axes.tick_params(colors=_GREY, labelsize=7, length=2)
        axes.label_outer()
        for spine in axes.spines.values():
            spine.set_color("#AAB0B7")
    return figure, grid


def _data(axes: Axes, bandit: Bandit) -> Any:
    relative = bandit.reward(bandit.actions) / bandit.best
    return axes.scatter(
        *bandit.actions.T, c=relative, s=2.0, cmap="viridis", vmin=0.0, vmax=1.0,
        linewidths=0, rasterized=True,
    )  # fmt: skip


def _samples(axes: Axes, samples: np.ndarray) -> int:
    """Draws samples in red; returns how many lie beyond the picture."""
    inside = (np.abs(samples) <= _LIMIT).all(axis=-1)
    axes.scatter(*samples[inside].T, s=5.0, c=_RED, alpha=0.55, linewidths=0, rasterized=True)
    return int(np.sum(~inside))


def _beyond(axes: Axes, number: int, total: int) -> None:
    if number:
        share = "<1" if number < 0.005 * total else f"{100 * number / total:.0f}"
        axes.text(
            0.97, 0.03, f"{share}% beyond the frame",
            transform=axes.transAxes,
            ha="right", va="bottom", fontsize=7, color=_RED,
        )  # fmt: skip


def _bar(figure: Figure, points: Any, grid: Any) -> None:
    bar = figure.colorbar(points, ax=grid, shrink=0.6, aspect=30, pad=0.01)
    bar.set_label("reward of the data / best mode's", fontsize=8, color=_GREY)
    bar.ax.tick_params(labelsize=7, colors=_GREY)
    bar.outline.set_visible(False)


def figure(
    config: Mapping[str, Any],
    bandits: Mapping[str, Bandit],
    panels: Sequence[Panel],
    path: str | os.PathLike,
) -> None:
    """Draws the PNG: trust region above, KL below, a column for each bandit.

    Under a panel stand the mean reward of the samples over the best mode's, and the share of them
    outside the support.

    Args:
      config: the study's.
      bandits: by name.
      panels: of `panels.train`.
      path: of the PNG.
    """
    names = list(bandits)
    drawn, grid = _grid(len(ROWS), len(names), 2.35 * len(names) + 0.9, 5.75)
    points = None
    for panel in panels:
        axes = grid[ROWS.index(panel.row)][names.index(panel.name)]
        bandit, samples = bandits[panel.name], panel.shown()
        points = _data(axes, bandit)
        _beyond(axes, _samples(axes, samples), len(samples))
        found = scoring.score(samples, bandit)
        axes.set_xlabel(
            f"reward {scoring.reward_text(found.reward)}    outside {100 * found.outside:.1f}%",
            fontsize=9, color=_INK,
        )  # fmt: skip
        if panel.row == ROWS[0]:
            own = config["panels"][panel.name]
            title = f"{TITLES[own['data']]}, {own['reward'].replace('_', ' ')}"
            axes.set_title(title, fontsize=10, fontweight="bold", color=_INK)
        if panel.name == names[0]:
            axes.set_ylabel(
                ROW_NAMES[panel.row], fontsize=10, fontweight="bold", color=_INK, labelpad=2
            )
    _bar(drawn, points, grid)
    drawn.savefig(path, dpi=_DPI, format="png")


def animation(
    config: Mapping[str, Any],
    bandits: Mapping[str, Bandit],
    panels: Sequence[Panel],
    path: str | os.PathLike,
    *,
    frames: int = 24,
) -> None:
    """Draws a GIF over training: both policies' samples, and the diffusion policy's below them.

    Args:
      config: the study's.
      bandits: by name.
      panels: of `panels.train`.
      path: of the GIF.
      frames: pictures in it, evenly over the updates, the first and the last among them.
    """
    from PIL import Image

    names = list(bandits)
    last = max(int(panel.steps[-1]) for panel in panels)
    pictures = []
    for step in np.linspace(0, last, frames):
        rows = (*ROWS, "diffusion")
        drawn, grid = _grid(len(rows), len(names), 1.5 * len(names) + 0.4, 4.9)
        for panel in panels:
            # a shorter training stands still at its end
            now = int(np.searchsorted(panel.steps, min(step, panel.shown_at), side="right")) - 1
            places = [(rows.index(panel.row), panel.policy[now])]
            if panel.row == "trust_region":
                places.append((2, panel.behaviour[now]))
            for row, samples in places:
                axes = grid[row][names.index(panel.name)]
                _faint(axes, bandits[panel.name])
                _samples(axes, samples)
                axes.set(xticks=(), yticks=())
        for name, axes in zip(names, grid[0], strict=True):
            own = config["panels"][name]
            axes.set_title(f"{TITLES[own['data']]}, {own['reward']}", fontsize=8, color=_INK)
        for label, axes in zip(("trust region", "KL", "diffusion policy"), grid[:, 0], strict=True):
            axes.set_ylabel(label, fontsize=8, fontweight="bold", color=_INK)
        drawn.suptitle(f"update {step:,.0f}", fontsize=9, color=_INK, x=0.5)
        buffer = io.BytesIO()
        drawn.savefig(buffer, dpi=80, format="png")
        pictures.append(Image.open(buffer).convert("RGB"))
    # one palette for all frames: without it each has its own and the colours flicker
    palette = pictures[-1].quantize(48)
    indexed = [p.quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
    durations = [180] * (len(indexed) - 1) + [2_500]
    indexed[0].save(
        path, format="GIF", save_all=True, append_images=indexed[1:], duration=durations, loop=0,
        optimize=True,
    )  # fmt: skip


def _faint(axes: Axes, bandit: Bandit) -> None:
    every = max(1, len(bandit.actions) // 2_000)
    kept = bandit.actions[::every]
    axes.scatter(
        *kept.T, c=bandit.reward(kept) / bandit.best, s=1.0, cmap="viridis", vmin=0.0, vmax=1.0,
        linewidths=0,
    )  # fmt: skip
