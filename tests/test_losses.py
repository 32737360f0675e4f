"""Losses against numpy, scipy and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dtql_jax import losses


@settings(deadline=None, max_examples=50)
@given(st.floats(0.01, 0.99), st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=20))
def test_expectile_loss(expectile: float, errors: list[float]) -> None:
    u = np.asarray(errors)
    expected = np.mean(np.abs(expectile - (u < 0)) * u**2)
    found = losses.expectile_loss(jnp.asarray(u, jnp.float32), expectile)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_the_expectile_minimises_the_expectile_loss() -> None:
    samples = stats.norm(1.0, 2.0).rvs(4000, random_state=0)
    grid = np.linspace(-2, 6, 801)
    loss = jax.vmap(lambda v: losses.expectile_loss(jnp.asarray(samples) - v, 0.8))(grid)
    found = grid[int(np.argmin(loss))]
    np.testing.assert_allclose(found, stats.expectile(samples, 0.8), atol=0.02)


def test_td_targets_stop_at_the_end_and_at_the_gradient() -> None:
    rewards, masks, values = np.array([1.0, 2.0]), np.array([1.0, 0.0]), np.array([10.0, 10.0])
    np.testing.assert_allclose(losses.td_targets(rewards, masks, values, 0.9), [10.0, 2.0])
    gradient = jax.grad(lambda v: losses.td_targets(rewards, masks, v, 0.9).sum())(values)
    np.testing.assert_array_equal(gradient, 0.0)


def test_twin_td_loss() -> None:
    q = jnp.asarray([[1.0, 2.0], [3.0, 5.0]])
    np.testing.assert_allclose(losses.twin_td_loss(q, jnp.asarray([1.0, 1.0])), 0.5 + 10.0)


def test_nll_against_scipy() -> None:
    rng = np.random.default_rng(1)
    mean, log_std = rng.normal(size=(32, 4)), rng.uniform(-2, 1, (32, 4))
    actions = rng.uniform(-1, 1, (32, 4))
    actions[0] = 1.0  # saturated: finite all the same
    pulled = np.arctanh(actions / 1.001)
    density = stats.norm(mean, np.exp(log_std)).logpdf(pulled)
    found = losses.tanh_gaussian_nll(*map(jnp.asarray, (mean, log_std, actions)), 1.0)
    np.testing.assert_allclose(found, -density.sum(axis=1).mean(), rtol=1e-4)


def test_nll_with_the_correction_is_a_density() -> None:
    # exp(-nll) over a grid of actions integrates to one
    grid = np.linspace(-0.9999, 0.9999, 20_001)[:, None]
    mean, log_std = np.zeros((1, 1)), np.full((1, 1), -0.5)

    def density(action: jax.Array) -> jax.Array:
        return jnp.exp(-losses.tanh_gaussian_nll(mean, log_std, action[None], 1.0, True))

    values = jax.vmap(density)(jnp.asarray(grid))
    np.testing.assert_allclose(np.trapezoid(values, grid[:, 0]), 1.0, atol=2e-3)


def test_trust_region_gradient_flows_through_both_places() -> None:
    rng = np.random.default_rng(2)
    actions, noise = rng.uniform(-0.5, 0.5, (8, 2)), rng.normal(size=(8, 2)) * 0.1
    sigma = np.full(8, 0.3)

    def network(x: jax.Array, s: jax.Array, t: jax.Array) -> jax.Array:
        return jnp.sin(3 * x) + s[..., :2] + t[..., None]

    def loss(a: jax.Array) -> jax.Array:
        return losses.trust_region_loss(network, a, jnp.ones((8, 3)), sigma, noise, 5.0)

    with jax.enable_x64(True):
        gradient = np.asarray(jax.grad(loss)(jnp.asarray(actions)))
        step = 1e-6
        for index in ((0, 0), (3, 1), (7, 0)):
            moved = np.zeros_like(actions)
            moved[index] = step
            slope = (loss(actions + moved) - loss(actions - moved)) / (2 * step)
            np.testing.assert_allclose(gradient[index], slope, rtol=1e-5, atol=1e-9)
