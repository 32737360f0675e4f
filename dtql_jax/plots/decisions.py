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
_NETWORKS = {
    "dtql": dtql.make_networks,
    "dql_kl": dql_kl.make_networks,
    "dql": dql.make_networks,
}
_ACROSS = 3  # panels in a row


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
      name: name of the algorithm, which `check` accepts.
      settings: its settings by field.
      state: the train state of one member.
      observations: [n, O].
      key: random key.
    """
    config = ALGORITHMS[name][0](**settings)
    networks: Any = _NETWORKS[name](config)
    single = make_algorithm(name, {**settings, "action_selection": "single"}).act
    as_run = make_algorithm(name, dict(settings)).act
    grid = jnp.linspace(-config.max_action, config.max_action, GRID)
    plane = jnp.stack(jnp.meshgrid(grid, grid), axis=-1).reshape(-1, 2)

    @jax.jit
    def look(observation: Array, key: Array) -> Any:
        keys = jax.random.split(key, 3)

        def draws(act: Any, key: Array, number: int) -> Array:
            # in small batches: 64 choices among 1,024 candidates each would take a gigabyte
            each = jax.random.split(key, number)
            return jax.lax.map(lambda k: act(state, observation, k), each, batch_size=8)

        candidates, chosen = draws(single, keys[0], CANDIDATES), draws(as_run, keys[1], CHOSEN)
        q = common.min_q(networks.critic, state.target_critics, observation, plane)
        behaviour = None
        if name != "dql":
            behaviour = edm.sample(
                lambda *inputs: networks.denoiser.apply(state.diffusion.params, *inputs),
                common.repeat(observation, BEHAVIOUR),
                jax.random.normal(keys[2], (BEHAVIOUR, 2)),
                config.max_action,
            )
        return Decision(candidates, chosen, behaviour, grid, q.reshape(GRID, GRID))  # type: ignore

    found = [look(o, jax.random.fold_in(key, i)) for i, o in enumerate(jnp.asarray(observations))]
    return jax.tree.map(np.asarray, found)


def draw(
    decisions: Sequence[Decision],
    path: str | os.PathLike,
    *,
    maze: Maze,
    positions: np.ndarray,
    steps: np.ndarray,
    goal: np.ndarray | None,
    title: str,
    subtitle: str,
) -> None:
    """Draws the maze with the numbered states, then a panel of actions for each state.

    Args:
      decisions: one for each of the n states.
      path: the PNG file.
      maze: the maze.
      positions: [T + 1, 2], the path of the episode, in metres.
      steps: [n], the steps of the states in the episode.
      goal: [2], or None where it is unknown.
      title: first line above the figure.
      subtitle: second line.
    """
    down = math.ceil((len(decisions) + 1) / _ACROSS)
    figure, grid = style.figure(3.6 * _ACROSS, 3.6 * down + 0.9, down, _ACROSS)
    states, *panels = grid.flat
    _draw_states(states, maze, positions, steps, goal)
    for i, (axes, decision) in enumerate(zip(panels, decisions, strict=False)):
        _draw_decision(axes, decision)
        style.panel_title(axes, f"state {i + 1}: step {steps[i]}")
    for axes in panels[len(decisions) :]:
        axes.remove()
    style.figure_legend(figure)
    style.figure_title(figure, f"{title}\n{subtitle}")
    style.save(figure, path)


def _draw_states(
    axes: Axes, maze: Maze, positions: np.ndarray, steps: np.ndarray, goal: np.ndarray | None
) -> None:
    mazes.draw_walls(axes, maze)
    axes.plot(*positions.T, color=style.GREEN, linewidth=1.6, label="path of the episode")
    for i, place in enumerate(positions[steps]):
        axes.plot(*place, "o", color="white", markeredgecolor=style.INK, markersize=13, zorder=6)
        axes.annotate(
            str(i + 1), tuple(place), ha="center", va="center", fontsize=8.5, zorder=7,
            color=style.INK,
        )  # fmt: skip
    if goal is not None:
        mazes.draw_goals(axes, goal[None])
    style.panel_title(axes, "states")


def _draw_decision(axes: Axes, decision: Decision) -> None:
    grid, bound = decision.grid, 1.06 * float(decision.grid[-1])
    axes.grid(False)
    if np.ptp(decision.q) > 0:
        shown = axes.contourf(grid, grid, decision.q, levels=14, cmap="Greys_r", alpha=0.5)
        style.colour_bar(axes, shown, "min(Q1, Q2) (reward)")
    dots = {"linestyle": "none", "markersize": 4}
    small = dots | {"marker": ".", "alpha": 0.8}
    if decision.behaviour is not None:
        axes.plot(*decision.behaviour.T, color=style.ORANGE, label="diffusion policy", **small)
    axes.plot(*decision.candidates.T, color=style.BLUE, label="candidates", **small)
    axes.plot(
        *decision.chosen.T, marker="o", color="white", markeredgecolor=style.VERMILION,
        markeredgewidth=0.9, label="chosen", **dots,
    )  # fmt: skip
    axes.set(xlim=(-bound, bound), ylim=(-bound, bound), aspect="equal")
    axes.set(xlabel="action 1: force in x (N)", ylabel="action 2: force in y (N)")
