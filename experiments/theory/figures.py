"""The picture of the study: one panel for each weight."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from dtql_jax.diffusion.weighting import WEIGHTINGS
from dtql_jax.plots.pictures import BLUE, VERMILION
from experiments.theory.mixture import Mixture
from experiments.theory.study import Curve, grid

_INK, _GREY, _LIGHT = "#22262B", "#6B737C", "#AAB0B7"
_DPI = 160
_TITLES = {
    "edm": "EDM's weight, as DTQL trains",
    "elbo": "ELBO's weight, as the theorem asks",
}
_ABOVE, _BELOW = 5.2, 2.4  # nats of the picture above and below the highest mode's -log p
_DENSITY = 1.2  # height of the density's highest mode, in nats of the picture


def figure(
    config: Mapping[str, Any], mixture: Mixture, found: list[Curve], path: str | os.PathLike
) -> None:
    """Draws the PNG: -log p, the loss of the exact and of the trained denoisers, their minima.

    Args:
      config: the study's.
      mixture: the data; its density lies along the bottom.
      found: of `study.compute`.
      path: of the PNG.
    """
    from matplotlib.figure import Figure

    drawn = Figure((10.6, 4.9), layout="constrained", facecolor="white")
    panels = drawn.subplots(1, len(WEIGHTINGS), sharey=True)
    actions, modes = grid(config), mixture.modes()
    log_p = mixture.log_density(actions)
    bottom = -float(log_p.max()) - _BELOW
    for axes, weights in zip(panels, WEIGHTINGS, strict=True):
        own = [curve for curve in found if curve.weights == weights]
        density = bottom + _DENSITY * np.exp(log_p - log_p.max())
        axes.fill_between(actions, bottom, density, color="#D5DAE0", linewidth=0)
        axes.plot(actions, density, color=_LIGHT, linewidth=0.8)
        for i, mode in enumerate(modes):
            axes.axvline(mode, color=_LIGHT, linewidth=0.9, linestyle=(0, (2, 3)), zorder=0)
            top = bottom + _DENSITY * float(np.exp(mixture.log_density(mode) - log_p.max()))
            axes.annotate(
                "highest mode" if i == 0 else "mode", (mode, top), (0, 3), ha="center",
                textcoords="offset points", fontsize=8, color=_GREY,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
            )  # fmt: skip
        axes.plot(actions, -log_p, color=_INK, linewidth=3.4, alpha=0.35, label="$-\\log\\,p(a|s)$")
        for curve in own:
            if curve.seed is not None:
                label = "trained denoisers" if curve is own[-1] else None
                axes.plot(
                    actions, curve.values, color=VERMILION, linewidth=1.1, alpha=0.75, label=label
                )
        axes.plot(
            actions, own[0].values, color=BLUE, linewidth=1.8, linestyle=(0, (5, 2)),
            label="exact denoiser",
        )  # fmt: skip
        for curve in own:
            at = int(np.argmin(curve.values))
            axes.plot(
                actions[at], curve.values[at], "v" if curve.seed is not None else "*",
                color=VERMILION if curve.seed is not None else BLUE,
                markersize=7 if curve.seed is not None else 14,
                markeredgecolor="white", markeredgewidth=0.8,
                zorder=6 if curve.seed is None else 7,
            )  # fmt: skip
        at = int(np.argmin(own[0].values))
        axes.annotate(
            f"minimum at {actions[at]:.3f}", (actions[at], own[0].values[at]),
            (0, 11 if own[0].values[at] > 0.0 else -18),
            textcoords="offset points", ha="center", fontsize=9, color=BLUE,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0, "alpha": 0.85},
        )  # fmt: skip
        axes.set_title(_TITLES[weights], loc="left", fontsize=12, fontweight="bold", color=_INK)
        axes.set(xlim=(-1, 1), ylim=(bottom, bottom + _BELOW + _ABOVE), xlabel="action a")
        axes.tick_params(colors=_GREY, labelsize=9, length=3)
        axes.xaxis.label.set_color(_GREY)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_color(_LIGHT)
    panels[0].set_ylabel("trust-region loss, in nats", color=_GREY, fontsize=10)
    _legend(drawn, panels[0])
    drawn.savefig(path, dpi=_DPI, format="png")


def _legend(drawn: Any, axes: Any) -> None:
    from matplotlib.lines import Line2D

    handles, labels = axes.get_legend_handles_labels()
    for marker, color, size, label in (
        ("*", BLUE, 12, "minimum, exact"),
        ("v", VERMILION, 7, "minima, trained"),
    ):
        handles.append(Line2D([], [], marker=marker, color=color, markersize=size, linestyle=""))
        labels.append(label)
    drawn.legend(
        handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=9.5,
        labelcolor=_INK, handlelength=2.2, columnspacing=1.8,
    )  # fmt: skip
