"""IDQL: implicit diffusion Q-learning (Hansen-Estruch et al. 2023, arXiv 2304.10573).

IQL's critics and value, and a diffusion model of the behaviour that is trained apart from them; the
policy is what the critics choose among its samples. One training step is, in this order: two actor
steps, value, critics, target critics. There is no pretraining: a pretraining step is a training
step.

The authors' program takes one batch of 512 rows, an actor step on each half of it and the critic
step on 256 of them. `batch_use` "halves" does that with whatever batch comes (the critics take the
first half), so the authors' run is one of batch_size 512. "whole" takes all rows in all three, the
second actor step with fresh timesteps and noise: for comparisons at the same batch size.
"""

import dataclasses
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from dtql_jax import networks
from dtql_jax.algorithms import common, iql
from dtql_jax.algorithms.base import Algorithm, Metrics
from dtql_jax.algorithms.train_state import TrainState, polyak
from dtql_jax.diffusion import ddpm
from dtql_jax.types import Array, Transition

ACTION_SELECTIONS = ("argmax", "expectile", "single")
BATCH_USES = ("halves", "whole")
ACTOR_STEPS = 2  # for each critic step


@dataclasses.dataclass(frozen=True)
class IDQLConfig:
    """Settings of IDQL. The first block is traced: a sweep over it never recompiles."""

    learning_rate: float = 3e-4  # of the actor
    critic_learning_rate: float = 3e-4  # of critics and value
    expectile: float = 0.7  # of the value loss, in (0, 1); 0.9 in the AntMazes
    discount: float = 0.99  # per environment step
    tau: float = 0.005  # step of the target critics towards the online ones, per training step
    ema_rate: float = 0.001  # step of the averaged actor towards the actor, per actor step
    weight_decay: float = 0.0  # of AdamW, for the actor's kernels

    lr_decay: bool = True  # cosine decay of the actor's learning rate to 0 over decay_steps
    decay_steps: int = 1_500_000  # training steps, each of two actor steps: the paper's 3e6
    batch_use: str = "halves"  # rows of the two actor steps and the critic step; or "whole"
    num_timesteps: int = 5  # T, steps of the diffusion
    max_action: float = 1.0  # actions lie in [-max_action, max_action]
    hidden_dim: int = 256  # width; a residual block is four times as wide inside
    num_blocks: int = 3  # residual blocks of the actor
    time_dim: int = 64  # learnable Fourier features of the diffusion step
    dropout: float = 0.1  # share of a residual block's inputs dropped in training
    num_candidates: int = 64  # actions drawn for each observation; the paper has 16, 64, 256
    action_selection: str = "argmax"  # over the candidates' Q; "expectile" weights, or "single"

    def __post_init__(self) -> None:
        common.check_settings(
            self,
            choices={"action_selection": ACTION_SELECTIONS, "batch_use": BATCH_USES},
            unit=("expectile", "discount", "tau", "ema_rate", "dropout"),
            nonnegative=("learning_rate", "critic_learning_rate", "weight_decay"),
            positive=(
                *("decay_steps", "num_timesteps", "max_action", "hidden_dim", "num_blocks"),
                "num_candidates",
            ),
        )
        common.check_at_most(self, {"num_timesteps": 10_000, "num_blocks": 100})
        common.check_time_dim(self.time_dim)


class Hyperparameters(NamedTuple):
    """The traced numbers of `IDQLConfig`, float32 scalars of the same names."""

    learning_rate: Array
    critic_learning_rate: Array
    expectile: Array
    discount: Array
    tau: Array
    ema_rate: Array
    weight_decay: Array


@flax.struct.dataclass
class IDQLState:
    """Everything that one training step reads and writes.

    Attributes:
      actor: the behaviour's diffusion model; its step counts actor steps, two a training step.
      ema_actor: its moving average, parameters alone; it acts.
      critics: Q1 and Q2, stacked on a leading axis of 2.
      target_critics: parameters alone, of the same layout.
      value: V.
      hyper: the traced numbers.
    """

    actor: TrainState
    ema_actor: Any
    critics: TrainState
    target_critics: Any
    value: TrainState
    hyper: Hyperparameters


class Draws(NamedTuple):
    """The random numbers of one actor step on M rows.

    Attributes:
      timestep: [M] integers in [0, T).
      noise: [M, A] standard normal.
      kept: [M, num_blocks, hidden_dim] booleans, the inputs of each block that dropout keeps.
    """

    timestep: Array
    noise: Array
    kept: Array


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
    rows = [part.actions.shape for part in actor_batches(config, batch)]
    draws = []
    for shape, step_key in zip(rows, jax.random.split(key, ACTOR_STEPS), strict=True):
        time_key, noise_key, dropout_key = jax.random.split(step_key, 3)
        timestep = jax.random.randint(time_key, shape[:1], 0, config.num_timesteps)
        inside = (shape[0], config.num_blocks, config.hidden_dim)
        kept = jax.random.bernoulli(dropout_key, 1.0 - config.dropout, inside)
        draws.append(Draws(timestep, jax.random.normal(noise_key, shape), kept))
    return tuple(draws)


def hyperparameters(config: IDQLConfig) -> Hyperparameters:
    """The traced numbers of a configuration."""
    return common.traced(Hyperparameters, config)


def actor_network(config: IDQLConfig, action_dim: int) -> networks.ResidualDenoiser:
    """The noise-predicting network of the actor."""
    return networks.ResidualDenoiser(
        action_dim, config.hidden_dim, config.num_blocks, config.time_dim, config.dropout
    )


def init_state(config: IDQLConfig, key: Array, observation_dim: int, action_dim: int) -> IDQLState:
    """A fresh state; the target critics equal the critics, the moving average the actor."""
    observation, action = jnp.zeros((1, observation_dim)), jnp.zeros((1, action_dim))
    keys = jax.random.split(key, 3)
    network = actor_network(config, action_dim)
    actor = network.init(keys[0], action, observation, jnp.zeros((1,)))
    critics = iql.critic_network(config).init(keys[1], observation, action)
    return IDQLState(
        actor=TrainState.create(actor),
        ema_actor=actor,
        critics=TrainState.create(critics),
        target_critics=critics,
        value=TrainState.create(iql.value_network(config).init(keys[2], observation)),
        hyper=hyperparameters(config),
    )


def decay_kernels(params: Any, updated: Any, rate: Array) -> Any:
    """AdamW's decoupled decay: `updated` - rate * `params` for every leaf named kernel."""

    def one(path: tuple[Any, ...], before: Array, after: Array) -> Array:
        return after - rate * before if path[-1].key == "kernel" else after

    return jax.tree_util.tree_map_with_path(one, params, updated)


def update_actor(
    config: IDQLConfig, state: IDQLState, batch: Transition, draws: Draws
) -> tuple[IDQLState, Array]:
    """One actor step: the epsilon loss on the data, AdamW, and the moving average; the loss."""
    network = actor_network(config, batch.actions.shape[-1])

    def loss_fn(params: Any, rows: tuple[Transition, Draws]) -> tuple[Array, Array]:
        batch, draws = rows
        loss = ddpm.epsilon_loss(
            lambda *inputs: network.apply(params, *inputs, draws.kept),
            ddpm.vp_schedule(config.num_timesteps),
            batch.actions,
            batch.observations,
            draws.timestep,
            draws.noise,
        )
        return loss, loss

    grads, loss = common.mean_gradients(loss_fn, state.actor.params, (batch, draws))
    rate = state.hyper.learning_rate
    if config.lr_decay:
        rate *= common.cosine_decay(state.actor.step, ACTOR_STEPS * config.decay_steps)
    actor = state.actor.apply_gradients(grads, rate)
    decayed = decay_kernels(state.actor.params, actor.params, rate * state.hyper.weight_decay)
    ema_actor = polyak(decayed, state.ema_actor, state.hyper.ema_rate)
    return state.replace(actor=actor.replace(params=decayed), ema_actor=ema_actor), loss


def train_update(
    config: IDQLConfig, state: IDQLState, batch: Transition, draws: tuple[Draws, ...]
) -> tuple[IDQLState, Metrics]:
    """One training step: two actor steps, then IQL's value, critics and target critics."""
    common.check_batch(batch)
    batches, actor_losses = actor_batches(config, batch), []
    for part, part_draws in zip(batches, draws, strict=True):
        state, loss = update_actor(config, state, part, part_draws)
        actor_losses.append(loss)
    state, value_metrics = iql.update_value(config, state, batches[0])
    state, critic_metrics = iql.update_critics(config, state, batches[0])
    metrics = {"actor_loss": sum(actor_losses) / ACTOR_STEPS}
    return state, metrics | value_metrics | critic_metrics


def sample_actions(
    config: IDQLConfig, params: Any, observations: Array, noise: ddpm.ChainNoise
) -> Array:
    """Samples of the behaviour: observations [..., O], noise of [..., A] -> actions [..., A]."""
    network = actor_network(config, noise.initial.shape[-1])
    return ddpm.sample(
        lambda *inputs: network.apply(params, *inputs),
        ddpm.vp_schedule(config.num_timesteps),
        observations,
        noise,
        config.max_action,
        clip="xt",
    )


def expectile_logits(q: Array, v: Array, expectile: Array | float) -> Array:
    """log |expectile - 1(q < v)| of candidates: q [..., N], v [...] -> [..., N].

    The implicit policy of an expectile loss is pi(a|s) proportional to
    mu(a|s) |expectile - 1(Q < V)| (IDQL, section 4.1); the candidates are draws from mu.
    """
    return jnp.log(jnp.where(q > v[..., None], expectile, 1.0 - expectile))


def act(config: IDQLConfig, state: IDQLState, observations: Array, key: Array) -> Array:
    """One action for each observation: observations [..., O] -> actions [..., A].

    Of `num_candidates` samples of the averaged actor, "argmax" takes the best by the target
    critics, "expectile" draws one by the weights of `expectile_logits`; "single" is one sample.
    """
    noise_key, choice_key = jax.random.split(key)
    number = common.number_of_candidates(config)
    action_dim = state.actor.params["params"]["dense_1"]["bias"].shape[-1]
    shape = (*observations.shape[:-1], number, action_dim)
    noise = ddpm.chain_noise(noise_key, config.num_timesteps, shape)
    actions = sample_actions(config, state.ema_actor, common.repeat(observations, number), noise)
    if config.action_selection == "single":
        return actions[..., 0, :]
    scores = common.min_q(iql.critic_network(config), state.target_critics, observations, actions)
    if config.action_selection == "expectile":
        v = iql.value_network(config).apply(state.value.params, observations)
        scores = expectile_logits(scores, v, state.hyper.expectile)
    return common.choose(actions, scores, choice_key, config.action_selection)


def idql(config: IDQLConfig) -> Algorithm:
    """IDQL as four pure functions; see `algorithms.base.Algorithm` for their signatures."""

    def init(key: Array, sample: Transition) -> IDQLState:
        return init_state(config, key, sample.observations.shape[-1], sample.actions.shape[-1])

    def train_step(state: IDQLState, batch: Transition, key: Array) -> tuple[IDQLState, Metrics]:
        return train_update(config, state, batch, draw(config, key, batch))

    def act_fn(state: IDQLState, observations: Array, key: Array) -> Array:
        return act(config, state, observations, key)

    # not by_rows: adding up the actor's 6 MB of gradients twice a step costs more than it saves
    number = common.number_of_candidates(config)
    return Algorithm(init, train_step, train_step, act_fn, candidates=number)
