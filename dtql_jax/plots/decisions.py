"""Candidate actions, their Q-values and behaviour samples at some states, and their figure.

For algorithms that choose among candidates by their critics, in tasks with two actions.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.algorithms import ALGORITHMS, common, dql, dql_kl, dtql, make_algorithm
from dtql_jax.diffusion import edm
from dtql_jax.errors import UserError
from dtql_jax.plots import mazes, style
from dtql_jax.plots.mazes import Maze
from dtql_jax.types import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CANDIDATES, CHOSEN, BEHAVIOUR, GRID = 256, 64, 256, 61
# Critics by algorithm, and the algorithms with a diffusion policy beside the acting one.
_NETWORKS = {
    "dtql": dtql.make_networks,
    "dql_kl": dql_kl.make_networks,
    "dql": dql.make_networks,
}
_WITH_DIFFUSION = ("dtql", "dql_kl")
_ACROSS = 3


class Decision(NamedTuple):
    """The decision at one state.

    Attributes:
      candidates: [256, 2] single draws of the acting policy.
      chosen: [64, 2] actions chosen as in the run.
      behaviour: [256, 2] samples of the diffusion policy (behaviour cloning), or None where the
        acting policy is the diffusion policy.
      grid: [G] values of either action.
      q: [G, G] min(Q1, Q2) of the target critics at (grid[column], grid[row]).
    """

    candidates: np.ndarray
    chosen: np.ndarray
    behaviour: np.ndarray | None
    grid: np.ndarray
    q: np.ndarray


def check(algorithm: str, action_dim: int) -> None:
    """Raises UserError where decisions of this algorithm or action size cannot be shown."""
    if algorithm not in _NETWORKS:
        raise UserError(
            f"{algorithm} has no candidates and critics to show; expected {', '.join(_NETWORKS)}"
        )
    if action_dim != 2:
        raise UserError(f"actions have {action_dim} entries; decisions are drawn for 2 of them")


def explain(
    name: str, settings: Mapping[str, Any], state: Any, observations: Array, key: Array
) -> list[Decision]:
    """Returns the decisions at some states.

    Args:
      name: the algorithm: dtql, dql_kl or dql.
      settings: its settings by field.
      state: the train state of one member.
      observations: [n, O].
      key: random key.

    Raises:
      UserError: see `check`.
    """
    check(name, 2)
    config = ALGORITHMS[name][0](**settings)
    one = make_algorithm(name, dict(settings) | {"action_selection": "single"})
    as_run = make_algorithm(name, dict(settings))
    grid = jnp.linspace(-config.max_action, config.max_action, GRID)
    plane = jnp.stack(jnp.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    networks: Any = _NETWORKS[name](config)

    def draws(act: Any, observation: Array, key: Array, number: int) -> Array:
        # in small batches: 64 choices among 1,024 candidates each would take a gigabyte
        keys = jax.random.split(key, number)
        return jax.lax.map(lambda k: act(state, observation, k), keys, batch_size=8)

    @jax.jit
    def look(observation: Array, key: Array) -> tuple[Array, ...]:
        keys = jax.random.split(key, 3)
        candidates = draws(one.act, observation, keys[0], CANDIDATES)
        chosen = draws(as_run.act, observation, keys[1], CHOSEN)
        q = common.min_q(networks.critic, state.target_critics, observation, plane).reshape(
            GRID, GRID
        )
        if name not in _WITH_DIFFUSION:
            return candidates, chosen, q
        behaviour = edm.sample(
            lambda *inputs: networks.denoiser.apply(state.diffusion.params, *inputs),
            common.repeat(observation, BEHAVIOUR),
            jax.random.normal(keys[2], (BEHAVIOUR, 2)),
            config.max_action,
        )
        return candidates, chosen, q, behaviour

    found = []
    for i, observation in enumerate(jnp.asarray(observations)):
        parts = [np.asarray(part) for part in look(observation, jax.random.fold_in(key, i))]
        candidates, chosen, q, *behaviour = parts
        diffusion = behaviour[0] if behaviour else None
        found.append(Decision(candidates, chosen, diffusion, np.asarray(grid), q))
    return found


def draw(
    decisions: Sequence[Decision],
    path: str | os.PathLike,
    *,
    maze: Maze,
    positions: np.ndarray,
    steps: np.ndarray,
    goal: np.ndarray | None = None,
    title: str = "",
    subtitle: str = "",
) -> None:
    """Draws the maze with the numbered states, then a panel of actions for each state.

    Args:
      decisions: one for each state.
      path: the PNG file.
      maze: from `mazes.read_maze`.
      positions: [T + 1, 2], the path of the episode.
      steps: [n], the steps of the states in the episode.
      goal: [2], or None where it is unknown.
      title: first line.
      subtitle: second line.

    Raises:
      UserError: there is no decision, or another number of them than of steps.
    """
    if not decisions or len(decisions) != len(steps):
        raise UserError(f"{len(decisions)} decisions for {len(steps)} steps; expected one each")
    down = math.ceil((len(decisions) + 1) / _ACROSS)
    figure, grid = style.figure(3.6 * _ACROSS, 3.6 * down + 0.9, down, _ACROSS)
    panels = list(grid.flat)
    _draw_states(panels[0], maze, positions, steps, goal)
    for i, (axes, decision) in enumerate(zip(panels[1:], decisions, strict=False)):
        _draw_decision(axes, decision)
        style.panel_title(axes, f"state {i + 1}: step {steps[i]}")
    for axes in panels[len(decisions) + 1 :]:
        axes.remove()
    handles, labels = (
        first + second
        for first, second in zip(
            panels[0].get_legend_handles_labels(),
            panels[1].get_legend_handles_labels(),
            strict=True,
        )
    )
    style.legend(
        figure, handles=handles, labels=labels, loc="outside lower center", ncols=4, fontsize=10
    )
    style.figure_title(figure, f"{title}\n{subtitle}" if subtitle else title)
    style.save(figure, path)


def _draw_states(
    axes: Axes, maze: Maze, positions: np.ndarray, steps: np.ndarray, goal: np.ndarray | None
) -> None:
    mazes.draw_walls(axes, maze)
    axes.plot(*positions.T, color=style.GREEN, linewidth=1.6, label="path of the episode")
    for i, step in enumerate(steps):
        axes.plot(
            *positions[step], "o", color="white", markeredgecolor=style.INK, markersize=13,
            zorder=4,
        )  # fmt: skip
        axes.annotate(
            str(i + 1), tuple(positions[step]), ha="center", va="center", fontsize=8.5, zorder=5,
            color=style.INK,
        )  # fmt: skip
    if goal is not None:
        axes.plot(
            *goal, "*", color=style.ORANGE, markeredgecolor=style.INK, markersize=15, zorder=3,
            linestyle="none", label="goal",
        )  # fmt: skip
    style.panel_title(axes, "states")


def _draw_decision(axes: Axes, decision: Decision) -> None:
    grid, bound = decision.grid, 1.06 * float(decision.grid[-1])
    axes.grid(False)
    if np.ptp(decision.q) > 0:
        shown = axes.contourf(grid, grid, decision.q, levels=14, cmap="Greys_r", alpha=0.5)
        style.colour_bar(axes, shown, "min(Q1, Q2)")
    if decision.behaviour is not None:
        axes.plot(
            *decision.behaviour.T, ".", color=style.ORANGE, markersize=4, alpha=0.8,
            label="diffusion policy", zorder=2,
        )  # fmt: skip
    axes.plot(
        *decision.candidates.T, ".", color=style.BLUE, markersize=4, alpha=0.8,
        label="candidates", zorder=3,
    )  # fmt: skip
    axes.plot(
        *decision.chosen.T, "o", color="white", markeredgecolor=style.VERMILION, markersize=4,
        markeredgewidth=0.9, label="chosen", zorder=4,
    )  # fmt: skip
    axes.set(xlim=(-bound, bound), ylim=(-bound, bound), aspect="equal")
    axes.set(xlabel="action 1", ylabel="action 2")
