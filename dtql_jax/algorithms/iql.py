"""IQL: implicit Q-learning (Kostrikov, Nair, Levine, ICLR 2022, arXiv 2110.06169).

One training step updates value, policy (advantage-weighted regression), critics and target critics,
in this order, each with the parameters that the one before it wrote. There is no pretraining: a
pretraining step is a training step. A step draws no random numbers.
"""

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.scipy.stats import norm

from dtql_jax import losses
from dtql_jax.algorithms import common
from dtql_jax.algorithms.base import Algorithm, Metrics
from dtql_jax.algorithms.config import as_arrays, check, static, traced, with_traced
from dtql_jax.algorithms.train_state import TrainState
from dtql_jax.networks import DoubleCritic, FixedStdPolicy, Value
from dtql_jax.types import Array, Transition

MAX_WEIGHT = 100.0  # of a row in the advantage-weighted regression


@flax.struct.dataclass
class IQLConfig:
    """Settings of IQL."""

    learning_rate: float = traced(3e-4, ">= 0")  # of the policy
    critic_learning_rate: float = traced(3e-4, ">= 0")  # of critics and value
    expectile: float = traced(0.7, "in [0, 1]")  # of the value loss; 0.9 in the AntMazes
    temperature: float = traced(3.0, ">= 0")  # of the advantage; 10 in the AntMazes, 0.5 in Kitchen
    discount: float = traced(0.99, "in [0, 1]")  # per environment step
    tau: float = traced(0.005, "in [0, 1]")  # step of the target critics towards the online ones

    lr_decay: bool = static(True)  # cosine decay of the policy's learning rate to 0 ...
    decay_steps: int = static(1_000_000, "> 0")  # ... over so many training steps
    max_action: float = static(1.0, "> 0")  # bound of the action space
    hidden_dim: int = static(256, "> 0")  # width of every network
    action_selection: str = static("mean", one_of=("mean", "single"))  # or a draw of the Gaussian


@flax.struct.dataclass
class IQLState:
    """Everything that one training step reads and writes; see `dtql.DTQLState`."""

    config: Any
    policy: TrainState
    critics: TrainState
    target_critics: Any
    value: TrainState
    action_dim: int = flax.struct.field(pytree_node=False)


class Networks(NamedTuple):
    """The modules of IQL, without parameters."""

    critic: DoubleCritic
    value: Value
    policy: FixedStdPolicy


def make_networks(config: Any) -> Networks:
    """Builds the modules: two hidden ReLU layers each, no LayerNorm."""
    critic = DoubleCritic(config.hidden_dim, depth=2, layer_norm=False, activation=nn.relu)
    value = Value(config.hidden_dim, depth=2, activation=nn.relu)
    return Networks(critic, value, FixedStdPolicy(config.hidden_dim, config.max_action))


def init_state(config: IQLConfig, networks: Networks, key: Array, sample: Transition) -> IQLState:
    """A new state; the target critics equal the critics."""
    observation, action, _ = common.placeholders(sample)
    keys = jax.random.split(key, 3)
    critics = networks.critic.init(keys[1], observation, action)
    return IQLState(
        config=as_arrays(config),
        policy=TrainState.create(networks.policy.init(keys[0], observation, action.shape[-1])),
        critics=TrainState.create(critics),
        target_critics=critics,
        value=TrainState.create(networks.value.init(keys[2], observation)),
        action_dim=action.shape[-1],
    )


def value_loss(
    params: Any, batch: Transition, networks: Any, config: Any, state: Any
) -> tuple[Array, Metrics]:
    """L_V = mean |expectile - 1(u < 0)| u^2, u = min target Q(s, a) - V(s) (equation 5)."""
    q = networks.critic.apply(state.target_critics, batch.observations, batch.actions).min(axis=0)
    v = networks.value.apply(params, batch.observations)
    loss = losses.expectile_loss(q - v, config.expectile)
    return loss, {"value_loss": loss, "v_data": jnp.mean(v), "q_data": jnp.mean(q)}


def critic_loss(
    params: Any, batch: Transition, networks: Any, config: Any, state: Any
) -> tuple[Array, Metrics]:
    """L_Q = sum_i mean (Q_i(s, a) - r - discount * mask * V(s'))^2 (equation 6)."""
    next_v = networks.value.apply(state.value.params, batch.next_observations)
    targets = losses.td_targets(batch.rewards, batch.masks, next_v, config.discount)
    q = networks.critic.apply(params, batch.observations, batch.actions)
    loss = losses.twin_td_loss(q, targets)
    return loss, {"td_loss": loss}


def advantage_weights(advantage: Array, temperature: Array | float) -> Array:
    """min(exp(temperature * (Q - V)), 100), elementwise (equation 7; the authors' bound)."""
    return jnp.minimum(jnp.exp(temperature * advantage), MAX_WEIGHT)


def policy_loss(
    params: Any, batch: Transition, networks: Networks, config: Any, state: IQLState
) -> tuple[Array, Metrics]:
    """L_pi = -mean exp(temperature * (min target Q - V)) log N(a; mean(s), std) (equation 7)."""
    q = networks.critic.apply(state.target_critics, batch.observations, batch.actions).min(axis=0)
    v = networks.value.apply(state.value.params, batch.observations)
    weights = advantage_weights(q - v, config.temperature)
    mean, log_std = networks.policy.apply(params, batch.observations, batch.actions.shape[-1])
    log_prob = norm.logpdf(batch.actions, mean, jnp.exp(log_std)).sum(axis=-1)
    loss = -jnp.mean(weights * log_prob)
    metrics = {"policy_std": jnp.mean(jnp.exp(log_std)), "advantage_weight": jnp.mean(weights)}
    return loss, {"policy_loss": loss, **metrics}


def update_value(networks: Any, config: Any, state: Any, batch: Transition) -> tuple[Any, Metrics]:
    """One Adam step of V; IDQL shares it."""
    rate, rest = config.critic_learning_rate, (networks, config, state)
    value, metrics = state.value.minimise(value_loss, rate, (batch,), *rest)
    return state.replace(value=value), metrics


def update_critics(
    networks: Any, config: Any, state: Any, batch: Transition
) -> tuple[Any, Metrics]:
    """One Adam step of Q1 and Q2, then the target critics; IDQL shares it."""
    rate, rest = config.critic_learning_rate, (networks, config, state)
    critics, metrics = state.critics.minimise(critic_loss, rate, (batch,), *rest)
    targets = optax.incremental_update(critics.params, state.target_critics, config.tau)
    return state.replace(critics=critics, target_critics=targets), metrics


def train_update(
    networks: Networks, config: IQLConfig, state: IQLState, batch: Transition
) -> tuple[IQLState, Metrics]:
    """One training step: value, policy, critics and their targets."""
    common.check_batch(batch)
    c = with_traced(config, state)
    state, value_metrics = update_value(networks, c, state, batch)
    rate = c.learning_rate * common.decay_factor(config, state.policy.step)
    policy, policy_metrics = state.policy.minimise(policy_loss, rate, (batch,), networks, c, state)
    state = state.replace(policy=policy)
    state, critic_metrics = update_critics(networks, c, state, batch)
    return state, value_metrics | policy_metrics | critic_metrics


def act(
    networks: Networks, config: IQLConfig, state: IQLState, observations: Array, key: Array
) -> Array:
    """The Gaussian's mean, or a draw of it: observations [..., O] -> actions [..., A]."""
    mean, log_std = networks.policy.apply(state.policy.params, observations, state.action_dim)
    if config.action_selection == "mean":
        return mean
    action = mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape)
    return jnp.clip(action, -config.max_action, config.max_action)


def iql(config: IQLConfig) -> Algorithm:
    """IQL as four pure functions; see `algorithms.base.Algorithm` for their signatures."""
    check(config)
    networks = make_networks(config)

    def train_step(state: IQLState, batch: Transition, key: Array) -> tuple[IQLState, Metrics]:
        del key  # nothing is drawn
        return train_update(networks, config, state, batch)

    init, own_act = partial(init_state, config, networks), partial(act, networks, config)
    return Algorithm(init, train_step, train_step, own_act)
