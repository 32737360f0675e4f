"""Updates that DTQL and DQL-KL share: critics with value, and the diffusion policy.

`networks` has the modules critic, value and denoiser; `config` is a `DTQLConfig` or has the fields
used here, its traced ones those of the state; `state` has the fields of `DTQLState` used here.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from dtql_jax import losses
from dtql_jax.algorithms import common
from dtql_jax.algorithms.base import Metrics
from dtql_jax.diffusion import edm, weighting
from dtql_jax.training.data_parallel.rows import gradients
from dtql_jax.types import Array, Transition


def critic_loss(
    params: tuple[Any, Any], batch: Transition, networks: Any, config: Any, state: Any
) -> tuple[Array, Metrics]:
    """L_V + L_Q (IQL, equations 5 and 6); one forward pass of Q serves both.

    L_V = mean |expectile - 1(u < 0)| u^2 with u = min(Q1, Q2)(s, a) - V(s), and
    L_Q = sum_i mean (Q_i(s, a) - r - discount * mask * V(s'))^2.

    Args:
      params: of critics and value; V(s') is the value of `state`.
      batch: transitions [B, ...].
      networks: modules `critic` and `value`.
      config: expectile, discount, value_target.
      state: value and target critics before the update.
    """
    critic_params, value_params = params
    q = networks.critic.apply(critic_params, batch.observations, batch.actions)
    v = networks.value.apply(value_params, batch.observations)
    q_data = q
    if config.value_target == "target":
        q_data = networks.critic.apply(state.target_critics, batch.observations, batch.actions)
    q_min = jax.lax.stop_gradient(jnp.min(q_data, axis=0))
    next_v = networks.value.apply(state.value.params, batch.next_observations)
    targets = losses.td_targets(batch.rewards, batch.masks, next_v, config.discount)
    value_loss = losses.expectile_loss(q_min - v, config.expectile)
    td_loss = losses.twin_td_loss(q, targets)
    return value_loss + td_loss, {
        "critic_loss": value_loss + td_loss,
        "value_loss": value_loss,
        "td_loss": td_loss,
        "q_data": jnp.mean(q_min),
        "v_data": jnp.mean(v),
    }


def denoising_loss(
    params: Any,
    batch: Transition,
    sigma: Array,
    noise: Array,
    networks: Any,
    config: Any,
    weights: str = "edm",
) -> tuple[Array, Metrics]:
    """L_BC of the denoiser on the data's actions (EDM, equation 8); sigma [B], noise [B, A]."""
    loss = edm.denoising_loss(
        partial(networks.denoiser.apply, params),
        batch.actions,
        batch.observations,
        sigma,
        noise,
        common.denoised_bound(config),
        weighting.error_scale(weights, sigma),
    )
    return loss, {"denoising_loss": loss}


def update_critics(
    networks: Any, config: Any, state: Any, batch: Transition, decay: Array | float
) -> tuple[Any, Metrics]:
    """Part 1: critics and value, one Adam step; `decay` is a factor of the learning rate."""
    params = (state.critics.params, state.value.params)
    (critic_grads, value_grads), metrics = gradients(
        critic_loss, params, (batch,), networks, config, state
    )
    rate = config.critic_learning_rate * decay
    critics = state.critics.apply_gradients(critic_grads, rate)
    value = state.value.apply_gradients(value_grads, rate)
    return state.replace(critics=critics, value=value), metrics


def update_diffusion(
    networks: Any,
    config: Any,
    state: Any,
    batch: Transition,
    draws: Any,
    decay: Array | float,
    weights: str = "edm",
) -> tuple[Any, Metrics]:
    """Part 2: the diffusion policy, one Adam step."""
    rows = (batch, draws.denoising_sigma, draws.denoising_noise)
    diffusion, metrics = state.diffusion.minimise(
        denoising_loss, config.learning_rate * decay, rows, networks, config, weights
    )
    return state.replace(diffusion=diffusion), metrics
