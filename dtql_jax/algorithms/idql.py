"""IDQL: implicit diffusion Q-learning (Hansen-Estruch et al. 2023, arXiv 2304.10573).

IQL's critics and value, and a diffusion model of the behaviour that is trained apart from them; the
policy is the choice of the critics among its samples. One training step makes two actor steps, then
updates value, critics and target critics. There is no pretraining: a pretraining step is a training
step.

The authors' program takes one batch of 512 rows, an actor step on each half of it and the critic
step on 256 of them. `batch_use` "halves" does that with any batch (the critics take the first
half), so the authors' run is one of batch_size 512. "whole" takes all rows in all three, the second
actor step with new timesteps and noise: for comparisons at the same batch size.
"""

from functools import partial
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from dtql_jax.algorithms import common, iql
from dtql_jax.algorithms.base import Algorithm, Metrics
from dtql_jax.algorithms.config import as_arrays, check, static, traced, with_traced
from dtql_jax.algorithms.train_state import TrainState
from dtql_jax.diffusion import ddpm
from dtql_jax.networks import DoubleCritic, ResidualDenoiser, Value
from dtql_jax.types import Array, Transition

ACTION_SELECTIONS = ("argmax", "expectile", "single")
BATCH_USES = ("halves", "whole")
ACTOR_STEPS = 2  # for each critic step


@flax.struct.dataclass
class IDQLConfig:
    """Settings of IDQL."""

    learning_rate: float = traced(3e-4, ">= 0")  # of the actor
    critic_learning_rate: float = traced(3e-4, ">= 0")  # of critics and value
    expectile: float = traced(0.7, "in [0, 1]")  # of the value loss; 0.9 in the AntMazes
    discount: float = traced(0.99, "in [0, 1]")  # per environment step
    tau: float = traced(0.005, "in [0, 1]")  # step of the target critics towards the online ones
    ema_rate: float = traced(0.001, "in [0, 1]")  # step of the averaged actor, per actor step
    weight_decay: float = traced(0.0, ">= 0")  # of AdamW, for the actor's kernels

    lr_decay: bool = static(True)  # cosine decay of the actor's learning rate to 0 ...
    decay_steps: int = static(1_500_000, "> 0")  # ... over so many training steps (3e6 actor steps)
    batch_use: str = static("halves", one_of=BATCH_USES)  # rows of the actor and the critic steps
    num_timesteps: int = static(5, "> 0", at_most=10_000)  # T, steps of the diffusion
    max_action: float = static(1.0, "> 0")  # bound of the action space
    hidden_dim: int = static(256, "> 0")  # width; a residual block is four times as wide inside
    num_blocks: int = static(3, "> 0", at_most=100)  # residual blocks of the actor
    time_dim: int = static(64, "even, >= 4")  # learnable Fourier features of the diffusion step
    dropout: float = static(0.1, "in [0, 1]")  # share of a block's inputs dropped in training
    num_candidates: int = static(64, "> 0")  # actions drawn for each observation; also 16, 256
    action_selection: str = static("argmax", one_of=ACTION_SELECTIONS)  # over the candidates' Q


@flax.struct.dataclass
class IDQLState:
    """Everything that one training step reads and writes."""

    config: Any  # the configuration; its traced fields are arrays
    actor: TrainState  # the behaviour's diffusion model; its step counts actor steps
    ema_actor: Any  # the actor's moving average, parameters only; it acts
    critics: TrainState  # Q1 and Q2, stacked on a leading axis of 2
    target_critics: Any  # parameters only
    value: TrainState
    action_dim: int = flax.struct.field(pytree_node=False)  # A


class Draws(NamedTuple):
    """The random numbers of one actor step on M rows."""

    timestep: Array  # [M] integers in [0, T)
    noise: Array  # [M, A] standard normal
    kept: Array  # [M, num_blocks, hidden_dim] booleans, the inputs that dropout keeps


class Networks(NamedTuple):
    """The modules of IDQL, without parameters, and the noise schedule."""

    actor: ResidualDenoiser
    critic: DoubleCritic
    value: Value
    schedule: ddpm.Schedule


def make_networks(config: IDQLConfig) -> Networks:
    """Builds the modules; critic and value are IQL's."""
    c = config
    actor = ResidualDenoiser(c.hidden_dim, c.num_blocks, c.time_dim, c.dropout)
    critic, value, _ = iql.make_networks(c)
    return Networks(actor, critic, value, ddpm.vp_schedule(c.num_timesteps))


def actor_batches(config: IDQLConfig, batch: Transition) -> list[Transition]:
    """The rows [M, ...] of each of the two actor steps; the critic step takes the first's.

    Halves of an odd batch leave its middle row out; of a single row, both are that row.
    """
    if config.batch_use == "whole":
        return [batch] * ACTOR_STEPS
    half = max(batch.rewards.shape[0] // 2, 1)
    return [jax.tree.map(lambda x: x[:half], batch), jax.tree.map(lambda x: x[-half:], batch)]


def draw(config: IDQLConfig, key: Array, batch: Transition) -> tuple[Draws, ...]:
    """Draws the random numbers of one training step: one `Draws` an actor step."""

    def one(key: Array, shape: tuple[int, ...]) -> Draws:
        time_key, noise_key, dropout_key = jax.random.split(key, 3)
        timestep = jax.random.randint(time_key, shape[:1], 0, config.num_timesteps)
        inside = (shape[0], config.num_blocks, config.hidden_dim)
        kept = jax.random.bernoulli(dropout_key, 1.0 - config.dropout, inside)
        return Draws(timestep, jax.random.normal(noise_key, shape), kept)

    shapes = [part.actions.shape for part in actor_batches(config, batch)]
    return tuple(map(one, jax.random.split(key, ACTOR_STEPS), shapes))


def init_state(config: IDQLConfig, networks: Networks, key: Array, sample: Transition) -> IDQLState:
    """A new state; the target critics equal the critics, the moving average the actor."""
    observation, action, time = common.placeholders(sample)
    keys = jax.random.split(key, 3)
    actor = networks.actor.init(keys[0], action, observation, time)
    critics = networks.critic.init(keys[1], observation, action)
    return IDQLState(
        config=as_arrays(config),
        actor=TrainState.create(actor),
        ema_actor=actor,
        critics=TrainState.create(critics),
        target_critics=critics,
        value=TrainState.create(networks.value.init(keys[2], observation)),
        action_dim=action.shape[-1],
    )


def actor_loss(
    params: Any, batch: Transition, draws: Draws, networks: Networks
) -> tuple[Array, Array]:
    """mean (eps_phi(x_t, s, t) - eps)^2 on the data's actions (DDPM, equation 14), twice."""
    loss = ddpm.epsilon_loss(
        lambda *inputs: networks.actor.apply(params, *inputs, draws.kept),
        networks.schedule,
        batch.actions,
        batch.observations,
        draws.timestep,
        draws.noise,
    )
    return loss, loss


def decay_kernels(params: Any, updated: Any, rate: Array) -> Any:
    """AdamW's decoupled decay: `updated` - rate * `params` for every leaf named kernel."""

    def one(path: tuple[Any, ...], before: Array, after: Array) -> Array:
        return after - rate * before if path[-1].key == "kernel" else after

    return jax.tree_util.tree_map_with_path(one, params, updated)


def update_actor(
    networks: Networks, config: Any, state: IDQLState, batch: Transition, draws: Draws
) -> tuple[IDQLState, Array]:
    """One AdamW step of the actor and its moving average; the loss."""
    rate = config.learning_rate * common.decay_factor(config, state.actor.step, ACTOR_STEPS)
    actor, loss = state.actor.minimise(actor_loss, rate, (batch, draws), networks)
    decayed = decay_kernels(state.actor.params, actor.params, rate * config.weight_decay)
    ema_actor = optax.incremental_update(decayed, state.ema_actor, config.ema_rate)
    return state.replace(actor=actor.replace(params=decayed), ema_actor=ema_actor), loss


def train_update(
    networks: Networks, config: IDQLConfig, state: IDQLState, batch: Transition, draws: Any
) -> tuple[IDQLState, Metrics]:
    """One training step: two actor steps, then IQL's value, critics and target critics."""
    common.check_batch(batch)
    c = with_traced(config, state)
    batches, actor_losses = actor_batches(config, batch), []
    for part, part_draws in zip(batches, draws, strict=True):
        state, loss = update_actor(networks, c, state, part, part_draws)
        actor_losses.append(loss)
    state, value_metrics = iql.update_value(networks, c, state, batches[0])
    state, critic_metrics = iql.update_critics(networks, c, state, batches[0])
    metrics = {"actor_loss": jnp.mean(jnp.stack(actor_losses))}
    return state, metrics | value_metrics | critic_metrics


def expectile_logits(q: Array, v: Array, expectile: Array | float) -> Array:
    """log |expectile - 1(q < v)| of candidates: q [..., N], v [...] -> [..., N].

    The implicit policy of an expectile loss is pi(a|s) proportional to
    mu(a|s) |expectile - 1(Q < V)| (IDQL, section 4.1); the candidates are draws from mu.
    """
    return jnp.log(jnp.where(q > v[..., None], expectile, 1.0 - expectile))


def act(
    networks: Networks, config: IDQLConfig, state: IDQLState, observations: Array, key: Array
) -> Array:
    """One action for each observation: observations [..., O] -> actions [..., A].

    Of `num_candidates` samples of the averaged actor, "argmax" takes the best by the target
    critics, "expectile" draws one by the weights of `expectile_logits`; "single" is one sample.
    """
    noise_key, choice_key = jax.random.split(key)
    number = common.number_of_candidates(config)
    shape = (*observations.shape[:-1], number, state.action_dim)
    noise = ddpm.chain_noise(noise_key, config.num_timesteps, shape)
    actions = ddpm.sample(
        partial(networks.actor.apply, state.ema_actor),
        networks.schedule,
        common.repeat(observations, number),
        noise,
        config.max_action,
        clip="xt",
    )
    if config.action_selection == "single":
        return actions[..., 0, :]
    scores = common.min_q(networks.critic, state.target_critics, observations, actions)
    if config.action_selection == "expectile":
        v = networks.value.apply(state.value.params, observations)
        scores = expectile_logits(scores, v, state.config.expectile)
    return common.choose(actions, scores, choice_key, config.action_selection)


def idql(config: IDQLConfig) -> Algorithm:
    """IDQL as four pure functions; see `algorithms.base.Algorithm` for their signatures."""
    check(config)
    networks = make_networks(config)

    def train_step(state: IDQLState, batch: Transition, key: Array) -> tuple[IDQLState, Metrics]:
        return train_update(networks, config, state, batch, draw(config, key, batch))

    init, own_act = partial(init_state, config, networks), partial(act, networks, config)
    return Algorithm(init, train_step, train_step, own_act)
