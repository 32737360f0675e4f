"""FQL: the flow's integration, and where gradients do not flow. Losses: tests/reference/fql_*."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.algorithms import fql
from tests.algorithms import small

ROWS = 8


def config(**changes: Any) -> fql.FQLConfig:
    return fql.FQLConfig(**small.settings("fql", **changes))


NETWORKS = fql.make_networks(config(), small.ACTION_DIM)


@pytest.fixture(scope="module")
def state() -> fql.FQLState:
    return small.jit(fql.fql(config()).init)(jax.random.key(0), small.batch(1))


def test_flow_of_a_constant_velocity_moves_by_it(state: fql.FQLState) -> None:
    """Euler steps of dx/dt = v end at x + v, whatever their number; then actions are clipped."""
    params = jax.tree.map(jnp.zeros_like, state.flow.params)
    params["params"]["dense_2"]["bias"] = jnp.array([0.25, 5.0])
    noise = jnp.array([[0.5, 0.5], [-1.0, -9.0]])
    for steps in (1, 4):
        found = fql.flow_actions(
            NETWORKS, config(flow_steps=steps), params, jnp.zeros((2, small.OBSERVATION_DIM)), noise
        )
        bound = small.MAX_ACTION
        np.testing.assert_allclose(found, [[0.75, bound], [-0.75, -bound]], rtol=1e-6)


def test_parts_start_from_the_parameters_before_the_step(state: fql.FQLState) -> None:
    """Without a learning rate only the targets move; a policy of any weight leaves the flow."""
    batch = small.batch(ROWS)
    draws = fql.draw(jax.random.key(1), ROWS, small.ACTION_DIM)

    def step(s: fql.FQLState, **changes: Any) -> fql.FQLState:
        c = config(**changes)
        s = s.replace(config=fql.as_arrays(c))
        return small.jit(lambda s: fql.train_update(NETWORKS, c, s, batch, draws)[0])(s)

    moved = jax.tree.map(lambda x: x + 1.0, state.critics.params)
    still = step(state.replace(target_critics=moved), learning_rate=0.0, tau=0.25)
    expected = jax.tree.map(lambda x, y: 0.25 * x + 0.75 * y, state.critics.params, moved)
    assert small.max_difference(still.target_critics, expected) < 1e-6
    assert small.max_difference(still.policy.params, state.policy.params) == 0.0
    light, heavy = step(state, alpha=0.0), step(state, alpha=100.0)
    assert small.max_difference(light.flow.params, heavy.flow.params) == 0.0
    assert small.max_difference(light.critics.params, heavy.critics.params) == 0.0
    assert small.max_difference(light.policy.params, heavy.policy.params) > 1e-5


def test_acting_is_one_bounded_draw(state: fql.FQLState) -> None:
    act = small.jit(fql.fql(config()).act)
    observations = 10.0 * jax.random.normal(jax.random.key(2), (64, small.OBSERVATION_DIM))
    first, second = (act(state, observations, jax.random.key(k)) for k in range(2))
    assert first.shape == (64, small.ACTION_DIM)
    assert float(jnp.max(jnp.abs(first))) <= small.MAX_ACTION
    assert not np.allclose(first, second)
