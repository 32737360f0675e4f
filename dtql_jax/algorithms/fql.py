"""Flow Q-Learning, FQL (Park, Li, Levine, ICML 2025, arXiv 2502.02538).

A flow policy clones the behaviour in the data. A one-step policy imitates the flow's actions, which
takes `flow_steps` Euler steps an update, and maximises Q. One training step updates critics, flow,
one-step policy and target critics, all from the parameters before the step, as the authors' program
does. There is no pretraining: a pretraining step is a training step.
"""

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from dtql_jax import losses
from dtql_jax.algorithms import common
from dtql_jax.algorithms.base import Algorithm, Metrics
from dtql_jax.algorithms.config import as_arrays, check, static, traced, with_traced
from dtql_jax.algorithms.train_state import TrainState
from dtql_jax.networks import MLP, TwinMLP
from dtql_jax.training.data_parallel.rows import gradients
from dtql_jax.types import Array, Transition

AGGREGATIONS = {"mean": jnp.mean, "min": jnp.min}


@flax.struct.dataclass
class FQLConfig:
    """Settings of FQL."""

    learning_rate: float = traced(3e-4, ">= 0")  # of every network
    alpha: float = traced(10.0, ">= 0")  # weight of the distillation loss
    discount: float = traced(0.99, "in [0, 1]")  # per environment step
    tau: float = traced(0.005, "in [0, 1]")  # step of the target critics towards the online ones

    flow_steps: int = static(10, "> 0", at_most=1_000)  # Euler steps of the flow
    q_aggregation: str = static("mean", one_of=tuple(AGGREGATIONS))  # of the target critics
    normalize_q: bool = static(False)  # divide the Q loss by the mean of |Q|
    max_action: float = static(1.0, "> 0")  # actions lie in [-max_action, max_action]
    hidden_dim: int = static(512, "> 0")  # width of every network
    depth: int = static(4, "> 0", at_most=100)  # hidden layers of every network
    layer_norm: bool = static(True)  # LayerNorm in the critics
    policy_layer_norm: bool = static(False)  # LayerNorm in flow and one-step policy


@flax.struct.dataclass
class FQLState:
    """Everything that one training step reads and writes; see `dtql.DTQLState`."""

    config: Any
    critics: TrainState
    target_critics: Any
    flow: TrainState
    policy: TrainState
    action_dim: int = flax.struct.field(pytree_node=False)


class Draws(NamedTuple):
    """The random numbers of one step: time [B] uniform in [0, 1), the others [B, A] normal."""

    next_noise: Array
    flow_noise: Array
    flow_time: Array
    policy_noise: Array


class Networks(NamedTuple):
    """The modules of FQL, without parameters."""

    critic: TwinMLP  # (observations, actions) -> [2, ..., 1]
    flow: MLP  # (observations, actions, time [..., 1]) -> velocity [..., A]
    policy: MLP  # (observations, noise [..., A]) -> actions [..., A], not bounded


def make_networks(config: FQLConfig, action_dim: int) -> Networks:
    """Builds the modules."""
    sizes = (config.hidden_dim, config.depth)
    actor = MLP(action_dim, *sizes, layer_norm=config.policy_layer_norm)
    return Networks(TwinMLP(1, *sizes, layer_norm=config.layer_norm), actor, actor)


def q_values(networks: Networks, params: Any, observations: Array, actions: Array) -> Array:
    """Q1 and Q2: observations [B, O], actions [B, A] -> [2, B]."""
    return networks.critic.apply(params, observations, actions)[..., 0]


def one_step_actions(
    networks: Networks, config: Any, params: Any, observations: Array, noise: Array
) -> Array:
    """Actions of the one-step policy within the action space: [..., O], [..., A] -> [..., A]."""
    actions = networks.policy.apply(params, observations, noise)
    return jnp.clip(actions, -config.max_action, config.max_action)


def flow_actions(
    networks: Networks, config: Any, params: Any, observations: Array, noise: Array
) -> Array:
    """Actions of the flow policy, from noise [..., A] by `flow_steps` Euler steps."""
    actions = noise
    for i in range(config.flow_steps):
        time = jnp.full((*noise.shape[:-1], 1), i / config.flow_steps)
        actions += networks.flow.apply(params, observations, actions, time) / config.flow_steps
    return jnp.clip(actions, -config.max_action, config.max_action)


def critic_loss(
    params: Any, batch: Transition, noise: Array, networks: Networks, config: Any, state: FQLState
) -> tuple[Array, Metrics]:
    """L_Q = mean (Q_i(s, a) - r - discount * mask * Q'(s', mu(s', z)))^2 over rows and critics.

    Q' is the mean (or the smaller) of the two target critics, `noise` is z [B, A].
    """
    observations = batch.next_observations
    actions = one_step_actions(networks, config, state.policy.params, observations, noise)
    next_q = q_values(networks, state.target_critics, observations, actions)
    next_q = AGGREGATIONS[config.q_aggregation](next_q, axis=0)
    targets = losses.td_targets(batch.rewards, batch.masks, next_q, config.discount)
    q = q_values(networks, params, batch.observations, batch.actions)
    loss = jnp.mean((q - targets) ** 2)
    return loss, {"critic_loss": loss, "q_data": jnp.mean(jnp.min(q, axis=0))}


def flow_loss(
    params: Any, batch: Transition, noise: Array, time: Array, networks: Networks
) -> tuple[Array, Metrics]:
    """Flow matching: mean (v(s, x_t, t) - (a - x_0))^2 with x_t = (1 - t) x_0 + t a.

    `noise` is x_0 [B, A], `time` is t [B]; the mean is over rows and action dimensions.
    """
    t = time[:, None]
    points = (1.0 - t) * noise + t * batch.actions
    velocity = networks.flow.apply(params, batch.observations, points, t)
    loss = jnp.mean((velocity - (batch.actions - noise)) ** 2)
    return loss, {"bc_flow_loss": loss}


def policy_terms(
    params: tuple[Any, Any],
    batch: Transition,
    noise: Array,
    networks: Networks,
    config: Any,
    state: FQLState,
) -> tuple[Array, tuple[Array, Array, Array]]:
    """alpha * L_distill - mean Q(s, mu(s, z)), with L_distill = mean (mu(s, z) - flow(s, z))^2.

    Args:
      params: the one-step policy twice, for imitation and for Q: the gradient of the second part
        may have to be divided by the mean of |Q| over the whole batch.
      batch: transitions [B, ...].
      noise: z [B, A], the same for the flow and the one-step policy.
      networks: the modules.
      config: alpha, flow_steps, max_action.
      state: critics and flow, which get no gradient.

    Returns:
      The loss and (L_distill, mean Q, mean |Q|).
    """
    imitating, improving = params
    targets = flow_actions(networks, config, state.flow.params, batch.observations, noise)
    actions = networks.policy.apply(imitating, batch.observations, noise)
    distill_loss = jnp.mean((actions - targets) ** 2)
    actions = one_step_actions(networks, config, improving, batch.observations, noise)
    q = q_values(networks, state.critics.params, batch.observations, actions).mean(axis=0)
    terms = (distill_loss, jnp.mean(q), jnp.mean(jnp.abs(q)))
    return config.alpha * distill_loss - jnp.mean(q), terms


def update_policy(
    networks: Networks, config: Any, state: FQLState, batch: Transition, noise: Array
) -> tuple[TrainState, Metrics]:
    """One Adam step of the one-step policy."""
    params = (state.policy.params, state.policy.params)
    (imitating, improving), (distill_loss, q, q_size) = gradients(
        policy_terms, params, (batch, noise), networks, config, state
    )
    scale = 1.0 / q_size if config.normalize_q else 1.0
    grads = jax.tree.map(lambda g, h: g + scale * h, imitating, improving)
    metrics = {"distill_loss": distill_loss, "q_loss": -scale * q}
    return state.policy.apply_gradients(grads, config.learning_rate), metrics


def train_update(
    networks: Networks, config: FQLConfig, state: FQLState, batch: Transition, draws: Draws
) -> tuple[FQLState, Metrics]:
    """One training step; every part starts from the parameters before the step."""
    common.check_batch(batch)
    c = with_traced(config, state)
    critics, critic_metrics = state.critics.minimise(
        critic_loss, c.learning_rate, (batch, draws.next_noise), networks, c, state
    )
    rows = (batch, draws.flow_noise, draws.flow_time)
    flow, flow_metrics = state.flow.minimise(flow_loss, c.learning_rate, rows, networks)
    policy, metrics = update_policy(networks, c, state, batch, draws.policy_noise)
    actor_loss = flow_metrics["bc_flow_loss"] + c.alpha * metrics["distill_loss"]
    metrics |= {"actor_loss": actor_loss + metrics["q_loss"]}
    # the authors' program moves the targets towards the critics of before the step
    targets = optax.incremental_update(state.critics.params, state.target_critics, c.tau)
    state = state.replace(critics=critics, target_critics=targets, flow=flow, policy=policy)
    return state, critic_metrics | flow_metrics | metrics


def draw(key: Array, batch_size: int, action_dim: int) -> Draws:
    """Draws the random numbers of one step."""
    keys = jax.random.split(key, 4)
    next_noise, flow_noise, policy_noise = (
        jax.random.normal(k, (batch_size, action_dim)) for k in keys[:3]
    )
    return Draws(next_noise, flow_noise, jax.random.uniform(keys[3], (batch_size,)), policy_noise)


def fql(config: FQLConfig) -> Algorithm:
    """FQL as four pure functions; see `algorithms.base.Algorithm` for their signatures."""
    check(config)

    def init(key: Array, sample: Transition) -> FQLState:
        observation, action, time = common.placeholders(sample)
        networks = make_networks(config, action.shape[-1])
        keys = jax.random.split(key, 3)
        critics = networks.critic.init(keys[0], observation, action)
        return FQLState(
            config=as_arrays(config),
            critics=TrainState.create(critics),
            target_critics=critics,
            flow=TrainState.create(networks.flow.init(keys[1], observation, action, time[:, None])),
            policy=TrainState.create(networks.policy.init(keys[2], observation, action)),
            action_dim=action.shape[-1],
        )

    def train_step(state: FQLState, batch: Transition, key: Array) -> tuple[FQLState, Metrics]:
        networks = make_networks(config, state.action_dim)
        return train_update(networks, config, state, batch, draw(key, *batch.actions.shape))

    def act(state: FQLState, observations: Array, key: Array) -> Array:
        networks = make_networks(config, state.action_dim)
        noise = jax.random.normal(key, (*observations.shape[:-1], state.action_dim))
        return one_step_actions(networks, config, state.policy.params, observations, noise)

    return Algorithm(init, train_step, train_step, act)
