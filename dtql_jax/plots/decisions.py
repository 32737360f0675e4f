"""What is behind an action: candidates, what the critics think, what the behaviour would do.

For algorithms that choose among candidates by critics, in tasks with two actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax import networks
from dtql_jax.algorithms import ALGORITHMS, common, dql, make_algorithm
from dtql_jax.diffusion import edm
from dtql_jax.errors import UserError
from dtql_jax.types import Array

CANDIDATES, CHOSEN, BEHAVIOUR, GRID = 256, 64, 256, 61
# critics by algorithm; those with a diffusion policy apart from the acting one
_CRITICS = {
    "dtql": lambda config: networks.DoubleCritic(config.hidden_dim),
    "dql_kl": lambda config: networks.DoubleCritic(config.hidden_dim),
    "dql": dql.critic_network,
}
_WITH_DIFFUSION = ("dtql", "dql_kl")


class Decision(NamedTuple):
    """One state's decision; actions are [., 2].

    Attributes:
      candidates: [256, 2] single draws of the acting policy.
      chosen: [64, 2] actions as the run acts.
      behaviour: [256, 2] samples of the diffusion policy (behaviour cloning), or None where the
        acting policy is the diffusion itself.
      grid: [G] values of either action.
      q: [G, G] min(Q1, Q2) of the target critics at (grid[column], grid[row]).
    """

    candidates: np.ndarray
    chosen: np.ndarray
    behaviour: np.ndarray | None
    grid: np.ndarray
    q: np.ndarray


def check(algorithm: str, action_dim: int) -> None:
    """UserError where decisions of such an algorithm or such actions cannot be shown."""
    if algorithm not in _CRITICS:
        raise UserError(
            f"{algorithm} has no candidates and critics to show; expected {', '.join(_CRITICS)}"
        )
    if action_dim != 2:
        raise UserError(f"actions have {action_dim} entries; decisions are drawn for 2 of them")


def explain(
    name: str, settings: Mapping[str, Any], state: Any, observations: Array, key: Array
) -> list[Decision]:
    """Looks behind the actions at some states.

    Args:
      name: of the algorithm: dtql, dql_kl or dql.
      settings: of the algorithm, by field.
      state: of one member.
      observations: [n, O].
      key: of the draws.

    Raises:
      UserError: see `check`.
    """
    check(name, 2)
    config = ALGORITHMS[name][0](**settings)
    one = make_algorithm(name, dict(settings) | {"action_selection": "single"})
    as_run = make_algorithm(name, dict(settings))
    grid = jnp.linspace(-config.max_action, config.max_action, GRID)
    plane = jnp.stack(jnp.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    critic = _CRITICS[name](config)

    def draws(act: Any, observation: Array, key: Array, number: int) -> Array:
        # one at a time: 64 choices among 1,024 candidates each would take a gigabyte
        keys = jax.random.split(key, number)
        return jax.lax.map(lambda k: act(state, observation, k), keys, batch_size=8)

    @jax.jit
    def look(observation: Array, key: Array) -> tuple[Array, ...]:
        keys = jax.random.split(key, 3)
        candidates = draws(one.act, observation, keys[0], CANDIDATES)
        chosen = draws(as_run.act, observation, keys[1], CHOSEN)
        q = common.min_q(critic, state.target_critics, observation, plane).reshape(GRID, GRID)
        if name not in _WITH_DIFFUSION:
            return candidates, chosen, q
        denoiser = networks.Denoiser(2, config.hidden_dim, config.time_dim)
        behaviour = edm.sample(
            lambda *inputs: denoiser.apply(state.diffusion.params, *inputs),
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
