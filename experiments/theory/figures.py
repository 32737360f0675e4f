"""The figure of the study: one panel for each weight."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtql_jax.diffusion.weighting import WEIGHTINGS
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


def draw(actions: np.ndarray, mixture: Mixture, found: Sequence[Any], path: Path) -> None:
    """Draws -log p, the losses of the exact and the trained denoisers, and their minima.

    Args:
      actions: [G], the grid.
      mixture: the data; its density is drawn along the bottom.
      found: the study's curves.
      path: of the PNG.
    """
    from matplotlib.lines import Line2D

    figure, ((*panels,),) = study.new_figure(10.6, 4.9, 1, len(WEIGHTINGS), sharey=True)
    log_p = mixture.log_density(actions)
    bottom = -float(log_p.max()) - _BELOW
    for axes, weights in zip(panels, WEIGHTINGS, strict=True):
        axes.grid(False)
        own = [curve for curve in found if curve.weights == weights]
        _density(axes, actions, mixture, bottom)
        axes.plot(actions, -log_p, color=INK, linewidth=3.4, alpha=0.35, label="$-\\log\\,p(a|s)$")
        exact, *trained = own
        for curve in trained:
            label = "trained denoisers" if curve is trained[-1] else None
            axes.plot(actions, curve.values, color=_TRAINED, linewidth=1.1, alpha=0.75, label=label)
        axes.plot(
            actions, exact.values, color=_EXACT, linewidth=1.8, linestyle=(0, (5, 2)),
            label="exact denoiser",
        )  # fmt: skip
        for curve in own:
            marker, colour, size = ("*", _EXACT, 14) if curve is exact else ("v", _TRAINED, 7)
            at = int(np.argmin(curve.values))
            axes.plot(
                actions[at], curve.values[at], marker, color=colour, markersize=size,
                markeredgecolor="white", markeredgewidth=0.8, zorder=6,
            )  # fmt: skip
        at = int(np.argmin(exact.values))
        axes.annotate(
            f"minimum at {actions[at]:.3f}", (actions[at], exact.values[at]),
            (0, 11 if exact.values[at] > 0.0 else -18),
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
