"""DQL: Diffusion-QL (Wang, Hunt, Zhou, ICLR 2023, arXiv 2208.06193).

One diffusion actor of few steps (DDPM) is both the behaviour's model and the policy: its loss is
the epsilon loss on the data plus Q of the action at the end of its reverse chain, with the gradient
through the whole chain. One training step updates critics, actor, the actor's moving average and
target critics, in this order. There is no pretraining: a pretraining step is a training step.
"""

from functools import partial
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
from dtql_jax.diffusion import ddpm
from dtql_jax.networks import DoubleCritic, NoisePredictor
from dtql_jax.training.data_parallel.rows import gradients
from dtql_jax.types import Array, Transition

ACTION_SELECTIONS = ("softmax", "argmax", "single")


@flax.struct.dataclass
class DQLConfig:
    """Settings of DQL."""

    learning_rate: float = traced(3e-4, ">= 0")  # of the actor
    critic_learning_rate: float = traced(3e-4, ">= 0")  # of the critics
    eta: float = traced(1.0, ">= 0")  # weight of the Q loss
    discount: float = traced(0.99, "in [0, 1]")  # per environment step
    tau: float = traced(0.005, "in [0, 1]")  # step of the target critics towards the online ones
    grad_norm: float = traced(5.0, ">= 0")  # largest gradient norm; 0: no clipping
    ema_decay: float = traced(0.995, "in [0, 1]")  # of the actor's moving average

    ema_start: int = static(1000, ">= 0")  # first update k, from 0, after which the average moves
    ema_every: int = static(5, "> 0")  # it moves after the updates k that this divides
    max_q_backup: bool = static(False)  # targets take the best of backup_actions next actions
    backup_actions: int = static(10, "> 0")  # drawn at the next observation where max_q_backup
    num_timesteps: int = static(5, "> 0", at_most=10_000)  # N, steps of the diffusion
    lr_decay: bool = static(False)  # cosine decay of both learning rates to 0 over decay_steps
    decay_steps: int = static(2_000_000, "> 0")  # updates
    decay_every: int = static(1000, "> 0")  # updates between two steps of the decay: an epoch
    max_action: float = static(1.0, "> 0")  # bound of the action space
    hidden_dim: int = static(256, "> 0")  # width of every network
    time_dim: int = static(16, "even, >= 4")  # features of the diffusion step
    num_candidates: int = static(50, "> 0")  # actions drawn for each observation
    action_selection: str = static("softmax", one_of=ACTION_SELECTIONS)  # over the candidates' Q


@flax.struct.dataclass
class DQLState:
    """Everything that one training step reads and writes."""

    config: Any  # the configuration; its traced fields are arrays
    actor: TrainState  # its step counts updates
    ema_actor: Any  # the actor's moving average, parameters only
    critics: TrainState  # Q1 and Q2, stacked on a leading axis of 2
    target_critics: Any  # parameters only
    action_dim: int = flax.struct.field(pytree_node=False)  # A


class Draws(NamedTuple):
    """The random numbers of one step; all but the coin have the rows in front.

    Attributes:
      next_action: reverse chains at the next observations, [B, K, A], K the actions a target sees.
      timestep: [B] integers in [0, N) of the epsilon loss.
      noise: [B, A] standard normal of the epsilon loss.
      new_action: reverse chains of the Q loss, [B, A].
      use_first: the coin, a boolean scalar: (i, j) = (1, 2) in equation 3, else (2, 1).
    """

    next_action: ddpm.ChainNoise
    timestep: Array
    noise: Array
    new_action: ddpm.ChainNoise
    use_first: Array


class Networks(NamedTuple):
    """The modules of DQL, without parameters, and the noise schedule."""

    actor: NoisePredictor
    critic: DoubleCritic
    schedule: ddpm.Schedule


def make_networks(config: DQLConfig) -> Networks:
    """Builds the modules; the critics have no LayerNorm."""
    actor = NoisePredictor(config.hidden_dim, config.time_dim)
    critic = DoubleCritic(config.hidden_dim, layer_norm=False)
    return Networks(actor, critic, ddpm.vp_schedule(config.num_timesteps))


def draw(config: DQLConfig, key: Array, batch_size: int, action_dim: int) -> Draws:
    """Draws the random numbers of one step."""
    keys = jax.random.split(key, 5)
    number, shape = config.num_timesteps, (batch_size, action_dim)
    repeats = config.backup_actions if config.max_q_backup else 1
    return Draws(
        ddpm.chain_noise(keys[0], number, (batch_size, repeats, action_dim)),
        jax.random.randint(keys[1], (batch_size,), 0, number),
        jax.random.normal(keys[2], shape),
        ddpm.chain_noise(keys[3], number, shape),
        jax.random.bernoulli(keys[4]),
    )


def init_state(config: DQLConfig, networks: Networks, key: Array, sample: Transition) -> DQLState:
    """A new state; the target critics equal the critics, the moving average the actor."""
    observation, action, time = common.placeholders(sample)
    actor_key, critic_key = jax.random.split(key)
    actor = networks.actor.init(actor_key, action, observation, time)
    critics = networks.critic.init(critic_key, observation, action)
    return DQLState(
        config=as_arrays(config),
        actor=TrainState.create(actor),
        ema_actor=actor,
        critics=TrainState.create(critics),
        target_critics=critics,
        action_dim=action.shape[-1],
    )


def sample_actions(
    networks: Networks, config: DQLConfig, params: Any, observations: Array, noise: ddpm.ChainNoise
) -> Array:
    """Ends of reverse chains: observations [..., O], noise of [..., A] -> actions [..., A]."""
    actor = partial(networks.actor.apply, params)
    return ddpm.sample(actor, networks.schedule, observations, noise, config.max_action)


def next_q(
    networks: Networks, config: DQLConfig, state: DQLState, observations: Array, noise: Any
) -> Array:
    """Q at the next observations [B, O] -> [B]: target critics, actions of the averaged actor.

    Of K actions an observation (`noise` is that of chains [B, K, A]) each target critic takes its
    best, and the lower critic counts (max-Q backup); with K = 1 that is the plain min(Q1, Q2).
    """
    repeated = common.repeat(observations, noise.initial.shape[-2])
    actions = sample_actions(networks, config, state.ema_actor, repeated, noise)
    q = networks.critic.apply(state.target_critics, repeated, actions)
    return jnp.min(jnp.max(q, axis=-1), axis=0)


def critic_loss(
    params: Any, batch: Transition, noise: Any, networks: Networks, config: Any, state: DQLState
) -> tuple[Array, Metrics]:
    """sum_i mean (Q_i(s, a) - r - discount * mask * Q_target(s', a'))^2 (equation 4)."""
    q_next = next_q(networks, config, state, batch.next_observations, noise)
    targets = losses.td_targets(batch.rewards, batch.masks, q_next, config.discount)
    q = networks.critic.apply(params, batch.observations, batch.actions)
    loss = losses.twin_td_loss(q, targets)
    return loss, {"critic_loss": loss, "q_data": jnp.mean(jnp.min(q, axis=0))}


def actor_loss(bc_loss: Array, q_i: Array, q_j: Array, eta: Array | float) -> Array:
    """L_d + eta * L_q with L_q = -mean Q_i(s, a) / mean |Q_j(s, a)| (equation 3, program's form).

    Args:
      bc_loss: L_d, the epsilon loss on the data's actions (equation 2).
      q_i: mean of one critic over the batch, at actions of the reverse chain.
      q_j: mean of the other critic's absolute value; it has no gradient.
      eta: weight of L_q.
    """
    return bc_loss - eta * q_i / jax.lax.stop_gradient(q_j)


def actor_terms(
    params: tuple[Any, Any],
    batch: Transition,
    draws: Draws,
    use_first: Array,
    networks: Networks,
    config: DQLConfig,
    state: DQLState,
) -> tuple[Array, tuple[Array, Array, Array]]:
    """(L_d - mean Q_i, (L_d, mean Q_i, mean |Q_j|)), each a mean over the rows.

    L_d is a function of the first of `params`, Q of the second: the actor's parameters, twice.
    """
    cloning, improving = params
    bc_loss = ddpm.epsilon_loss(
        partial(networks.actor.apply, cloning),
        networks.schedule,
        batch.actions,
        batch.observations,
        draws.timestep,
        draws.noise,
    )
    actions = sample_actions(networks, config, improving, batch.observations, draws.new_action)
    q = networks.critic.apply(state.critics.params, batch.observations, actions)
    q_i = jnp.mean(jnp.where(use_first, q[0], q[1]))
    q_j = jnp.mean(jnp.abs(jnp.where(use_first, q[1], q[0])))
    return bc_loss - q_i, (bc_loss, q_i, q_j)


def clip_by_norm(grads: Any, max_norm: Array) -> tuple[Any, Array]:
    """Scales gradients by min(1, c / (norm + 1e-6)); c = 0 leaves them. Returns the norm too.

    This is PyTorch's formula; optax.clip_by_global_norm has no 1e-6.
    """
    norm = optax.global_norm(grads)
    factor = jnp.where(max_norm > 0.0, jnp.minimum(1.0, max_norm / (norm + 1e-6)), 1.0)
    return jax.tree.map(lambda g: g * factor, grads), norm


def update_critics(
    networks: Networks, config: Any, state: DQLState, batch: Transition, draws: Draws, decay: Any
) -> tuple[DQLState, Metrics]:
    """Part 1: one Adam step of Q1 and Q2; `decay` is a factor of the learning rate."""
    rows = (batch, draws.next_action)
    grads, metrics = gradients(critic_loss, state.critics.params, rows, networks, config, state)
    grads, norm = clip_by_norm(grads, config.grad_norm)
    critics = state.critics.apply_gradients(grads, config.critic_learning_rate * decay)
    return state.replace(critics=critics), metrics | {"critic_grad_norm": norm}


def update_actor(
    networks: Networks, config: Any, state: DQLState, batch: Transition, draws: Draws, decay: Any
) -> tuple[DQLState, Metrics]:
    """Part 2: one Adam step of the actor.

    The divisor in `actor_loss` is a mean over the batch, so the gradients of L_d and of Q are
    computed apart, as means over rows, and combined afterwards.
    """
    params, rows = state.actor.params, (batch, draws._replace(use_first=None))
    rest = (draws.use_first, networks, config, state)
    (cloning, improving), means = gradients(actor_terms, (params, params), rows, *rest)
    bc_loss, q_i, q_j = means
    weight = config.eta / q_j
    grads = jax.tree.map(lambda x, y: x + weight * y, cloning, improving)
    grads, norm = clip_by_norm(grads, config.grad_norm)
    actor = state.actor.apply_gradients(grads, config.learning_rate * decay)
    metrics = {
        "actor_loss": actor_loss(bc_loss, q_i, q_j, config.eta),
        "bc_loss": bc_loss,
        "q_loss": -q_i / q_j,
        "actor_grad_norm": norm,
    }
    return state.replace(actor=actor), metrics


def update_average(config: Any, state: DQLState, step: Array) -> DQLState:
    """Part 3: moves the actor's average after update `step`, only where that is due."""
    due = (step >= config.ema_start) & (step % config.ema_every == 0)
    rate = jnp.where(due, 1.0 - config.ema_decay, 0.0)
    average = optax.incremental_update(state.actor.params, state.ema_actor, rate)
    return state.replace(ema_actor=average)


def train_update(
    networks: Networks, config: DQLConfig, state: DQLState, batch: Transition, draws: Draws
) -> tuple[DQLState, Metrics]:
    """One training step: parts 1 to 3, then the target critics."""
    common.check_batch(batch)
    c, step = with_traced(config, state), state.actor.step
    # the same throughout an epoch
    decay = common.decay_factor(config, step // config.decay_every * config.decay_every)
    state, critic_metrics = update_critics(networks, c, state, batch, draws, decay)
    state, actor_metrics = update_actor(networks, c, state, batch, draws, decay)
    state = update_average(c, state, step)
    targets = optax.incremental_update(state.critics.params, state.target_critics, c.tau)
    return state.replace(target_critics=targets), critic_metrics | actor_metrics


def act(
    networks: Networks, config: DQLConfig, state: DQLState, observations: Array, key: Array
) -> Array:
    """One action for each observation: observations [..., O] -> actions [..., A].

    The candidates are samples of the actor itself, not of its moving average.
    """
    noise_key, choice_key = jax.random.split(key)
    number = common.number_of_candidates(config)
    shape = (*observations.shape[:-1], number, state.action_dim)
    noise = ddpm.chain_noise(noise_key, config.num_timesteps, shape)
    repeated = common.repeat(observations, number)
    actions = sample_actions(networks, config, state.actor.params, repeated, noise)
    if config.action_selection == "single":
        return actions[..., 0, :]
    q = common.min_q(networks.critic, state.target_critics, observations, actions)
    return common.choose(actions, q, choice_key, config.action_selection)


def dql(config: DQLConfig) -> Algorithm:
    """DQL as four pure functions; see `algorithms.base.Algorithm` for their signatures."""
    check(config)
    networks = make_networks(config)

    def train_step(state: DQLState, batch: Transition, key: Array) -> tuple[DQLState, Metrics]:
        draws = draw(config, key, *batch.actions.shape)
        return train_update(networks, config, state, batch, draws)

    init, own_act = partial(init_state, config, networks), partial(act, networks, config)
    return Algorithm(init, train_step, train_step, own_act)
