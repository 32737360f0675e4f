"""DQL: Diffusion-QL (Wang, Hunt, Zhou, ICLR 2023, arXiv 2208.06193).

One diffusion actor of few steps (DDPM) is both the behaviour's model and the policy: its loss is
the epsilon loss on the data plus Q of the action at the end of its reverse chain, with the gradient
through the whole chain. One training step is, in this order: critics, actor, the actor's moving
average, target critics. There is no pretraining: a pretraining step is a training step.
"""

import dataclasses
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from dtql_jax import losses, networks
from dtql_jax.algorithms import common
from dtql_jax.algorithms.base import Algorithm, Metrics
from dtql_jax.algorithms.train_state import TrainState, polyak
from dtql_jax.diffusion import ddpm
from dtql_jax.types import Array, Transition

ACTION_SELECTIONS = ("softmax", "argmax", "single")


@dataclasses.dataclass(frozen=True)
class DQLConfig:
    """Settings of DQL. The first block is traced: a sweep over it never recompiles."""

    learning_rate: float = 3e-4  # of the actor
    critic_learning_rate: float = 3e-4  # of the critics
    eta: float = 1.0  # weight of the Q loss
    discount: float = 0.99  # per environment step
    tau: float = 0.005  # step of the target critics towards the online ones, per training step
    grad_norm: float = 5.0  # largest gradient norm of actor and critics; 0: no clipping
    ema_decay: float = 0.995  # of the actor's moving average, whose actions the targets take

    ema_start: int = 1000  # first update k, counted from 0, after which the average moves
    ema_every: int = 5  # it moves after the updates k that this divides
    max_q_backup: bool = False  # targets take the best of backup_actions next actions, not one
    backup_actions: int = 10  # drawn at the next observation where max_q_backup
    num_timesteps: int = 5  # N, steps of the diffusion
    lr_decay: bool = False  # cosine decay of both learning rates to 0 over decay_steps
    decay_steps: int = 2_000_000  # updates
    decay_every: int = 1000  # updates between two steps of the decay: an epoch
    max_action: float = 1.0  # actions lie in [-max_action, max_action]
    hidden_dim: int = 256  # width of every network
    time_dim: int = 16  # features of the diffusion step
    num_candidates: int = 50  # actions drawn for each observation when acting
    action_selection: str = "softmax"  # over the candidates' Q; or "argmax", or "single" draw

    def __post_init__(self) -> None:
        common.check_settings(
            self,
            choices={"action_selection": ACTION_SELECTIONS},
            unit=("discount", "tau", "ema_decay"),
            nonnegative=("learning_rate", "critic_learning_rate", "eta", "grad_norm", "ema_start"),
            positive=(
                *("ema_every", "backup_actions", "num_timesteps", "decay_steps", "decay_every"),
                *("max_action", "hidden_dim", "num_candidates"),
            ),
        )
        common.check_at_most(self, {"num_timesteps": 10_000})
        common.check_time_dim(self.time_dim)


class Hyperparameters(NamedTuple):
    """The traced numbers of `DQLConfig`, float32 scalars of the same names."""

    learning_rate: Array
    critic_learning_rate: Array
    eta: Array
    discount: Array
    tau: Array
    grad_norm: Array
    ema_decay: Array


@flax.struct.dataclass
class DQLState:
    """Everything that one training step reads and writes.

    Attributes:
      actor: the diffusion actor; its step counts updates.
      ema_actor: its moving average, parameters alone.
      critics: Q1 and Q2, stacked on a leading axis of 2.
      target_critics: parameters alone, of the same layout.
      hyper: the traced numbers.
    """

    actor: TrainState
    ema_actor: Any
    critics: TrainState
    target_critics: Any
    hyper: Hyperparameters


class Draws(NamedTuple):
    """The random numbers of one step.

    Attributes:
      next_action: reverse chains at the next observations, [B, K, A], K the actions a target sees.
      timestep: [B] integers in [0, N) of the epsilon loss.
      noise: [B, A] standard normal of the epsilon loss.
      new_action: reverse chains of the Q loss, [B, A].
      use_first: the coin, a boolean scalar: Q1 above the line and Q2 below, or the other way.
    """

    next_action: ddpm.ChainNoise
    timestep: Array
    noise: Array
    new_action: ddpm.ChainNoise
    use_first: Array


def draw(config: DQLConfig, key: Array, batch_size: int, action_dim: int) -> Draws:
    """Draws the random numbers of one step of a batch."""
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


def hyperparameters(config: DQLConfig) -> Hyperparameters:
    """The traced numbers of a configuration."""
    return common.traced(Hyperparameters, config)


def actor_network(config: DQLConfig, action_dim: int) -> networks.NoisePredictor:
    """The noise-predicting network of the actor."""
    return networks.NoisePredictor(action_dim, config.hidden_dim, config.time_dim)


def critic_network(config: DQLConfig) -> networks.DoubleCritic:
    """Q1 and Q2, without LayerNorm."""
    return networks.DoubleCritic(config.hidden_dim, layer_norm=False)


def init_state(config: DQLConfig, key: Array, observation_dim: int, action_dim: int) -> DQLState:
    """A fresh state; the target critics equal the critics, the moving average the actor."""
    observation, action = jnp.zeros((1, observation_dim)), jnp.zeros((1, action_dim))
    actor_key, critic_key = jax.random.split(key)
    network = actor_network(config, action_dim)
    actor = network.init(actor_key, action, observation, jnp.zeros((1,)))
    critics = critic_network(config).init(critic_key, observation, action)
    return DQLState(
        actor=TrainState.create(actor),
        ema_actor=actor,
        critics=TrainState.create(critics),
        target_critics=critics,
        hyper=hyperparameters(config),
    )


def clip_by_norm(grads: optax.Updates, max_norm: Array) -> tuple[optax.Updates, Array]:
    """Scales gradients by min(1, c / (norm + 1e-6)), norm over all leaves; c = 0 leaves them.

    Returns:
      The gradients and their norm before.
    """
    norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(grads)))
    factor = jnp.where(max_norm > 0.0, jnp.minimum(1.0, max_norm / (norm + 1e-6)), 1.0)
    return jax.tree.map(lambda g: g * factor, grads), norm


def sample_actions(
    config: DQLConfig, params: Any, observations: Array, noise: ddpm.ChainNoise
) -> Array:
    """Ends of reverse chains: observations [..., O], noise of [..., A] -> actions [..., A]."""
    network = actor_network(config, noise.initial.shape[-1])
    schedule = ddpm.vp_schedule(config.num_timesteps)
    return ddpm.sample(
        lambda *inputs: network.apply(params, *inputs),
        schedule,
        observations,
        noise,
        config.max_action,
    )


def next_q(config: DQLConfig, state: DQLState, observations: Array, draws: Draws) -> Array:
    """Q at the next observations [B, O] -> [B]: target critics, actions of the averaged actor.

    Of K actions an observation each target critic takes its best, then the lower critic counts
    (max-Q backup); with K = 1 that is the plain min(Q1, Q2).
    """
    repeated = common.repeat(observations, draws.next_action.initial.shape[-2])
    actions = sample_actions(config, state.ema_actor, repeated, draws.next_action)
    q = critic_network(config).apply(state.target_critics, repeated, actions)
    return jnp.min(jnp.max(q, axis=-1), axis=0)


def _decay(config: DQLConfig, step: Array) -> Array:
    """The cosine factor of update k, the same throughout an epoch; 1 where there is no decay."""
    if not config.lr_decay:
        return jnp.float32(1.0)
    return common.cosine_decay(step // config.decay_every * config.decay_every, config.decay_steps)


def update_critics(
    config: DQLConfig, state: DQLState, batch: Transition, draws: Draws, decay: Array
) -> tuple[DQLState, Metrics]:
    """Part 1: the twin TD loss (equation 4)."""

    def loss_fn(params: Any, rows: tuple[Transition, Draws]) -> tuple[Array, Metrics]:
        batch, draws = rows
        q_next = next_q(config, state, batch.next_observations, _by_step(draws))
        targets = losses.td_targets(batch.rewards, batch.masks, q_next, state.hyper.discount)
        q = critic_network(config).apply(params, batch.observations, batch.actions)
        loss = losses.twin_td_loss(q, targets)
        return loss, {"critic_loss": loss, "q_data": jnp.mean(jnp.min(q, axis=0))}

    rows = (batch, _by_row(draws))
    grads, metrics = common.mean_gradients(loss_fn, state.critics.params, rows)
    grads, norm = clip_by_norm(grads, state.hyper.grad_norm)
    critics = state.critics.apply_gradients(grads, state.hyper.critic_learning_rate * decay)
    return state.replace(critics=critics), metrics | {"critic_grad_norm": norm}


def update_actor(
    config: DQLConfig, state: DQLState, batch: Transition, draws: Draws, decay: Array
) -> tuple[DQLState, Metrics]:
    """Part 2: the epsilon loss - eta * mean Q_i(s, a) / mean |Q_j(s, a)| (equation 3).

    The divisor is a mean over the batch and has no gradient, so the gradients of both terms are
    taken apart, as of means over rows, and divided afterwards.
    """
    network = actor_network(config, batch.actions.shape[-1])

    def loss_fn(
        params: tuple[Any, Any], rows: tuple[Transition, Draws]
    ) -> tuple[Array, tuple[Array, Array, Array]]:
        (cloning, improving), (batch, draws) = params, (rows[0], _by_step(rows[1]))
        bc_loss = ddpm.epsilon_loss(
            lambda *inputs: network.apply(cloning, *inputs),
            ddpm.vp_schedule(config.num_timesteps),
            batch.actions,
            batch.observations,
            draws.timestep,
            draws.noise,
        )
        actions = sample_actions(config, improving, batch.observations, draws.new_action)
        q = critic_network(config).apply(state.critics.params, batch.observations, actions)
        above = jnp.mean(jnp.where(use_first, q[0], q[1]))
        below = jnp.mean(jnp.abs(jnp.where(use_first, q[1], q[0])))
        return bc_loss - above, (bc_loss, above, below)

    params, use_first = state.actor.params, draws.use_first
    (cloning, improving), (bc_loss, above, below) = common.mean_gradients(
        loss_fn, (params, params), (batch, _by_row(draws))
    )
    weight = state.hyper.eta / below
    grads = jax.tree.map(lambda x, y: x + weight * y, cloning, improving)
    grads, norm = clip_by_norm(grads, state.hyper.grad_norm)
    actor = state.actor.apply_gradients(grads, state.hyper.learning_rate * decay)
    metrics = {
        "actor_loss": bc_loss - weight * above,
        "bc_loss": bc_loss,
        "q_loss": -above / below,
        "actor_grad_norm": norm,
    }
    return state.replace(actor=actor), metrics


def _by_row(draws: Draws) -> Draws:
    """With the rows in front everywhere, [N, B, ...] -> [B, N, ...], and without the coin."""
    return _by_step(draws)._replace(use_first=None)


def _by_step(draws: Draws) -> Draws:
    """Inverse of `_by_row`, but for the coin: both swap the two axes."""

    def swap(noise: ddpm.ChainNoise) -> ddpm.ChainNoise:
        return noise._replace(steps=jnp.swapaxes(noise.steps, 0, 1))

    return draws._replace(next_action=swap(draws.next_action), new_action=swap(draws.new_action))


def update_average(config: DQLConfig, state: DQLState, step: Array) -> DQLState:
    """Part 3: the actor's moving average after update `step`, moved only where that is due."""
    due = (step >= config.ema_start) & (step % config.ema_every == 0)
    rate = jnp.where(due, 1.0 - state.hyper.ema_decay, 0.0)
    return state.replace(ema_actor=polyak(state.actor.params, state.ema_actor, rate))


def train_update(
    config: DQLConfig, state: DQLState, batch: Transition, draws: Draws
) -> tuple[DQLState, Metrics]:
    """One training step: parts 1 to 3, then the target critics."""
    common.check_batch(batch)
    step = state.actor.step
    decay = _decay(config, step)
    state, critic_metrics = update_critics(config, state, batch, draws, decay)
    state, actor_metrics = update_actor(config, state, batch, draws, decay)
    state = update_average(config, state, step)
    targets = polyak(state.critics.params, state.target_critics, state.hyper.tau)
    return state.replace(target_critics=targets), critic_metrics | actor_metrics


def act(config: DQLConfig, state: DQLState, observations: Array, key: Array) -> Array:
    """One action for each observation: observations [..., O] -> actions [..., A].

    The candidates are the actor's own (not its moving average's), judged by the target critics.
    """
    noise_key, choice_key = jax.random.split(key)
    number = common.number_of_candidates(config)
    action_dim = state.actor.params["params"]["trunk"]["dense_3"]["bias"].shape[-1]
    shape = (*observations.shape[:-1], number, action_dim)
    noise = ddpm.chain_noise(noise_key, config.num_timesteps, shape)
    actions = sample_actions(config, state.actor.params, common.repeat(observations, number), noise)
    if config.action_selection == "single":
        return actions[..., 0, :]
    q = common.min_q(critic_network(config), state.target_critics, observations, actions)
    return common.choose(actions, q, choice_key, config.action_selection)


def dql(config: DQLConfig) -> Algorithm:
    """DQL as four pure functions; see `algorithms.base.Algorithm` for their signatures."""

    def init(key: Array, sample: Transition) -> DQLState:
        return init_state(config, key, sample.observations.shape[-1], sample.actions.shape[-1])

    def train_step(state: DQLState, batch: Transition, key: Array) -> tuple[DQLState, Metrics]:
        return train_update(config, state, batch, draw(config, key, *batch.actions.shape))

    def act_fn(state: DQLState, observations: Array, key: Array) -> Array:
        return act(config, state, observations, key)

    number = common.number_of_candidates(config)
    return Algorithm(init, train_step, train_step, act_fn, by_rows=True, candidates=number)
