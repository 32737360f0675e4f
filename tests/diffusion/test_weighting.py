"""The two weightings: their noise levels, and the bound that the ELBO's weight must give."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dtql_jax.diffusion import edm, weighting


def test_elbo_levels_are_log_uniform() -> None:
    uniform = np.linspace(0.0, 1.0, 11)
    sigma = np.asarray(weighting.noise_level("elbo", jnp.asarray(uniform)))
    expected = stats.loguniform(edm.SIGMA_MIN, edm.SIGMA_MAX).ppf(uniform)
    np.testing.assert_allclose(sigma, expected, rtol=1e-4)


def test_edm_is_left_as_it_was() -> None:
    uniform = jnp.linspace(0.01, 0.99, 7)
    sigma = weighting.noise_level("edm", uniform)
    np.testing.assert_array_equal(sigma, edm.noise_level(uniform))
    np.testing.assert_array_equal(weighting.error_scale("edm", sigma), edm.scaling(sigma).out)
    np.testing.assert_array_equal(weighting.error_scale("elbo", sigma), sigma)


@pytest.mark.parametrize("action", [-0.4, 0.1, 0.6])
def test_elbo_of_the_exact_denoiser_is_the_log_density(action: float) -> None:
    """For data N(0.1, 0.2^2) the error of E[a | x] at `action` is known without sampling."""
    mean, std = 0.1, 0.2
    uniform = (np.arange(4000) + 0.5) / 4000
    sigma = np.asarray(weighting.noise_level("elbo", jnp.asarray(uniform)), np.float64)
    total = std**2 + sigma**2
    # D(x) - a = (sigma^2 (mean - a) + std^2 sigma eps) / total
    error = (sigma**4 * (mean - action) ** 2 + std**4 * sigma**2) / total**2
    scale = np.asarray(weighting.error_scale("elbo", sigma))
    loss = np.mean(error / scale**2)
    bound = weighting.elbo_factor() * loss + weighting.elbo_constant(1)
    assert bound == pytest.approx(-stats.norm(mean, std).logpdf(action), abs=2e-3)


def test_unknown_weighting() -> None:
    with pytest.raises(ValueError, match="expected one of"):
        weighting.noise_level("vlb", jnp.zeros(1))
