"""BC: behaviour cloning, without rewards, critics and pretraining.

| policy | loss | sampled by |
|---|---|---|
| gaussian | DTQL's L_NLL of its one-step policy | one draw, or the mean |
| ddpm | the epsilon loss of DQL's actor (DQL at eta = 0) | the reverse chain of N steps |
| edm | the denoising loss of DTQL's diffusion policy (L_BC) | Heun's method |
"""

from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from dtql_jax import losses, networks
from dtql_jax.algorithms import common
from dtql_jax.algorithms.base import Algorithm, Metrics
from dtql_jax.algorithms.config import as_arrays, check, static, traced, with_traced
from dtql_jax.algorithms.train_state import TrainState
from dtql_jax.diffusion import ddpm, edm
from dtql_jax.types import Array, Transition

NETWORKS = {
    "gaussian": lambda config: networks.GaussianPolicy(config.hidden_dim),
    "ddpm": lambda config: networks.NoisePredictor(config.hidden_dim, config.time_dim),
    "edm": lambda config: networks.Denoiser(config.hidden_dim, config.time_dim),
}


@flax.struct.dataclass
class BCConfig:
    """Settings of BC."""

    learning_rate: float = traced(3e-4, ">= 0")

    policy: str = static("gaussian", one_of=tuple(NETWORKS))  # the model of the behaviour
    lr_decay: bool = static(False)  # cosine decay of the learning rate to 0 over decay_steps
    decay_steps: int = static(1_000_000, "> 0")  # training steps
    tanh_correction: bool = static(False)  # the Jacobian of the tanh in the Gaussian's NLL
    max_action: float = static(1.0, "> 0")  # bound of the action space
    hidden_dim: int = static(256, "> 0")  # width
    time_dim: int = static(16, "even, >= 4")  # features of the diffusion step or noise level
    clip_denoised: bool = static(True)  # clip EDM's D to the action space
    num_timesteps: int = static(5, "> 0", at_most=10_000)  # N, steps of DDPM
    num_levels: int = static(18, ">= 2", at_most=10_000)  # noise levels of EDM's sampler
    action_selection: str = static("single", one_of=("single", "mean"))  # "mean": of the Gaussian


@flax.struct.dataclass
class BCState:
    """Everything that one training step reads and writes; see `dtql.DTQLState`."""

    config: Any
    policy: TrainState
    action_dim: int = flax.struct.field(pytree_node=False)


def policy_loss(
    params: Any, batch: Transition, uniform: Array, noise: Array, config: BCConfig
) -> tuple[Array, Metrics]:
    """The loss of `config.policy`; uniform [B] in [0, 1), noise [B, A] standard normal."""
    network = partial(NETWORKS[config.policy](config).apply, params)
    actions, observations = batch.actions, batch.observations
    if config.policy == "gaussian":
        mean, log_std = network(observations, actions.shape[-1])
        bound, correction = config.max_action, config.tanh_correction
        loss = losses.tanh_gaussian_nll(mean, log_std, actions, bound, correction)
    elif config.policy == "ddpm":
        schedule, last = ddpm.vp_schedule(config.num_timesteps), config.num_timesteps - 1
        # the product may round up to N
        timestep = jnp.minimum((uniform * config.num_timesteps).astype(jnp.int32), last)
        loss = ddpm.epsilon_loss(network, schedule, actions, observations, timestep, noise)
    else:
        bound, sigma = common.denoised_bound(config), edm.noise_level(uniform)
        loss = edm.denoising_loss(network, actions, observations, sigma, noise, bound)
    return loss, {"policy_loss": loss}


def train_step(
    config: BCConfig, state: BCState, batch: Transition, key: Array
) -> tuple[BCState, Metrics]:
    """One training step: one Adam step of the policy."""
    common.check_batch(batch)
    uniform_key, noise_key = jax.random.split(key)
    uniform = jax.random.uniform(uniform_key, batch.rewards.shape)
    noise = jax.random.normal(noise_key, batch.actions.shape)
    rate = with_traced(config, state).learning_rate * common.decay_factor(config, state.policy.step)
    rows = (batch, uniform, noise)
    policy, metrics = state.policy.minimise(policy_loss, rate, rows, config)
    return state.replace(policy=policy), metrics


def act(config: BCConfig, state: BCState, observations: Array, key: Array) -> Array:
    """Samples an action for each observation: [..., O] -> [..., A]."""
    network = partial(NETWORKS[config.policy](config).apply, state.policy.params)
    shape = (*observations.shape[:-1], state.action_dim)
    if config.policy == "gaussian":
        mean, log_std = network(observations, state.action_dim)
        at_mean = config.action_selection == "mean"
        noise = jnp.zeros(shape) if at_mean else jax.random.normal(key, shape)
        return networks.squash(mean, log_std, noise, config.max_action)
    if config.policy == "ddpm":
        schedule = ddpm.vp_schedule(config.num_timesteps)
        chain = ddpm.chain_noise(key, config.num_timesteps, shape)
        return ddpm.sample(network, schedule, observations, chain, config.max_action)
    noise, bound = jax.random.normal(key, shape), common.denoised_bound(config)
    action = edm.sample(network, observations, noise, bound, num_steps=config.num_levels)
    return jnp.clip(action, -config.max_action, config.max_action)


def bc(config: BCConfig) -> Algorithm:
    """BC as four pure functions; see `algorithms.base.Algorithm` for their signatures."""
    check(config)
    if config.action_selection == "mean" and config.policy != "gaussian":
        raise ValueError(
            f"action_selection is 'mean' with policy {config.policy!r}; expected 'single', or "
            "policy 'gaussian'"
        )

    def init(key: Array, sample: Transition) -> BCState:
        observation, action, time = common.placeholders(sample)
        diffusion = (action, observation, time)
        inputs = diffusion if config.policy != "gaussian" else (observation, action.shape[-1])
        params = NETWORKS[config.policy](config).init(key, *inputs)
        return BCState(as_arrays(config), TrainState.create(params), action.shape[-1])

    step = partial(train_step, config)
    return Algorithm(init, step, step, partial(act, config))
