"""IQL: implicit Q-learning (Kostrikov, Nair, Levine, ICLR 2022, arXiv 2110.06169).

One training step is, in this order: value, policy (advantage-weighted regression), critics, target
critics; each part sees what the one before it wrote. There is no pretraining: a pretraining step is
a training step. Nothing is drawn in a step.
"""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax import losses, networks
from dtql_jax.algorithms import common
from dtql_jax.algorithms.base import Algorithm, Metrics
from dtql_jax.algorithms.train_state import TrainState, polyak
from dtql_jax.types import Array, Transition

ACTION_SELECTIONS = ("mean", "single")
MAX_WEIGHT = 100.0  # of a row in the advantage-weighted regression


@dataclasses.dataclass(frozen=True)
class IQLConfig:
    """Settings of IQL. The first block is traced: a sweep over it never recompiles."""

    learning_rate: float = 3e-4  # of the policy
    critic_learning_rate: float = 3e-4  # of critics and value
    expectile: float = 0.7  # of the value loss, in (0, 1); 0.9 in the AntMazes
    temperature: float = 3.0  # beta of the advantage weights; 10 in the AntMazes, 0.5 in Kitchen
    discount: float = 0.99  # per environment step
    tau: float = 0.005  # step of the target critics towards the online ones, per training step

    lr_decay: bool = True  # cosine decay of the policy's learning rate to 0 over decay_steps
    decay_steps: int = 1_000_000  # training steps
    max_action: float = 1.0  # actions lie in [-max_action, max_action]
    hidden_dim: int = 256  # width of every network
    action_selection: str = "mean"  # of the Gaussian; or a "single" draw from it

    def __post_init__(self) -> None:
        common.check_settings(
            self,
            choices={"action_selection": ACTION_SELECTIONS},
            unit=("expectile", "discount", "tau"),
            nonnegative=("learning_rate", "critic_learning_rate", "temperature"),
            positive=("decay_steps", "max_action", "hidden_dim"),
        )


class Hyperparameters(NamedTuple):
    """The traced numbers of `IQLConfig`, float32 scalars of the same names."""

    learning_rate: Array
    critic_learning_rate: Array
    expectile: Array
    temperature: Array
    discount: Array
    tau: Array


@flax.struct.dataclass
class IQLState:
    """Everything that one training step reads and writes.

    Attributes:
      policy: the Gaussian policy; its step counts training steps.
      critics: Q1 and Q2, stacked on a leading axis of 2.
      target_critics: parameters alone, of the same layout.
      value: V.
      hyper: the traced numbers.
    """

    policy: TrainState
    critics: TrainState
    target_critics: Any
    value: TrainState
    hyper: Hyperparameters


def hyperparameters(config: IQLConfig) -> Hyperparameters:
    """The traced numbers of a configuration."""
    return common.traced(Hyperparameters, config)


def critic_network(config: IQLConfig) -> networks.DoubleCritic:
    """Q1 and Q2: two hidden ReLU layers, no LayerNorm."""
    return networks.DoubleCritic(config.hidden_dim, depth=2, layer_norm=False, activation=nn.relu)


def value_network(config: IQLConfig) -> networks.Value:
    """V: two hidden ReLU layers."""
    return networks.Value(config.hidden_dim, depth=2, activation=nn.relu)


def init_state(config: IQLConfig, key: Array, observation_dim: int, action_dim: int) -> IQLState:
    """A fresh state; the target critics equal the critics."""
    observation, action = jnp.zeros((1, observation_dim)), jnp.zeros((1, action_dim))
    keys = jax.random.split(key, 3)
    policy = networks.FixedStdPolicy(action_dim, config.hidden_dim, config.max_action)
    critics = critic_network(config).init(keys[1], observation, action)
    return IQLState(
        policy=TrainState.create(policy.init(keys[0], observation)),
        critics=TrainState.create(critics),
        target_critics=critics,
        value=TrainState.create(value_network(config).init(keys[2], observation)),
        hyper=hyperparameters(config),
    )


def target_q(config: IQLConfig, state: IQLState, batch: Transition) -> Array:
    """min(Q1, Q2) of the target critics at the data's actions: [B]."""
    network = critic_network(config)
    q = network.apply(state.target_critics, batch.observations, batch.actions)
    return jnp.min(q, axis=0)


def update_value(config: IQLConfig, state: IQLState, batch: Transition) -> tuple[IQLState, Metrics]:
    """The expectile loss of V towards the target critics (equation 5). IDQL shares it."""

    def loss_fn(params: Any, batch: Transition) -> tuple[Array, Metrics]:
        q = target_q(config, state, batch)
        v = value_network(config).apply(params, batch.observations)
        loss = losses.expectile_loss(q - v, state.hyper.expectile)
        return loss, {"value_loss": loss, "v_data": jnp.mean(v), "q_data": jnp.mean(q)}

    grads, metrics = common.mean_gradients(loss_fn, state.value.params, batch)
    value = state.value.apply_gradients(grads, state.hyper.critic_learning_rate)
    return state.replace(value=value), metrics


def update_critics(
    config: IQLConfig, state: IQLState, batch: Transition
) -> tuple[IQLState, Metrics]:
    """The TD loss towards V(s') (equation 6), then the target critics. IDQL shares it."""

    def loss_fn(params: Any, batch: Transition) -> tuple[Array, Metrics]:
        next_v = value_network(config).apply(state.value.params, batch.next_observations)
        targets = losses.td_targets(batch.rewards, batch.masks, next_v, state.hyper.discount)
        q = critic_network(config).apply(params, batch.observations, batch.actions)
        loss = losses.twin_td_loss(q, targets)
        return loss, {"td_loss": loss}

    grads, metrics = common.mean_gradients(loss_fn, state.critics.params, batch)
    critics = state.critics.apply_gradients(grads, state.hyper.critic_learning_rate)
    target_critics = polyak(critics.params, state.target_critics, state.hyper.tau)
    return state.replace(critics=critics, target_critics=target_critics), metrics


def advantage_weights(advantage: Array, temperature: Array | float) -> Array:
    """min(exp(beta * (Q - V)), 100), elementwise (equation 7, bounded as the authors bound it)."""
    return jnp.minimum(jnp.exp(temperature * advantage), MAX_WEIGHT)


def gaussian_log_prob(mean: Array, log_std: Array, actions: Array) -> Array:
    """log N(a; mean, std), summed over action dimensions: [..., A] -> [...]."""
    z = (actions - mean) * jnp.exp(-log_std)
    return jnp.sum(-0.5 * z**2 - log_std - 0.5 * np.log(2.0 * np.pi), axis=-1)


def update_policy(
    config: IQLConfig, state: IQLState, batch: Transition
) -> tuple[IQLState, Metrics]:
    """Advantage-weighted regression: -mean exp(beta * (Q - V)) log pi(a|s) (equation 7)."""
    policy = networks.FixedStdPolicy(batch.actions.shape[-1], config.hidden_dim, config.max_action)

    def loss_fn(params: Any, batch: Transition) -> tuple[Array, Metrics]:
        v = value_network(config).apply(state.value.params, batch.observations)
        advantage = target_q(config, state, batch) - v
        weights = advantage_weights(advantage, state.hyper.temperature)
        mean, log_std = policy.apply(params, batch.observations)
        loss = -jnp.mean(weights * gaussian_log_prob(mean, log_std, batch.actions))
        metrics = {
            "policy_loss": loss,
            "policy_std": jnp.mean(jnp.exp(log_std)),
            "advantage_weight": jnp.mean(weights),
        }
        return loss, metrics

    grads, metrics = common.mean_gradients(loss_fn, state.policy.params, batch)
    decay = jnp.float32(1.0)
    if config.lr_decay:
        decay = common.cosine_decay(state.policy.step, config.decay_steps)
    policy_state = state.policy.apply_gradients(grads, state.hyper.learning_rate * decay)
    return state.replace(policy=policy_state), metrics


def train_update(config: IQLConfig, state: IQLState, batch: Transition) -> tuple[IQLState, Metrics]:
    """One training step: value, policy, critics and their targets."""
    common.check_batch(batch)
    state, value_metrics = update_value(config, state, batch)
    state, policy_metrics = update_policy(config, state, batch)
    state, critic_metrics = update_critics(config, state, batch)
    return state, value_metrics | policy_metrics | critic_metrics


def act(config: IQLConfig, state: IQLState, observations: Array, key: Array) -> Array:
    """One action for each observation: observations [..., O] -> actions [..., A].

    "mean" is the Gaussian's mean, as the authors evaluate; "single" a draw from it, clipped.
    """
    action_dim = state.policy.params["params"]["log_std"].shape[-1]
    policy = networks.FixedStdPolicy(action_dim, config.hidden_dim, config.max_action)
    mean, log_std = policy.apply(state.policy.params, observations)
    if config.action_selection == "mean":
        return mean
    action = mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape)
    return jnp.clip(action, -config.max_action, config.max_action)


def iql(config: IQLConfig) -> Algorithm:
    """IQL as four pure functions; see `algorithms.base.Algorithm` for their signatures."""

    def init(key: Array, sample: Transition) -> IQLState:
        return init_state(config, key, sample.observations.shape[-1], sample.actions.shape[-1])

    def train_step(state: IQLState, batch: Transition, key: Array) -> tuple[IQLState, Metrics]:
        del key  # nothing is drawn
        return train_update(config, state, batch)

    def act_fn(state: IQLState, observations: Array, key: Array) -> Array:
        return act(config, state, observations, key)

    return Algorithm(init, train_step, train_step, act_fn, by_rows=True, candidates=1)
