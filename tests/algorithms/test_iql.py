"""IQL: its losses against numpy, and the order of its parts."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dtql_jax import losses
from dtql_jax.algorithms import iql
from dtql_jax.algorithms.config import as_arrays
from tests.algorithms import small

ROWS = 8


def config(**changes: Any) -> iql.IQLConfig:
    return iql.IQLConfig(**small.settings("iql", **changes))


@pytest.fixture(scope="module")
def state() -> iql.IQLState:
    """A state whose target critics differ from the critics."""
    make = small.jit(iql.iql(config()).init)
    state, other = (make(jax.random.key(seed), small.batch(1)) for seed in range(2))
    return state.replace(target_critics=other.critics.params)


def relu_network(params: Any, x: np.ndarray) -> np.ndarray:
    """Two hidden ReLU layers and a linear one, from stored parameters."""
    for i in range(3):
        x = x @ np.asarray(params[f"dense_{i}"]["kernel"]) + np.asarray(
            params[f"dense_{i}"]["bias"]
        )
        x = np.maximum(x, 0.0) if i < 2 else x
    return x


def twin_q(params: Any, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
    x = np.concatenate([observations, actions], axis=-1)
    halves = [jax.tree.map(lambda p, i=i: p[i], params["params"]["q"]) for i in range(2)]
    return np.stack([relu_network(half, x)[:, 0] for half in halves])


def test_expectile_weights() -> None:
    """|0.9 - 1(u < 0)| u^2 of u = (-2, 1): 0.1 * 4 and 0.9 * 1."""
    found = losses.expectile_loss(jnp.array([-2.0, 1.0]), 0.9)
    assert float(found) == pytest.approx((0.4 + 0.9) / 2)


def test_advantage_weights_are_bounded() -> None:
    advantage = jnp.array([-1.0, 0.0, 0.5, 2.0, 1e4])
    expected = [np.exp(-3.0), 1.0, np.exp(1.5), 100.0, 100.0]
    np.testing.assert_allclose(iql.advantage_weights(advantage, 3.0), expected, rtol=1e-6)


def test_step_is_value_then_policy_then_critics(state: iql.IQLState) -> None:
    c, batch = config(expectile=0.8, temperature=2.0, tau=0.1), small.batch(ROWS)
    state = state.replace(config=as_arrays(c))
    after, metrics = small.jit(lambda s: iql.train_update(iql.make_networks(c), c, s, batch))(state)
    s, a, s_next, r, mask = (np.asarray(x) for x in batch)

    q = twin_q(state.target_critics, s, a).min(axis=0)
    v = relu_network(state.value.params["params"], s)[:, 0]
    u = q - v
    value_loss = np.mean(np.where(u < 0, 0.2, 0.8) * u**2)
    np.testing.assert_allclose(metrics["value_loss"], value_loss, rtol=1e-4)

    v_new = relu_network(after.value.params["params"], s)[:, 0]
    weights = np.minimum(np.exp(2.0 * (q - v_new)), 100.0)
    params = state.policy.params["params"]
    mean = small.MAX_ACTION * np.tanh(relu_network(params, s))
    log_std = np.asarray(params["log_std"])
    log_prob = -0.5 * ((a - mean) / np.exp(log_std)) ** 2 - log_std - 0.5 * np.log(2 * np.pi)
    policy_loss = -np.mean(weights * log_prob.sum(-1))
    np.testing.assert_allclose(metrics["policy_loss"], policy_loss, rtol=1e-4)

    next_v = relu_network(after.value.params["params"], s_next)[:, 0]
    error = twin_q(state.critics.params, s, a) - (r + 0.99 * mask * next_v)
    np.testing.assert_allclose(metrics["td_loss"], np.sum(np.mean(error**2, -1)), rtol=1e-4)

    targets = optax.incremental_update(after.critics.params, state.target_critics, 0.1)
    assert small.max_difference(targets, after.target_critics) < 1e-6


def test_learning_rate_of_the_policy_alone_decays(state: iql.IQLState) -> None:
    c, batch = config(decay_steps=10), small.batch(ROWS)
    late = state.replace(policy=state.policy.replace(step=jnp.int32(10)))
    after, _ = small.jit(lambda s: iql.train_update(iql.make_networks(c), c, s, batch))(late)
    assert small.max_difference(after.policy.params, late.policy.params) == 0.0
    assert small.max_difference(after.value.params, late.value.params) > 1e-5


def test_acting_by_mean_or_draw(state: iql.IQLState) -> None:
    observations = small.batch(4).observations
    params = state.policy.params["params"]
    mean = small.MAX_ACTION * np.tanh(relu_network(params, np.asarray(observations)))
    found = iql.iql(config()).act(state, observations, jax.random.key(0))
    np.testing.assert_allclose(found, mean, rtol=1e-4, atol=1e-6)
    keys = jax.random.split(jax.random.key(0), 500)
    single = iql.iql(config(action_selection="single"))
    draw = jax.vmap(lambda k: single.act(state, observations, k))
    drawn = np.asarray(draw(keys))
    assert np.max(np.abs(drawn)) == small.MAX_ACTION  # std 1: some draws are clipped
    assert np.std(drawn, axis=0).min() > 0.5
