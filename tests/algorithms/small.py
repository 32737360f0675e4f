"""Small networks and random batches for the tests of the algorithms."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.types import Transition

OBSERVATION_DIM, ACTION_DIM, MAX_ACTION = 5, 2, 1.5

# settings that keep compilation and updates short, by algorithm
SMALL: dict[str, dict[str, Any]] = {
    "dtql": {"num_candidates": 8, "time_dim": 8},
    "dql": {"num_candidates": 8, "time_dim": 8, "num_timesteps": 2, "grad_norm": 0.5},
    "dql_kl": {"num_candidates": 8, "time_dim": 8},
    "idql": {"num_candidates": 8, "time_dim": 8, "num_timesteps": 2, "num_blocks": 1},
    "fql": {"depth": 2, "flow_steps": 2},
    "iql": {},
    "bc": {"time_dim": 8, "num_timesteps": 2, "num_levels": 2},
}


def settings(name: str, **changes: Any) -> dict[str, Any]:
    """Small settings of the algorithm `name`."""
    return {"hidden_dim": 16, "max_action": MAX_ACTION} | SMALL[name] | changes


def batch(rows: int, seed: int = 0) -> Transition:
    """A random batch; its first action is on the bound, its last transition is terminal."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-MAX_ACTION, MAX_ACTION, (rows, ACTION_DIM))
    actions[0] = MAX_ACTION
    masks = np.ones(rows)
    masks[-1] = 0.0
    arrays = (
        rng.normal(size=(rows, OBSERVATION_DIM)),
        actions,
        rng.normal(size=(rows, OBSERVATION_DIM)),
        rng.normal(size=rows),
        masks,
    )
    return Transition(*(jnp.asarray(x, jnp.float32) for x in arrays))


def jit(function: Callable[..., Any]) -> Any:
    """jax.jit for programs that run once: compiling them is what takes the time."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def max_difference(a: Any, b: Any) -> float:
    """The largest difference between two trees of the same structure."""
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.max(np.abs(np.asarray(x) - np.asarray(y)))) for x, y in leaves)
