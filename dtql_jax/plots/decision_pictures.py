"""The picture of `decisions.explain`: states of an episode in the maze, and each one's actions."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dtql_jax.errors import UserError
from dtql_jax.plots import pictures
from dtql_jax.plots.decisions import Decision
from dtql_jax.plots.mazes import Maze

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ACROSS = 3


def draw(
    decisions: Sequence[Decision],
    path: str | os.PathLike,
    *,
    maze: Maze,
    path_of_episode: np.ndarray,
    steps: np.ndarray,
    goal: np.ndarray | None = None,
    title: str = "",
    subtitle: str = "",
) -> None:
    """Draws a PNG: first the maze with the numbered states, then one panel of actions for each.

    In a panel, contours are the critics' min(Q1, Q2) (light: high), orange points samples of the
    diffusion policy, blue ones the acting policy's candidates, and white ones what was chosen.

    Args:
      decisions: one for each state.
      path: of the PNG.
      maze: from `mazes.read_maze`.
      path_of_episode: [T + 1, 2] positions.
      steps: [n], which of them the states are.
      goal: [2], or None where it is not known.
      title: first line.
      subtitle: second line.

    Raises:
      UserError: there is no decision, or another number of them than of steps.
    """
    if not decisions or len(decisions) != len(steps):
        raise UserError(f"{len(decisions)} decisions for {len(steps)} steps; expected one each")
    down = math.ceil((len(decisions) + 1) / _ACROSS)
    figure, grid = pictures._figure(3.4 * _ACROSS, 3.5 * down + 0.9, down, _ACROSS)
    panels = [axes for line in grid for axes in line]
    _draw_states(panels[0], maze, path_of_episode, steps, goal)
    for i, decision in enumerate(decisions):
        axes = panels[i + 1]
        _draw_decision(axes, decision)
        axes.set_title(f"{i + 1}: step {steps[i]}", loc="left", fontsize=10, color=pictures._INK)
    for axes in panels[len(decisions) + 1 :]:
        axes.remove()
    handles, labels = panels[1].get_legend_handles_labels()
    legend = figure.legend(
        handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=10,
        labelcolor=pictures._INK, markerscale=2.5,
    )  # fmt: skip
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1.0)
    words = f"{title}\n{subtitle}" if subtitle else title
    figure.suptitle(words, x=0.01, ha="left", fontsize=12, fontweight="bold", color=pictures._INK)
    pictures._save(figure, path)


def _draw_states(
    axes: Axes, maze: Maze, positions: np.ndarray, steps: np.ndarray, goal: np.ndarray | None
) -> None:
    pictures._draw_walls(axes, maze)
    axes.plot(*positions.T, color=pictures.BLUE, linewidth=1.2, alpha=0.8)
    for i, step in enumerate(steps):
        axes.plot(
            *positions[step], "o", color="white", markeredgecolor=pictures._INK, markersize=13,
            zorder=4,
        )  # fmt: skip
        axes.annotate(
            str(i + 1), tuple(positions[step]), ha="center", va="center", fontsize=8.5, zorder=5,
            color=pictures._INK,
        )  # fmt: skip
    if goal is not None:
        axes.plot(
            *goal, "*", color=pictures.ORANGE, markeredgecolor=pictures._INK, markersize=15,
            zorder=3,
        )  # fmt: skip
    axes.set_title("states (star: goal)", loc="left", fontsize=10, color=pictures._INK)


def _draw_decision(axes: Axes, decision: Decision) -> None:
    grid, bound = decision.grid, float(decision.grid[-1])
    if np.ptp(decision.q) > 0:
        axes.contourf(grid, grid, decision.q, levels=14, cmap="Greys_r", alpha=0.5, zorder=0)
        axes.contour(
            grid,
            grid,
            decision.q,
            levels=14,
            colors="white",
            linewidths=0.5,
            linestyles="solid",
            zorder=1,
        )
    axes.grid(False)
    if decision.behaviour is not None:
        axes.plot(
            *decision.behaviour.T, ".", color=pictures.ORANGE, markersize=3.5, alpha=0.8,
            label="diffusion policy", zorder=2,
        )  # fmt: skip
    axes.plot(
        *decision.candidates.T, ".", color=pictures.BLUE, markersize=3.5, alpha=0.8,
        label="candidates", zorder=3,
    )  # fmt: skip
    axes.plot(
        *decision.chosen.T, "o", color="white", markeredgecolor=pictures.VERMILION, markersize=3.5,
        markeredgewidth=0.9, label="chosen", zorder=4,
    )  # fmt: skip
    axes.set_xlim(-1.06 * bound, 1.06 * bound)
    axes.set_ylim(-1.06 * bound, 1.06 * bound)
    axes.set_aspect("equal")
