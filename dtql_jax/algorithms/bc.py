"""BC: behaviour cloning, the plain end of the scale: no rewards, no critics.

| policy | loss | sampled by |
|---|---|---|
| gaussian | DTQL's L_NLL of its one-step policy | one draw, or the mean |
| ddpm | the epsilon loss of DQL's actor (DQL at eta = 0) | the reverse chain of N steps |
| edm | the denoising loss of DTQL's diffusion policy (L_BC) | Heun's method |

There is no pretraining: a pretraining step is a training step.
"""

import dataclasses
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from dtql_jax import losses, networks
from dtql_jax.algorithms import common
from dtql_jax.algorithms.base import Algorithm, Metrics
from dtql_jax.algorithms.train_state import TrainState
from dtql_jax.diffusion import ddpm, edm
from dtql_jax.types import Array, Transition

POLICIES = ("gaussian", "ddpm", "edm")
ACTION_SELECTIONS = ("single", "mean")


@dataclasses.dataclass(frozen=True)
class BCConfig:
    """Settings of BC. The first field is traced: a sweep over it never recompiles."""

    learning_rate: float = 3e-4

    policy: str = "gaussian"  # the model of the behaviour; or the diffusions "ddpm", "edm"
    lr_decay: bool = False  # cosine decay of the learning rate to 0 over decay_steps
    decay_steps: int = 1_000_000  # training steps
    tanh_correction: bool = False  # the Jacobian of the tanh in the Gaussian's NLL
    max_action: float = 1.0  # actions lie in [-max_action, max_action]
    hidden_dim: int = 256  # width
    time_dim: int = 16  # features of the diffusion step or noise level
    clip_denoised: bool = True  # clip EDM's D to the action space (the 2D bandits do not)
    num_timesteps: int = 5  # N, steps of DDPM
    num_levels: int = 18  # noise levels of EDM's sampler
    action_selection: str = "single"  # one draw; the Gaussian may act by its "mean"

    def __post_init__(self) -> None:
        common.check_settings(
            self,
            choices={"policy": POLICIES, "action_selection": ACTION_SELECTIONS},
            nonnegative=("learning_rate",),
            positive=("decay_steps", "max_action", "hidden_dim", "num_timesteps"),
        )
        common.check_at_most(self, {"num_timesteps": 10_000, "num_levels": 10_000})
        common.check_time_dim(self.time_dim)
        if self.num_levels < 2:
            raise ValueError(f"num_levels is {self.num_levels}; expected at least 2")
        if self.action_selection == "mean" and self.policy != "gaussian":
            raise ValueError(
                f"action_selection is 'mean' with policy {self.policy!r}; expected 'single', or "
                "policy 'gaussian'"
            )


class Hyperparameters(NamedTuple):
    """The traced numbers of `BCConfig`, float32 scalars of the same names."""

    learning_rate: Array


@flax.struct.dataclass
class BCState:
    """Everything that one training step reads and writes.

    Attributes:
      policy: the model of the behaviour; its step counts training steps.
      hyper: the traced numbers.
    """

    policy: TrainState
    hyper: Hyperparameters


class Draws(NamedTuple):
    """The random numbers of one step; the Gaussian uses none of them.

    Attributes:
      uniform: [B] in [0, 1), mapped to a timestep or a noise level.
      noise: [B, A] standard normal.
    """

    uniform: Array
    noise: Array


def draw(key: Array, batch_size: int, action_dim: int) -> Draws:
    """Draws the random numbers of one step of a batch."""
    uniform_key, noise_key = jax.random.split(key)
    uniform = jax.random.uniform(uniform_key, (batch_size,))
    return Draws(uniform, jax.random.normal(noise_key, (batch_size, action_dim)))


def hyperparameters(config: BCConfig) -> Hyperparameters:
    """The traced numbers of a configuration."""
    return common.traced(Hyperparameters, config)


def policy_network(
    config: BCConfig, action_dim: int
) -> networks.GaussianPolicy | networks.NoisePredictor | networks.Denoiser:
    """The network of `config.policy`."""
    if config.policy == "gaussian":
        return networks.GaussianPolicy(action_dim, config.hidden_dim)
    diffusion = networks.NoisePredictor if config.policy == "ddpm" else networks.Denoiser
    return diffusion(action_dim, config.hidden_dim, config.time_dim)


def init_state(config: BCConfig, key: Array, observation_dim: int, action_dim: int) -> BCState:
    """A fresh state."""
    observation, action = jnp.zeros((1, observation_dim)), jnp.zeros((1, action_dim))
    network = policy_network(config, action_dim)
    if config.policy == "gaussian":
        params = network.init(key, observation)
    else:
        params = network.init(key, action, observation, jnp.zeros((1,)))
    return BCState(policy=TrainState.create(params), hyper=hyperparameters(config))


def cloning_loss(config: BCConfig, params: Any, batch: Transition, draws: Draws) -> Array:
    """The loss of `config.policy` on a batch, a scalar."""
    policy = policy_network(config, batch.actions.shape[-1])

    def network(*inputs: Array) -> Array:
        return policy.apply(params, *inputs)

    if config.policy == "gaussian":
        return losses.tanh_gaussian_nll(
            *network(batch.observations), batch.actions, config.max_action, config.tanh_correction
        )
    if config.policy == "ddpm":
        # the product may round up to N
        timestep = (draws.uniform * config.num_timesteps).astype(jnp.int32)
        return ddpm.epsilon_loss(
            network,
            ddpm.vp_schedule(config.num_timesteps),
            batch.actions,
            batch.observations,
            jnp.minimum(timestep, config.num_timesteps - 1),
            draws.noise,
        )
    return edm.denoising_loss(
        network,
        batch.actions,
        batch.observations,
        edm.noise_level(draws.uniform),
        draws.noise,
        config.max_action if config.clip_denoised else None,
    )


def train_update(
    config: BCConfig, state: BCState, batch: Transition, draws: Draws
) -> tuple[BCState, Metrics]:
    """One training step."""
    common.check_batch(batch)

    def loss_fn(params: Any, rows: tuple[Transition, Draws]) -> tuple[Array, Metrics]:
        loss = cloning_loss(config, params, *rows)
        return loss, {"policy_loss": loss}

    grads, metrics = common.mean_gradients(loss_fn, state.policy.params, (batch, draws))
    rate = state.hyper.learning_rate
    if config.lr_decay:
        rate *= common.cosine_decay(state.policy.step, config.decay_steps)
    return state.replace(policy=state.policy.apply_gradients(grads, rate)), metrics


def _action_dim(config: BCConfig, params: Any) -> int:
    if config.policy == "gaussian":
        return params["params"]["dense_3"]["bias"].shape[-1] // 2
    last = "dense_3" if config.policy == "ddpm" else "dense_4"
    return params["params"]["trunk"][last]["bias"].shape[-1]


def act(config: BCConfig, state: BCState, observations: Array, key: Array) -> Array:
    """One action for each observation: observations [..., O] -> actions [..., A]."""
    params = state.policy.params
    action_dim = _action_dim(config, params)
    policy = policy_network(config, action_dim)
    shape = (*observations.shape[:-1], action_dim)

    def network(*inputs: Array) -> Array:
        return policy.apply(params, *inputs)

    if config.policy == "ddpm":
        schedule = ddpm.vp_schedule(config.num_timesteps)
        noise = ddpm.chain_noise(key, config.num_timesteps, shape)
        return ddpm.sample(network, schedule, observations, noise, config.max_action)
    at_mean = config.action_selection == "mean"
    noise = jnp.zeros(shape) if at_mean else jax.random.normal(key, shape)
    if config.policy == "gaussian":
        return networks.squash(*network(observations), noise, config.max_action)
    bound = config.max_action if config.clip_denoised else None
    action = edm.sample(network, observations, noise, bound, num_steps=config.num_levels)
    return jnp.clip(action, -config.max_action, config.max_action)


def bc(config: BCConfig) -> Algorithm:
    """BC as four pure functions; see `algorithms.base.Algorithm` for their signatures."""

    def init(key: Array, sample: Transition) -> BCState:
        return init_state(config, key, sample.observations.shape[-1], sample.actions.shape[-1])

    def train_step(state: BCState, batch: Transition, key: Array) -> tuple[BCState, Metrics]:
        return train_update(config, state, batch, draw(key, *batch.actions.shape))

    def act_fn(state: BCState, observations: Array, key: Array) -> Array:
        return act(config, state, observations, key)

    return Algorithm(init, train_step, train_step, act_fn, by_rows=True, candidates=1)
