"""The figure of the study: one panel for each weight."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments import study
from experiments.study import COLOURS, GREY, INK, LIGHT
from experiments.theory.mixture import Mixture

_EXACT, _TRAINED = COLOURS[:2]
_TITLES = {
    "edm": "EDM's weight, as DTQL trains",
    "elbo": "ELBO's weight, as the theorem asks",
}
_ABOVE, _BELOW = 5.2, 2.4  # nats shown above and below the highest mode's -log p
_DENSITY = 1.2  # height of the density's highest mode, in nats of the vertical axis


def draw(
    actions: np.ndarray, mixture: Mixture, found: Mapping[str, study.Arrays], path: Path
) -> None:
    """Draws -log p, the losses of the exact and the trained denoisers, and their minima.

    Args:
      actions: [G], the grid.
      mixture: the data; its density is drawn along the bottom.
      found: {weights: {"exact": [G], "trained": [P, G]}}, losses in nats.
      path: of the PNG.
    """
    from matplotlib.lines import Line2D

    figure, ((*panels,),) = study.new_figure(10.6, 4.9, 1, len(found), sharey="row")
    log_p = mixture.log_density(actions)
    bottom = -float(log_p.max()) - _BELOW

    def mark_minimum(axes: Any, curve: np.ndarray, marker: str, colour: str, size: int) -> int:
        at = int(np.argmin(curve))
        axes.plot(
            actions[at], curve[at], marker, color=colour, markersize=size,
            markeredgecolor="white", markeredgewidth=0.8, zorder=6,
        )  # fmt: skip
        return at

    for axes, (weights, curves) in zip(panels, found.items(), strict=True):
        exact = curves["exact"]
        axes.grid(False)
        _density(axes, actions, mixture, bottom)
        axes.plot(actions, -log_p, color=INK, linewidth=3.4, alpha=0.35, label="$-\\log\\,p(a|s)$")
        for i, curve in enumerate(curves["trained"]):
            label = None if i else "trained denoisers"
            axes.plot(actions, curve, color=_TRAINED, linewidth=1.1, alpha=0.75, label=label)
        dashes = (0, (5, 2))
        axes.plot(
            actions, exact, color=_EXACT, linewidth=1.8, linestyle=dashes, label="exact denoiser"
        )
        at = mark_minimum(axes, exact, "*", _EXACT, 14)
        for curve in curves["trained"]:
            mark_minimum(axes, curve, "v", _TRAINED, 7)
        axes.annotate(
            f"minimum at {actions[at]:.3f}", (actions[at], exact[at]),
            (0, 11 if exact[at] > 0.0 else -18),
            textcoords="offset points", ha="center", fontsize=9, color=_EXACT,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0, "alpha": 0.85},
        )  # fmt: skip
        axes.set_title(_TITLES[weights], loc="left", fontsize=12, fontweight="bold", color=INK)
        axes.set(xlim=(-1, 1), ylim=(bottom, bottom + _BELOW + _ABOVE), xlabel="action a")
    panels[0].set_ylabel("trust-region loss, in nats")
    handles, labels = panels[0].get_legend_handles_labels()
    handles += [
        Line2D([], [], marker="*", color=_EXACT, markersize=12, linestyle=""),
        Line2D([], [], marker="v", color=_TRAINED, markersize=7, linestyle=""),
    ]
    labels += ["minimum, exact", "minima, trained"]
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=9.5)
    study.save_figure(figure, path)


def _density(axes: Any, actions: np.ndarray, mixture: Mixture, bottom: float) -> None:
    """Draws p along the bottom, with its modes named."""
    log_p = mixture.log_density(actions)
    height = bottom + _DENSITY * np.exp(log_p - log_p.max())
    axes.fill_between(actions, bottom, height, color="#D5DAE0", linewidth=0)
    axes.plot(actions, height, color=LIGHT, linewidth=0.8)
    for i, mode in enumerate(mixture.modes()):
        axes.axvline(mode, color=LIGHT, linewidth=0.9, linestyle=(0, (2, 3)), zorder=0)
        top = bottom + _DENSITY * float(np.exp(mixture.log_density(mode) - log_p.max()))
        axes.annotate(
            "highest mode" if i == 0 else "mode", (mode, top), (0, 3), ha="center",
            textcoords="offset points", fontsize=8, color=GREY,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
        )  # fmt: skip
