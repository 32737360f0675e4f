"""EDM diffusion (Karras et al. 2022, arXiv 2206.00364): scaling, noise density, loss, samplers.

x is an action [..., A], sigma a noise level [...] in units of actions. `network` is the raw F of
equation 7: (c_in * x [..., A], observations [..., O], c_noise [...]) -> [..., A].
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.types import Array

SIGMA_DATA, SIGMA_MIN, SIGMA_MAX = 0.5, 0.002, 80.0
# The log-logistic density of noise levels: log(sigma) ~ Logistic(log(SIGMA_DATA), 0.5)
NOISE_SCALE = 0.5

Network = Callable[[Array, Array, Array], Array]


class Scaling(NamedTuple):
    """c_skip, c_out, c_in, c_noise of EDM's table 1, each of sigma's shape."""

    skip: Array
    out: Array
    input: Array
    noise: Array


def scaling(sigma: Array) -> Scaling:
    """Returns the preconditioning of table 1 (column "Ours") at noise levels `sigma` > 0."""
    total = sigma**2 + SIGMA_DATA**2
    root = jnp.sqrt(total)
    return Scaling(
        SIGMA_DATA**2 / total, sigma * SIGMA_DATA / root, 1.0 / root, jnp.log(sigma) / 4.0
    )


def _log_logistic_cdf(sigma: float) -> float:
    return float(1.0 / (1.0 + np.exp(-(np.log(sigma) - np.log(SIGMA_DATA)) / NOISE_SCALE)))


def noise_level(uniform: Array) -> Array:
    """Maps uniform numbers in [0, 1) to noise levels of the truncated log-logistic density.

    cdf(v) = sigmoid((log v - log sigma_data) / 0.5), cut off at SIGMA_MIN and SIGMA_MAX.
    """
    low, high = _log_logistic_cdf(SIGMA_MIN), _log_logistic_cdf(SIGMA_MAX)
    u = low + (high - low) * uniform
    return jnp.exp(np.log(SIGMA_DATA) + NOISE_SCALE * jax.scipy.special.logit(u))


def denoise(
    network: Network, x: Array, sigma: Array, observations: Array, max_action: float | None
) -> Array:
    """D(x; sigma, s) of equation 7, clipped to +-max_action (None: not clipped)."""
    c = scaling(sigma)
    raw = network(c.input[..., None] * x, observations, c.noise)
    denoised = c.out[..., None] * raw + c.skip[..., None] * x
    return denoised if max_action is None else jnp.clip(denoised, -max_action, max_action)


def denoising_loss(
    network: Network,
    actions: Array,
    observations: Array,
    sigma: Array,
    noise: Array,
    max_action: float | None,
    error_scale: Array | None = None,
) -> Array:
    """L_BC: mean over batch and action dimensions of ((D(a + sigma*eps; sigma, s) - a) / c_out)^2.

    Args:
      network: the raw F.
      actions: [B, A]; a gradient flows through both places where they stand.
      observations: [B, O].
      sigma: [B] noise levels.
      noise: [B, A] standard normal.
      max_action: bound of the clipped D, or None.
      error_scale: [B], what errors are divided by in place of c_out (`diffusion.weighting`).

    Returns:
      A scalar. EDM's weight lambda = 1 / c_out^2 (equation 8).
    """
    if error_scale is None:
        error_scale = scaling(sigma).out
    denoised = denoise(network, actions + sigma[..., None] * noise, sigma, observations, max_action)
    return jnp.mean(((denoised - actions) / error_scale[..., None]) ** 2)


def sampling_levels(num_steps: int, rho: float = 7.0) -> Array:
    """Noise levels of equation 5 from SIGMA_MAX down to SIGMA_MIN, then 0: [num_steps + 1]."""
    if num_steps < 2:
        raise ValueError(f"num_steps is {num_steps}; expected at least 2")
    ramp = np.linspace(0.0, 1.0, num_steps)
    low, high = SIGMA_MIN ** (1 / rho), SIGMA_MAX ** (1 / rho)
    return jnp.asarray(np.append((high + ramp * (low - high)) ** rho, 0.0), jnp.float32)


def sample(
    network: Network,
    observations: Array,
    noise: Array,
    max_action: float | None,
    *,
    num_steps: int = 18,
    heun: bool = True,
) -> Array:
    """Samples actions [..., A] by the probability-flow ODE (algorithm 1 without churn).

    Args:
      network: the raw F.
      observations: [..., O].
      noise: [..., A] standard normal, the only randomness.
      max_action: bound of the clipped D, or None.
      num_steps: noise levels; 2 * num_steps - 1 network calls with Heun, num_steps with Euler.
      heun: second-order correction; False is Euler's method.
    """
    levels = sampling_levels(num_steps)

    def slope(x: Array, sigma: Array) -> Array:
        sigmas = jnp.broadcast_to(sigma, x.shape[:-1])
        return (x - denoise(network, x, sigmas, observations, max_action)) / sigma

    def step(x: Array, pair: tuple[Array, Array]) -> tuple[Array, None]:
        sigma, following = pair
        first = slope(x, sigma)
        euler = x + (following - sigma) * first
        if not heun:
            return euler, None
        second = slope(euler, following)
        return x + (following - sigma) * 0.5 * (first + second), None

    x = noise * levels[0]
    # the last step goes to sigma = 0, where the slope is not defined: Euler's step to D
    x, _ = jax.lax.scan(step, x, (levels[:-2], levels[1:-1]))
    return x + (levels[-1] - levels[-2]) * slope(x, levels[-2])
