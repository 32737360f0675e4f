"""DTQL's training step transcribed from the equations, the yardstick of the fast one.

It computes the same numbers as `algorithms.dtql.train_update` (tested) from the same state, with a
forward pass for each use of a network in a loss, one gradient for each loss, the twins one after
the other, and Mish by its definition.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from dtql_jax.algorithms import dtql
from dtql_jax.algorithms.base import Algorithm
from dtql_jax.diffusion import edm
from dtql_jax.networks import LOG_STD_MAX, LOG_STD_MIN
from dtql_jax.types import Array, Transition

_ADAM = optax.scale_by_adam()


def _mish(x: Array) -> Array:
    return x * jnp.tanh(jax.nn.softplus(x))


def _linear(p: Any, x: Array) -> Array:
    return x @ p["kernel"] + p["bias"]


def _layer_norm(p: Any, x: Array) -> Array:
    mean = jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean((x - mean) ** 2, axis=-1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + 1e-5) * p["scale"] + p["bias"]


def _q(params: Any, twin: int, s: Array, a: Array) -> Array:
    p = jax.tree.map(lambda x: x[twin], params["params"]["q"])
    x = jnp.concatenate([s, a], axis=-1)
    for i in range(3):
        x = _mish(_layer_norm(p[f"norm_{i}"], _linear(p[f"dense_{i}"], x)))
    return _linear(p["dense_3"], x)[..., 0]


def _v(params: Any, s: Array) -> Array:
    p, x = params["params"], s
    for i in range(3):
        x = _mish(_linear(p[f"dense_{i}"], x))
    return _linear(p["dense_3"], x)[..., 0]


def _denoiser(params: Any, x: Array, s: Array, time: Array) -> Array:
    p = params["params"]
    frequencies = jnp.exp(-jnp.log(10_000.0) * jnp.arange(8) / 7)
    angles = time[..., None] * frequencies
    t = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    t = _linear(p["time"]["dense_1"], _mish(_linear(p["time"]["dense_0"], t)))
    x = _linear(p["trunk"]["dense_0"], jnp.concatenate([x, s, t], axis=-1))
    for i in range(1, 4):
        x = _mish(_linear(p["trunk"][f"dense_{i}"], x))
    return _linear(p["trunk"]["dense_4"], x)


def _denoised(params: Any, x: Array, sigma: Array, s: Array) -> Array:
    total = sigma**2 + edm.SIGMA_DATA**2
    skip, out = edm.SIGMA_DATA**2 / total, sigma * edm.SIGMA_DATA / jnp.sqrt(total)
    raw = _denoiser(params, x / jnp.sqrt(total)[:, None], s, jnp.log(sigma) / 4)
    return jnp.clip(skip[:, None] * x + out[:, None] * raw, -1.0, 1.0)


def _denoising(params: Any, a: Array, s: Array, sigma: Array, noise: Array) -> Array:
    error = _denoised(params, a + sigma[:, None] * noise, sigma, s) - a
    out = sigma * edm.SIGMA_DATA / jnp.sqrt(sigma**2 + edm.SIGMA_DATA**2)
    return jnp.mean((error / out[:, None]) ** 2)


def _policy(params: Any, s: Array, noise: Array) -> Array:
    p, x = params["params"], s
    for i in range(3):
        x = jax.nn.relu(_linear(p[f"dense_{i}"], x))
    mean, log_std = jnp.split(_linear(p["dense_3"], x), 2, axis=-1)
    return jnp.tanh(mean + jnp.exp(jnp.clip(log_std, LOG_STD_MIN, LOG_STD_MAX)) * noise)


def _adam(network: Any, grads: Any, rate: Array) -> Any:
    moved, opt_state = _ADAM.update(grads, network.opt_state)
    params = jax.tree.map(lambda p, u: p - rate * u, network.params, moved)
    return network.replace(params=params, opt_state=opt_state, step=network.step + 1)


def train_update(state: dtql.DTQLState, batch: Transition, draws: dtql.Draws) -> Any:
    """One training step of DTQL's defaults (gamma 0, Gaussian policy): (state, metrics)."""
    s, a, config = batch.observations, batch.actions, state.config

    def value_loss(value: Any) -> Array:
        q = jnp.minimum(_q(state.critics.params, 0, s, a), _q(state.critics.params, 1, s, a))
        u = jax.lax.stop_gradient(q) - _v(value, s)
        return jnp.mean(jnp.where(u < 0, 1 - config.expectile, config.expectile) * u**2)

    def critic_loss(critics: Any) -> Array:
        target = batch.rewards + config.discount * batch.masks * _v(
            state.value.params, batch.next_observations
        )
        errors = [_q(critics, twin, s, a) - target for twin in (0, 1)]
        return jnp.mean(errors[0] ** 2) + jnp.mean(errors[1] ** 2)

    v_loss, v_grads = jax.value_and_grad(value_loss)(state.value.params)
    q_loss, q_grads = jax.value_and_grad(critic_loss)(state.critics.params)
    critics = _adam(state.critics, q_grads, config.critic_learning_rate)
    value = _adam(state.value, v_grads, config.critic_learning_rate)

    d_loss, d_grads = jax.value_and_grad(_denoising)(
        state.diffusion.params, a, s, draws.denoising_sigma, draws.denoising_noise
    )
    diffusion = _adam(state.diffusion, d_grads, config.learning_rate)

    def trust_region(policy: Any) -> Array:
        action = _policy(policy, s, draws.policy_noise)
        sigma, noise = draws.trust_region_sigma, draws.trust_region_noise
        return _denoising(diffusion.params, action, s, sigma, noise)

    def minus_q(policy: Any) -> Array:
        action = _policy(policy, s, draws.policy_noise)
        q = jnp.minimum(_q(critics.params, 0, s, action), _q(critics.params, 1, s, action))
        return -jnp.mean(q)

    tr_loss, tr_grads = jax.value_and_grad(trust_region)(state.policy.params)
    p_loss, p_grads = jax.value_and_grad(minus_q)(state.policy.params)
    grads = jax.tree.map(lambda x, y: config.alpha * x + y, tr_grads, p_grads)
    policy = _adam(state.policy, grads, config.learning_rate)
    targets = jax.tree.map(
        lambda o, t: config.tau * o + (1 - config.tau) * t, critics.params, state.target_critics
    )
    state = state.replace(
        diffusion=diffusion, policy=policy, critics=critics, target_critics=targets, value=value
    )
    metrics = {
        "value_loss": v_loss,
        "td_loss": q_loss,
        "denoising_loss": d_loss,
        "trust_region_loss": tr_loss,
        "q_loss": p_loss,
    }
    return state, metrics


def plain_dtql() -> Algorithm:
    """DTQL with its defaults, by the step above."""
    algorithm = dtql.dtql(dtql.DTQLConfig())

    def train_step(state: Any, batch: Transition, key: Array) -> Any:
        return train_update(
            state, batch, dtql.draw(key, batch.actions.shape[0], batch.actions.shape[1])
        )

    return algorithm._replace(train_step=train_step)
