"""IDQL: implicit diffusion Q-learning (Hansen-Estruch et al. 2023, arXiv 2304.10573).

IQL's critics and value, and a diffusion model of the behaviour that is trained apart from them; the
policy is the choice of the critics among its samples. One training step updates the actor and its
moving average, then value, critics and target critics. There is no pretraining: a pretraining step
is a training step.

The defaults are the authors' released program. Its first release (`FIRST_RELEASE`) made two actor
updates, each on one half of the 512 rows, and updated the critics on the first 256.
"""

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from dtql_jax.algorithms import common, iql
from dtql_jax.algorithms.base import Algorithm, Metrics
from dtql_jax.algorithms.config import as_arrays, check, static, traced, with_traced
from dtql_jax.algorithms.train_state import TrainState
from dtql_jax.diffusion import ddpm
from dtql_jax.layers import mish
from dtql_jax.networks import DoubleCritic, ResidualDenoiser, Value
from dtql_jax.types import Array, Transition

ACTION_SELECTIONS = ("argmax", "expectile", "single")
ACTIVATIONS = {"silu": nn.silu, "mish": mish}
FIRST_RELEASE = {
    "actor_updates": 2,
    "critic_rows": 256,
    "decay_steps": 1_500_000,
    "activation": "mish",
    "value_layer_norm": False,
    "time_dim": 64,
    "weight_decay": 0.0,
}


@flax.struct.dataclass
class IDQLConfig:
    """Settings of IDQL."""

    learning_rate: float = traced(3e-4, ">= 0")  # of the actor
    critic_learning_rate: float = traced(3e-4, ">= 0")  # of critics and value
    expectile: float = traced(0.7, "in [0, 1]")  # of the value loss; 0.9 in the AntMazes
    discount: float = traced(0.99, "in [0, 1]")  # per environment step
    tau: float = traced(0.005, "in [0, 1]")  # step of the target critics towards the online ones
    ema_rate: float = traced(0.001, "in [0, 1]")  # step of the averaged actor, per actor update
    weight_decay: float = traced(1e-4, ">= 0")  # of AdamW, for every parameter of the actor

    lr_decay: bool = static(True)  # cosine decay of the actor's learning rate to 0 ...
    decay_steps: int = static(3_000_000, "> 0")  # ... over so many training steps
    actor_updates: int = static(1, "> 0", at_most=2)  # of a training step; 2: one on each half
    critic_rows: int = static(0, ">= 0")  # rows of a batch for value and critics; 0: all
    num_timesteps: int = static(5, "> 0", at_most=10_000)  # T, steps of the diffusion
    max_action: float = static(1.0, "> 0")  # bound of the action space
    hidden_dim: int = static(256, "> 0")  # width; a residual block is four times as wide inside
    num_blocks: int = static(3, "> 0", at_most=100)  # residual blocks of the actor
    time_dim: int = static(128, "even, >= 4")  # learnable Fourier features of the diffusion step
    activation: str = static("silu", one_of=tuple(ACTIVATIONS))  # of the actor
    value_layer_norm: bool = static(True)  # LayerNorm on V's input
    dropout: float = static(0.1, "in [0, 1]")  # share of a block's inputs dropped in training
    num_candidates: int = static(64, "> 0")  # actions drawn for each observation; also 16, 256
    action_selection: str = static("argmax", one_of=ACTION_SELECTIONS)  # over the candidates' Q


@flax.struct.dataclass
class IDQLState:
    """Everything that one training step reads and writes."""

    config: Any  # the configuration; its traced fields are arrays
    actor: TrainState  # the behaviour's diffusion model; its step counts actor updates
    ema_actor: Any  # the actor's moving average, parameters only; it acts
    critics: TrainState  # Q1 and Q2, stacked on a leading axis of 2
    target_critics: Any  # parameters only
    value: TrainState
    action_dim: int = flax.struct.field(pytree_node=False)  # A


class Draws(NamedTuple):
    """The random numbers of one actor update on M rows."""

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
    """Builds the modules; critic and value are IQL's, with a LayerNorm on V's input."""
    c = config
    actor = ResidualDenoiser(
        c.hidden_dim, c.num_blocks, c.time_dim, c.dropout, ACTIVATIONS[c.activation]
    )
    critic, value, _ = iql.make_networks(c)
    value = value.clone(input_norm=c.value_layer_norm)
    return Networks(actor, critic, value, ddpm.vp_schedule(c.num_timesteps))


def actor_batches(config: IDQLConfig, batch: Transition) -> list[Transition]:
    """The rows [M, ...] of each actor update.

    Halves of an odd batch leave its middle row out; of a single row, both are that row.
    """
    if config.actor_updates == 1:
        return [batch]
    half = max(batch.rewards.shape[0] // 2, 1)
    return [jax.tree.map(lambda x: x[:half], batch), jax.tree.map(lambda x: x[-half:], batch)]


def draw(config: IDQLConfig, key: Array, batch: Transition) -> tuple[Draws, ...]:
    """Draws the random numbers of one training step: one `Draws` an actor update."""

    def one(key: Array, shape: tuple[int, ...]) -> Draws:
        time_key, noise_key, dropout_key = jax.random.split(key, 3)
        timestep = jax.random.randint(time_key, shape[:1], 0, config.num_timesteps)
        inside = (shape[0], config.num_blocks, config.hidden_dim)
        kept = jax.random.bernoulli(dropout_key, 1.0 - config.dropout, inside)
        return Draws(timestep, jax.random.normal(noise_key, shape), kept)

    shapes = [part.actions.shape for part in actor_batches(config, batch)]
    return tuple(map(one, jax.random.split(key, len(shapes)), shapes))


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
    """mean ||eps_phi(x_t, s, t) - eps||^2 on the data's actions (DDPM, equation 14), twice.

    The squared norm is a sum over action dimensions.
    """
    mean = ddpm.epsilon_loss(
        lambda *inputs: networks.actor.apply(params, *inputs, draws.kept),
        networks.schedule,
        batch.actions,
        batch.observations,
        draws.timestep,
        draws.noise,
    )
    loss = batch.actions.shape[-1] * mean
    return loss, loss


def critic_loss(params: Any, *arguments: Any) -> tuple[Array, Metrics]:
    """L_Q = mean (Q_i(s, a) - r - discount * mask * V(s'))^2 over rows and critics.

    Half of `iql.critic_loss`, whose arguments it takes.
    """
    total, _ = iql.critic_loss(params, *arguments)
    return 0.5 * total, {"critic_loss": 0.5 * total}


def update_actor(
    networks: Networks, config: Any, state: IDQLState, batch: Transition, draws: Draws
) -> tuple[IDQLState, Array]:
    """One AdamW update of the actor and its moving average; the loss."""
    decay = common.decay_factor(config, state.actor.step, config.actor_updates)
    rate = config.learning_rate * decay
    actor, loss = state.actor.minimise(actor_loss, rate, (batch, draws), networks)
    shrink = rate * config.weight_decay
    params = jax.tree.map(lambda new, old: new - shrink * old, actor.params, state.actor.params)
    ema_actor = optax.incremental_update(params, state.ema_actor, config.ema_rate)
    return state.replace(actor=actor.replace(params=params), ema_actor=ema_actor), loss


def update_critics(
    networks: Networks, config: Any, state: IDQLState, batch: Transition
) -> tuple[IDQLState, Metrics]:
    """One Adam update of V, then of Q1 and Q2 with the new V, then the target critics."""
    state, value_metrics = iql.update_value(networks, config, state, batch)
    critics, metrics = state.critics.minimise(
        critic_loss, config.critic_learning_rate, (batch,), networks, config, state
    )
    targets = optax.incremental_update(critics.params, state.target_critics, config.tau)
    return state.replace(critics=critics, target_critics=targets), value_metrics | metrics


def train_update(
    networks: Networks, config: IDQLConfig, state: IDQLState, batch: Transition, draws: Any
) -> tuple[IDQLState, Metrics]:
    """One training step: actor, value, critics and target critics."""
    common.check_batch(batch)
    c = with_traced(config, state)
    batches, actor_losses = actor_batches(config, batch), []
    critic_batch = jax.tree.map(lambda x: x[: c.critic_rows or None], batch)
    for part, part_draws in zip(batches, draws, strict=True):
        state, loss = update_actor(networks, c, state, part, part_draws)
        actor_losses.append(loss)
    state, metrics = update_critics(networks, c, state, critic_batch)
    names = ("actor_0_loss", "actor_loss")[-len(actor_losses) :]  # the last is the last update's
    return state, dict(zip(names, actor_losses, strict=True)) | metrics


def expectile_logits(q: Array, v: Array, expectile: Array | float) -> Array:
    """log |expectile - 1(q < v)| of candidates: q [..., N], v [...] -> [..., N].

    The implicit policy of an expectile loss is pi(a|s) proportional to
    mu(a|s) |expectile - 1(Q < V)| (IDQL, section 4.1); the candidates are draws from mu.
    """
    return jnp.log(jnp.where(q > v[..., None], expectile, 1.0 - expectile))


def candidates(
    networks: Networks,
    config: IDQLConfig,
    state: IDQLState,
    observations: Array,
    noise: ddpm.ChainNoise,
) -> tuple[Array, Array]:
    """Samples [..., N, A] of the averaged actor and their min(Q1, Q2) of the target critics.

    `observations` are [..., O], `noise` is that of chains of actions [..., N, A].
    """
    actions = ddpm.sample(
        partial(networks.actor.apply, state.ema_actor),
        networks.schedule,
        common.repeat(observations, noise.initial.shape[-2]),
        noise,
        config.max_action,
        clip="xt",
    )
    return actions, common.min_q(networks.critic, state.target_critics, observations, actions)


def act(
    networks: Networks, config: IDQLConfig, state: IDQLState, observations: Array, key: Array
) -> Array:
    """One action for each observation: observations [..., O] -> actions [..., A].

    "argmax" takes the best of `num_candidates` samples by the target critics, "expectile" draws one
    by the weights of `expectile_logits`, "single" is one sample.
    """
    noise_key, choice_key = jax.random.split(key)
    number = common.number_of_candidates(config)
    shape = (*observations.shape[:-1], number, state.action_dim)
    noise = ddpm.chain_noise(noise_key, config.num_timesteps, shape)
    actions, scores = candidates(networks, config, state, observations, noise)
    if config.action_selection == "single":
        return actions[..., 0, :]
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
