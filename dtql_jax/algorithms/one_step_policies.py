"""The one-step policies pi_theta: one network call from noise to an action.

| kind | action from noise eps |
|---|---|
| gaussian | max_action * tanh(mean(s) + exp(log_std(s)) * eps), DTQL's own |
| deterministic | max_action * tanh(mean(s)): the same network without noise |
| implicit | F(sigma_g * eps, s, sigma_g): the raw denoiser network as a generator, as in DQL-KL |

The implicit generator is not bounded: the losses use its raw output, and acting clips it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from dtql_jax import networks
from dtql_jax.algorithms.common import repeat
from dtql_jax.types import Array

POLICIES = ("gaussian", "deterministic", "implicit")


class Moments(NamedTuple):
    """The Gaussian before the tanh, both [..., A]."""

    mean: Array
    log_std: Array


class OneStepPolicy(NamedTuple):
    """A one-step policy as two pure functions.

    Attributes:
      init: (key, observation [1, O], action [1, A]) -> parameters.
      sample: (parameters, observations [..., O], noise, sigma_g) -> actions of the shape of
        `noise`, and the Gaussian [..., A] where the policy has one. `noise` is standard normal,
        [..., A] or, for N actions an observation, [..., N, A].
    """

    init: Callable[[Array, Array, Array], Any]
    sample: Callable[[Any, Array, Array, Array | float], tuple[Array, Moments | None]]


def make_policy(kind: str, hidden_dim: int, time_dim: int, max_action: float) -> OneStepPolicy:
    """Builds a policy of one of the kinds in POLICIES."""
    if kind == "implicit":
        return _implicit(networks.Denoiser(hidden_dim, time_dim))
    return _tanh_gaussian(networks.GaussianPolicy(hidden_dim), max_action, kind == "gaussian")


def _tanh_gaussian(
    network: networks.GaussianPolicy, max_action: float, stochastic: bool
) -> OneStepPolicy:
    def init(key: Array, observation: Array, action: Array) -> Any:
        return network.init(key, observation, action.shape[-1])

    def sample(params: Any, observations: Array, noise: Array, _: Any) -> Any:
        moments = Moments(*network.apply(params, observations, noise.shape[-1]))
        mean, log_std = moments
        if noise.ndim > observations.ndim:
            mean, log_std = mean[..., None, :], log_std[..., None, :]
        if not stochastic:
            return max_action * jnp.tanh(jnp.broadcast_to(mean, noise.shape)), None
        return networks.squash(mean, log_std, noise, max_action), moments

    return OneStepPolicy(init, sample)


def _implicit(network: networks.Denoiser) -> OneStepPolicy:
    def init(key: Array, observation: Array, action: Array) -> Any:
        return network.init(key, action, observation, jnp.zeros((1,)))

    def sample(params: Any, observations: Array, noise: Array, sigma: Array | float) -> Any:
        if noise.ndim > observations.ndim:
            observations = repeat(observations, noise.shape[-2])
        time = jnp.broadcast_to(jnp.float32(sigma), noise.shape[:-1])
        return network.apply(params, sigma * noise, observations, time), None

    return OneStepPolicy(init, sample)
