"""BC: its losses against numpy, and settings that exclude one another."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax import networks
from dtql_jax.algorithms import bc
from tests.algorithms import small

ROWS = 8


def config(**changes: Any) -> bc.BCConfig:
    return bc.BCConfig(**small.settings("bc", **changes))


def fresh(c: bc.BCConfig) -> bc.BCState:
    return small.jit(bc.bc(c).init)(jax.random.key(0), small.batch(1))


def moments(state: bc.BCState, observations: jax.Array) -> Any:
    """Mean and log_std of a Gaussian policy, float64."""
    network = networks.GaussianPolicy(config().hidden_dim)
    both = network.apply(state.policy.params, observations, small.ACTION_DIM)
    return (np.asarray(x, np.float64) for x in both)


def test_gaussian_loss_is_the_negative_log_likelihood() -> None:
    c, batch = config(tanh_correction=True), small.batch(ROWS)
    state = fresh(c)
    unused = jnp.zeros(ROWS), jnp.zeros((ROWS, small.ACTION_DIM))
    found, _ = bc.policy_loss(state.policy.params, batch, *unused, c)
    mean, log_std = moments(state, batch.observations)
    # density of a = scale * tanh(z), z ~ N(mean, std), by the change of variables
    scale, a = small.MAX_ACTION + 1e-3, np.asarray(batch.actions, np.float64)
    z = np.arctanh(a / scale)
    normal = (
        np.exp(-0.5 * ((z - mean) / np.exp(log_std)) ** 2) / np.exp(log_std) / np.sqrt(2 * np.pi)
    )
    density = normal / (scale * (1 - np.tanh(z) ** 2))
    np.testing.assert_allclose(found, -np.mean(np.sum(np.log(density), -1)), rtol=1e-4)


def test_ddpm_loss_and_its_timesteps() -> None:
    c, batch = config(policy="ddpm", num_timesteps=5), small.batch(5)
    state = fresh(c)
    uniform = jnp.array([0.0, 0.19, 0.5, 0.61, 0.99999994])
    noise = jax.random.normal(jax.random.key(2), batch.actions.shape)
    found, _ = bc.policy_loss(state.policy.params, batch, uniform, noise, c)
    timestep = np.array([0, 0, 2, 3, 4])
    betas = 1 - np.exp(-0.1 / 5 - 9.9 * (2 * np.arange(1, 6) - 1) / 50)
    abar = np.cumprod(1 - betas)[timestep][:, None]
    noised = np.sqrt(abar) * np.asarray(batch.actions) + np.sqrt(1 - abar) * np.asarray(noise)
    predicted = networks.NoisePredictor(c.hidden_dim, c.time_dim).apply(
        state.policy.params, jnp.asarray(noised, jnp.float32), batch.observations, timestep * 1.0
    )
    np.testing.assert_allclose(found, np.mean((predicted - noise) ** 2), rtol=1e-5)


def test_acting_by_the_mean_uses_no_noise() -> None:
    c, batch = config(action_selection="mean"), small.batch(3)
    state = fresh(c)
    mean, _ = moments(state, batch.observations)
    found = bc.bc(c).act(state, batch.observations, jax.random.key(0))
    np.testing.assert_allclose(found, small.MAX_ACTION * np.tanh(mean), rtol=1e-5)
    drawn = bc.bc(config()).act(state, batch.observations, jax.random.key(0))
    assert not np.allclose(drawn, found)


def test_learning_rate_decays() -> None:
    c, batch = config(lr_decay=True, decay_steps=10), small.batch(ROWS)
    state = fresh(c)

    @small.jit
    def largest(k: jax.Array) -> jax.Array:
        before = state.replace(policy=state.policy.replace(step=k))
        after, _ = bc.bc(c).train_step(before, batch, jax.random.key(1))
        bias = [s.policy.params["params"]["dense_3"]["bias"] for s in (before, after)]
        return jnp.max(jnp.abs(bias[1] - bias[0]))

    found = [largest(jnp.int32(k)) for k in (0, 5, 10, 11)]
    np.testing.assert_allclose(found, [3e-4, 1.5e-4, 0.0, 0.0], rtol=2e-3, atol=1e-9)


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match="action_selection is 'mean' with policy 'ddpm'"):
        bc.bc(bc.BCConfig(policy="ddpm", action_selection="mean"))
    with pytest.raises(ValueError, match="num_levels is 1"):
        bc.bc(bc.BCConfig(num_levels=1))
    with pytest.raises(ValueError, match="policy is 'flow'; expected one of"):
        bc.bc(bc.BCConfig(policy="flow"))
