"""BC: behaviour cloning, without rewards and critics.

| policy | loss | sampled by |
|---|---|---|
| gaussian | DTQL's L_NLL of its one-step policy | one draw, or the mean |
| ddpm | the epsilon loss of DQL's actor (DQL at eta = 0) | the reverse chain of N steps |
| edm | the denoising loss of DTQL's diffusion policy (L_BC) | Heun's method |

There is no pretraining: a pretraining step is a training step.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from dtql_jax import losses, networks
from dtql_jax.algorithms import common
from dtql_jax.algorithms.base import Algorithm, Metrics
from dtql_jax.algorithms.config import as_arrays, check, static, traced, with_traced
from dtql_jax.algorithms.train_state import TrainState
from dtql_jax.diffusion import ddpm, edm
from dtql_jax.training.data_parallel.rows import gradients
from dtql_jax.types import Array, Transition

POLICIES = ("gaussian", "ddpm", "edm")
ACTION_SELECTIONS = ("single", "mean")


@flax.struct.dataclass
class BCConfig:
    """Settings of BC."""

    learning_rate: float = traced(3e-4, ">= 0")

    policy: str = static("gaussian", one_of=POLICIES)  # the model of the behaviour
    lr_decay: bool = static(False)  # cosine decay of the learning rate to 0 over decay_steps
    decay_steps: int = static(1_000_000, "> 0")  # training steps
    tanh_correction: bool = static(False)  # the Jacobian of the tanh in the Gaussian's NLL
    max_action: float = static(1.0, "> 0")  # actions lie in [-max_action, max_action]
    hidden_dim: int = static(256, "> 0")  # width
    time_dim: int = static(16, "even, >= 4")  # features of the diffusion step or noise level
    clip_denoised: bool = static(True)  # clip EDM's D to the action space
    num_timesteps: int = static(5, "> 0", at_most=10_000)  # N, steps of DDPM
    num_levels: int = static(18, ">= 2", at_most=10_000)  # noise levels of EDM's sampler
    action_selection: str = static("single", one_of=ACTION_SELECTIONS)  # "mean": of the Gaussian


@flax.struct.dataclass
class BCState:
    """Everything that one training step reads and writes.

    Attributes:
      config: the configuration; its traced fields are arrays.
      policy: the model of the behaviour; its step counts training steps.
      action_dim: A.
    """

    config: Any
    policy: TrainState
    action_dim: int = flax.struct.field(pytree_node=False)


class Draws(NamedTuple):
    """The random numbers of one step; the Gaussian does not use them.

    Attributes:
      uniform: [B] in [0, 1), mapped to a timestep or a noise level.
      noise: [B, A] standard normal.
    """

    uniform: Array
    noise: Array


class Policy(NamedTuple):
    """A model of the behaviour as three pure functions.

    Attributes:
      init: (key, observation [1, O], action [1, A], time [1]) -> parameters.
      loss: (parameters, batch, draws) -> scalar, a mean over the rows.
      sample: (parameters, observations [..., O], shape (..., A), key) -> actions.
    """

    init: Callable[[Array, Array, Array, Array], Any]
    loss: Callable[[Any, Transition, Draws], Array]
    sample: Callable[[Any, Array, tuple[int, ...], Array], Array]


def draw(key: Array, batch_size: int, action_dim: int) -> Draws:
    """Draws the random numbers of one step."""
    uniform_key, noise_key = jax.random.split(key)
    uniform = jax.random.uniform(uniform_key, (batch_size,))
    return Draws(uniform, jax.random.normal(noise_key, (batch_size, action_dim)))


def gaussian_policy(config: BCConfig) -> Policy:
    """The tanh-Gaussian: -mean log pi(a|s)."""
    network = networks.GaussianPolicy(config.hidden_dim)

    def loss(params: Any, batch: Transition, draws: Draws) -> Array:
        mean, log_std = network.apply(params, batch.observations, batch.actions.shape[-1])
        correction = config.tanh_correction
        return losses.tanh_gaussian_nll(mean, log_std, batch.actions, config.max_action, correction)

    def sample(params: Any, observations: Array, shape: tuple[int, ...], key: Array) -> Array:
        mean, log_std = network.apply(params, observations, shape[-1])
        at_mean = config.action_selection == "mean"
        noise = jnp.zeros(shape) if at_mean else jax.random.normal(key, shape)
        return networks.squash(mean, log_std, noise, config.max_action)

    return Policy(lambda key, s, a, t: network.init(key, s, a.shape[-1]), loss, sample)


def ddpm_policy(config: BCConfig) -> Policy:
    """DQL's diffusion: mean (eps_phi(x_t, s, t) - eps)^2."""
    network = networks.NoisePredictor(config.hidden_dim, config.time_dim)
    schedule = ddpm.vp_schedule(config.num_timesteps)

    def loss(params: Any, batch: Transition, draws: Draws) -> Array:
        timestep = (draws.uniform * config.num_timesteps).astype(jnp.int32)
        # the product may round up to N
        timestep = jnp.minimum(timestep, config.num_timesteps - 1)
        predict = partial(network.apply, params)
        data = (batch.actions, batch.observations)
        return ddpm.epsilon_loss(predict, schedule, *data, timestep, draws.noise)

    def sample(params: Any, observations: Array, shape: tuple[int, ...], key: Array) -> Array:
        predict = partial(network.apply, params)
        noise = ddpm.chain_noise(key, config.num_timesteps, shape)
        return ddpm.sample(predict, schedule, observations, noise, config.max_action)

    return Policy(lambda key, s, a, t: network.init(key, a, s, t), loss, sample)


def edm_policy(config: BCConfig) -> Policy:
    """DTQL's diffusion: mean ((D(a + sigma * eps; sigma, s) - a) / c_out)^2."""
    network = networks.Denoiser(config.hidden_dim, config.time_dim)
    bound = config.max_action if config.clip_denoised else None

    def loss(params: Any, batch: Transition, draws: Draws) -> Array:
        denoiser = partial(network.apply, params)
        sigma = edm.noise_level(draws.uniform)
        data = (batch.actions, batch.observations)
        return edm.denoising_loss(denoiser, *data, sigma, draws.noise, bound)

    def sample(params: Any, observations: Array, shape: tuple[int, ...], key: Array) -> Array:
        denoiser = partial(network.apply, params)
        noise = jax.random.normal(key, shape)
        action = edm.sample(denoiser, observations, noise, bound, num_steps=config.num_levels)
        return jnp.clip(action, -config.max_action, config.max_action)

    return Policy(lambda key, s, a, t: network.init(key, a, s, t), loss, sample)


def train_update(
    policy: Policy, config: BCConfig, state: BCState, batch: Transition, draws: Draws
) -> tuple[BCState, Metrics]:
    """One training step: one Adam step of the policy."""
    common.check_batch(batch)

    def loss(params: Any, rows: tuple[Transition, Draws]) -> tuple[Array, Metrics]:
        value = policy.loss(params, *rows)
        return value, {"policy_loss": value}

    grads, metrics = gradients(loss, state.policy.params, (batch, draws))
    rate = with_traced(config, state).learning_rate * common.decay_factor(config, state.policy.step)
    return state.replace(policy=state.policy.apply_gradients(grads, rate)), metrics


def make_policy(config: BCConfig) -> Policy:
    """Builds the policy of a configuration."""
    makers = {"gaussian": gaussian_policy, "ddpm": ddpm_policy, "edm": edm_policy}
    return makers[config.policy](config)


def bc(config: BCConfig) -> Algorithm:
    """BC as four pure functions; see `algorithms.base.Algorithm` for their signatures."""
    check(config)
    if config.action_selection == "mean" and config.policy != "gaussian":
        raise ValueError(
            f"action_selection is 'mean' with policy {config.policy!r}; expected 'single', or "
            "policy 'gaussian'"
        )
    policy = make_policy(config)

    def init(key: Array, sample: Transition) -> BCState:
        observation, action, time = common.placeholders(sample)
        params = policy.init(key, observation, action, time)
        return BCState(as_arrays(config), TrainState.create(params), action.shape[-1])

    def train_step(state: BCState, batch: Transition, key: Array) -> tuple[BCState, Metrics]:
        return train_update(policy, config, state, batch, draw(key, *batch.actions.shape))

    def act(state: BCState, observations: Array, key: Array) -> Array:
        shape = (*observations.shape[:-1], state.action_dim)
        return policy.sample(state.policy.params, observations, shape, key)

    return Algorithm(init, train_step, train_step, act)
