"""The one-step policies pi_theta: one network call from noise to an action.

| kind | action from noise eps |
|---|---|
| gaussian | max_action * tanh(mean(s) + exp(log_std(s)) * eps), DTQL's own |
| deterministic | max_action * tanh(mean(s)): the same network, its noise left out |
| implicit | F(sigma_g * eps, s, sigma_g): the raw denoiser network as a generator, as in DQL-KL |

The implicit generator is not bounded: the losses see its raw output, acting clips it.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp

from dtql_jax import networks
from dtql_jax.algorithms.common import repeat
from dtql_jax.types import Array

POLICIES = ("gaussian", "deterministic", "implicit")


class Architecture(NamedTuple):
    """The static shape of a one-step policy.

    Attributes:
      kind: one of POLICIES.
      hidden_dim: width.
      time_dim: features of the time input (implicit).
      max_action: bound of the action space.
    """

    kind: str
    hidden_dim: int
    time_dim: int
    max_action: float


class Moments(NamedTuple):
    """The Gaussian before the tanh, both [..., A]."""

    mean: Array
    log_std: Array


def init(architecture: Architecture, key: Array, observation: Array, action: Array) -> Any:
    """Fresh parameters; `observation` [1, O] and `action` [1, A] give the sizes."""
    dims = (action.shape[-1], architecture.hidden_dim)
    if architecture.kind == "implicit":
        network = networks.Denoiser(*dims, architecture.time_dim)
        return network.init(key, action, observation, jnp.zeros((1,)))
    return networks.GaussianPolicy(*dims).init(key, observation)


def action_dim(architecture: Architecture, params: Any) -> int:
    """A, read from the parameters."""
    if architecture.kind == "implicit":
        return params["params"]["trunk"]["dense_4"]["bias"].shape[-1]
    return params["params"]["dense_3"]["bias"].shape[-1] // 2


def sample(
    architecture: Architecture,
    params: Any,
    observations: Array,
    noise: Array,
    generation_sigma: Array | float,
) -> tuple[Array, Moments | None]:
    """Actions of the policy.

    Args:
      architecture: the kind and its static sizes.
      params: of the policy.
      observations: [..., O].
      noise: standard normal, [..., A] or, for N actions an observation, [..., N, A].
      generation_sigma: sigma_g, used by the implicit policy alone.

    Returns:
      Actions of the shape of `noise`, and the Gaussian [..., A] where the policy has one.
    """
    several = noise.ndim > observations.ndim
    dims = (noise.shape[-1], architecture.hidden_dim)
    if architecture.kind == "implicit":
        if several:
            observations = repeat(observations, noise.shape[-2])
        time = jnp.broadcast_to(jnp.float32(generation_sigma), noise.shape[:-1])
        network = networks.Denoiser(*dims, architecture.time_dim)
        return network.apply(params, generation_sigma * noise, observations, time), None
    moments = Moments(*networks.GaussianPolicy(*dims).apply(params, observations))
    mean, log_std = (x[..., None, :] for x in moments) if several else moments
    if architecture.kind == "deterministic":
        actions = architecture.max_action * jnp.tanh(jnp.broadcast_to(mean, noise.shape))
        return actions, None
    return networks.squash(mean, log_std, noise, architecture.max_action), moments
