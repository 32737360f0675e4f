"""The trust-region loss at every action of a grid, in nats, and numbers about such a curve.

With the exact denoiser D*(x; sigma) = E[a | x] and z = a + sigma eps, the pointwise relation of
mutual information and denoising error (Kong et al. 2023, arXiv 2302.03792, equation 8) reads

    E_z[-log p_sigma(z)] = 1/2 log(2 pi e sigma^2) + int_sigma^inf E[(D* - a)^2] / s^2 dlog s   (1)

where p_sigma is the data's density with noise sigma added. At the smallest sigma this is -log p(a):
the ELBO's weight. EDM's loss has the weight 1 / c_out^2 and a log-logistic density of sigma; their
product is 2 sigma^2 / (sigma^2 + sigma_data^2) times 1 / sigma^2 in log(sigma), which rises with
sigma from 0 to 2, and half of it is the distribution function of that same density. Integrating by
parts, half of EDM's loss is the mean of (1) over sigma of that density: it, too, is a bound, of
data with noise around sigma_data = 0.5 added to it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax import losses
from dtql_jax.diffusion import edm, weighting
from dtql_jax.types import Array
from experiments.theory.mixture import Mixture

NEGLIGIBLE = 1e-12  # weight of a Gauss-Hermite node that is left out
# The ELBO bounds the density of the diffusion policy's samples. At the last noise level the data
# has noise SIGMA_MIN, and the last sampling step adds as much again.
LAST_NOISE = float(np.sqrt(2.0)) * edm.SIGMA_MIN
INSIDE = 0.99  # share of the mass of p
TOLERANCE = 0.01  # nats, of quadrature in float32


def loss_curve(
    network: edm.Network,
    actions: Array,
    weights: str,
    *,
    levels: int,
    nodes: int,
    max_action: float | None,
) -> Array:
    """Computes the expectation of DTQL's trust-region loss over noise levels and noise.

    Args:
      network: the raw F of the denoiser.
      actions: [G] of one dimension, in one state.
      weights: "edm" or "elbo", of the loss.
      levels: noise levels, the middles of as many equal shares of their distribution.
      nodes: Gauss-Hermite nodes of the noise at each level.
      max_action: bound of the clipped D, or None.

    Returns:
      [G], in the loss's own unit.
    """
    noise, share = np.polynomial.hermite_e.hermegauss(nodes)
    share = share / share.sum()
    noise, share = noise[share > NEGLIGIBLE], share[share > NEGLIGIBLE]
    sigma = weighting.noise_level(weights, jnp.asarray((np.arange(levels) + 0.5) / levels))
    scale = weighting.error_scale(weights, sigma)
    # the loss is a plain mean over its batch: a node's share of the weight goes into its unit
    scale = scale[:, None] / jnp.sqrt(jnp.asarray(share * len(share), jnp.float32))
    rows = levels * len(noise)
    sigmas = jnp.repeat(sigma, len(noise))
    noises = jnp.tile(jnp.asarray(noise, jnp.float32), levels)[:, None]

    def one(action: Array) -> Array:
        return losses.trust_region_loss(
            network,
            jnp.full((rows, 1), action),
            jnp.zeros((rows, 1)),
            sigmas,
            noises,
            max_action,
            scale.reshape(rows),
        )

    return jax.lax.map(one, jnp.asarray(actions, jnp.float32))


def in_nats(weights: str, loss: np.ndarray) -> np.ndarray:
    """Converts a one-dimensional loss to the negative log-density that it bounds.

    "elbo": of the action, -log p(a). "edm": of the action with noise added, averaged over EDM's
    density of noise levels, whose mean log(sigma) is log(sigma_data).
    """
    if weights == "elbo":
        return weighting.elbo_factor() * loss + weighting.elbo_constant(1)
    return 0.5 * loss + 0.5 * float(np.log(2.0 * np.pi * np.e * edm.SIGMA_DATA**2))


def numbers(actions: np.ndarray, curve: np.ndarray, mixture: Mixture) -> dict[str, Any]:
    """Returns minima of a curve over the actions, and its distance from -log p.

    Args:
      actions: [G], evenly spaced in [-1, 1].
      curve: [G] in nats.
      mixture: its density is p.

    Returns:
      minimum: action of the curve's least value.
      minima: all its local minima, from left to right.
      nearest_mode, highest_mode: modes of p, nearest to `minimum` and of the highest density.
      distance: from `minimum` to the highest mode.
      least_gap: smallest curve + log p over the grid, in nats. p is as the diffusion's last step
        leaves it, with noise LAST_NOISE.
      least_inside: the same over the actions of highest density that hold INSIDE of the mass.
      held: share of the grid on which the curve is above -log p, up to TOLERANCE.
      mean_gap: mean of curve + log p under p, in nats: the divergence that the bound costs.
      correlation: Pearson's, of the curve and -log p over the grid.
    """
    log_p = mixture.log_density(actions, LAST_NOISE)
    modes = mixture.modes()
    minimum = float(actions[np.argmin(curve)])
    inner = (curve[1:-1] < curve[:-2]) & (curve[1:-1] <= curve[2:])
    gap = curve + log_p
    mass = np.exp(log_p) / np.sum(np.exp(log_p))
    order = np.argsort(-mass)
    inside = order[: int(np.searchsorted(np.cumsum(mass[order]), INSIDE)) + 1]
    return {
        "minimum": minimum,
        "minima": actions[1:-1][inner].tolist(),
        "nearest_mode": float(modes[np.argmin(np.abs(modes - minimum))]),
        "highest_mode": float(modes[0]),
        "distance": abs(minimum - float(modes[0])),
        "least_gap": float(gap.min()),
        "least_inside": float(gap[inside].min()),
        "held": float(np.mean(gap >= -TOLERANCE)),
        "mean_gap": float(np.sum(mass * gap)),
        "correlation": float(np.corrcoef(curve, -log_p)[0, 1]),
    }
