"""EDM against closed forms: a denoiser that is known exactly, scipy's distributions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dtql_jax.diffusion import edm


def ideal_network(mean: float, std: float) -> edm.Network:
    """The F whose D is the posterior mean of a Gaussian N(mean, std^2) seen through noise."""

    def network(scaled: jax.Array, observations: jax.Array, noise: jax.Array) -> jax.Array:
        del observations
        sigma = jnp.exp(4.0 * noise)[..., None]
        c = edm.scaling(sigma)
        x = scaled / c.input
        denoised = (std**2 * x + sigma**2 * mean) / (std**2 + sigma**2)
        return (denoised - c.skip * x) / c.out

    return network


def test_scaling_keeps_unit_variance() -> None:
    sigma = np.geomspace(edm.SIGMA_MIN, edm.SIGMA_MAX, 20)
    c = edm.scaling(jnp.asarray(sigma))
    np.testing.assert_allclose(c.input**2 * (sigma**2 + 0.25), 1.0, rtol=1e-5)
    # the target (a - c_skip * x) / c_out has variance 1 for data of variance 0.25
    variance = ((1 - np.asarray(c.skip)) ** 2 * 0.25 + np.asarray(c.skip) ** 2 * sigma**2) / (
        np.asarray(c.out) ** 2
    )
    np.testing.assert_allclose(variance, 1.0, rtol=2e-3)


def test_noise_levels_follow_the_truncated_log_logistic() -> None:
    uniform = np.linspace(0.0, 1.0 - 1e-6, 2001)
    sigma = np.asarray(edm.noise_level(jnp.asarray(uniform, jnp.float32)))
    logistic = stats.logistic(loc=np.log(0.5), scale=0.5)
    low, high = logistic.cdf(np.log(edm.SIGMA_MIN)), logistic.cdf(np.log(edm.SIGMA_MAX))
    expected = np.exp(logistic.ppf(low + (high - low) * uniform))
    # the upper tail ends where float32 has few numbers left below 1
    np.testing.assert_allclose(sigma[:-20], expected[:-20], rtol=2e-4)
    assert sigma.min() >= edm.SIGMA_MIN * 0.99
    assert sigma.max() <= edm.SIGMA_MAX * 1.1


def test_denoising_loss_by_hand() -> None:
    rng = np.random.default_rng(0)
    actions, noise = rng.uniform(-1, 1, (64, 3)), rng.normal(size=(64, 3))
    sigma = np.exp(rng.normal(size=64))
    x = actions + sigma[:, None] * noise
    denoised = np.clip(
        (0.3**2 * x + sigma[:, None] ** 2 * 0.1) / (0.3**2 + sigma[:, None] ** 2), -1, 1
    )
    out = sigma * 0.5 / np.sqrt(sigma**2 + 0.25)
    expected = np.mean(((denoised - actions) / out[:, None]) ** 2)
    found = edm.denoising_loss(
        ideal_network(0.1, 0.3), *map(jnp.asarray, (actions, actions, sigma, noise)), 1.0
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(("heun", "num_steps"), [(True, 40), (False, 400)])
def test_samplers_reach_the_known_distribution(heun: bool, num_steps: int) -> None:
    mean, std = 0.2, 0.15
    noise = jax.random.normal(jax.random.key(0), (20_000, 1))
    network = ideal_network(mean, std)
    observations = jnp.zeros((20_000, 1))
    samples = edm.sample(network, observations, noise, None, num_steps=num_steps, heun=heun)
    # the probability flow of a Gaussian is linear: sigma_max maps to the data's std
    np.testing.assert_allclose(np.mean(samples), mean, atol=0.01)
    np.testing.assert_allclose(np.std(samples), std, rtol=0.03)


def test_sampling_levels() -> None:
    levels = np.asarray(edm.sampling_levels(18))
    assert levels.shape == (19,)
    np.testing.assert_allclose(levels[[0, -2, -1]], [80.0, 0.002, 0.0], rtol=1e-4)
    assert np.all(np.diff(levels) < 0)
    with pytest.raises(ValueError, match="num_steps is 1"):
        edm.sampling_levels(1)
