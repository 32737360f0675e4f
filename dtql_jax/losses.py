"""The losses of DTQL: pure functions; noise levels and noise are arguments, never drawn inside."""

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.diffusion import edm
from dtql_jax.types import Array


def expectile_loss(errors: Array, expectile: Array | float) -> Array:
    """Mean of |expectile - 1(u < 0)| * u^2 (IQL, arXiv 2110.06169, equation 5).

    Args:
      errors: [B], u = target - prediction.
      expectile: in (0, 1); 0.5 is half the mean squared error.

    >>> float(expectile_loss(jnp.array([2.0, -2.0]), 0.75))  # (0.75 * 4 + 0.25 * 4) / 2
    2.0
    """
    weight = jnp.where(errors < 0, 1.0 - expectile, expectile)
    return jnp.mean(weight * errors**2)


def td_targets(rewards: Array, masks: Array, next_values: Array, discount: Array | float) -> Array:
    """r + discount * mask * V(s'), with no gradient: [B].

    >>> td_targets(jnp.ones(2), jnp.array([1.0, 0.0]), jnp.full(2, 10.0), 0.5).tolist()
    [6.0, 1.0]
    """
    return jax.lax.stop_gradient(rewards + discount * masks * next_values)


def twin_td_loss(q: Array, targets: Array) -> Array:
    """MSE(Q1, y) + MSE(Q2, y); q is [2, B], targets [B] (IQL, equation 6)."""
    return jnp.sum(jnp.mean((q - targets) ** 2, axis=-1))


def trust_region_loss(
    network: edm.Network,
    policy_actions: Array,
    observations: Array,
    sigma: Array,
    noise: Array,
    max_action: float | None,
    error_scale: Array | None = None,
) -> Array:
    """The diffusion trust-region loss L_TR (DTQL, equation 6): denoising the policy's own actions.

    The network is the behaviour's denoiser with its parameters held fixed. The gradient reaches
    the policy through both uses of its action: the network's input and the target.

    Args:
      network: the raw F of the diffusion policy, its parameters without gradient.
      policy_actions: [B, A] of the one-step policy.
      observations: [B, O].
      sigma: [B] fresh noise levels.
      noise: [B, A] standard normal.
      max_action: bound of the clipped D, or None.
      error_scale: [B], what errors are divided by in place of EDM's c_out.
    """
    return edm.denoising_loss(
        network, policy_actions, observations, sigma, noise, max_action, error_scale
    )


def tanh_gaussian_nll(
    mean: Array, log_std: Array, actions: Array, max_action: float, tanh_correction: bool = False
) -> Array:
    """-mean over the batch of log pi(a|s), summed over action dimensions (DTQL's L_NLL).

    Actions are pulled back by arctanh(a / (max_action + 1e-3)), finite for every |a| <= max_action.

    Args:
      mean: [B, A] of the Gaussian before the tanh.
      log_std: [B, A] of the same.
      actions: [B, A] of the data.
      max_action: bound of the action space.
      tanh_correction: adds the Jacobian of the squashing, as the density of a demands. The
        authors' program leaves it out (it depends on the data alone, so no gradient changes).
    """
    scaled = actions / (max_action + 1e-3)
    z = (jnp.arctanh(scaled) - mean) * jnp.exp(-log_std)
    log_prob = -0.5 * z**2 - log_std - 0.5 * np.log(2.0 * np.pi)
    if tanh_correction:
        log_prob -= jnp.log((max_action + 1e-3) * (1.0 - scaled**2))
    return -jnp.mean(jnp.sum(log_prob, axis=-1))
