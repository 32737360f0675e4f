"""DQL-KL: KL-based behaviour distillation (DTQL's paper, arXiv 2405.19690, section 3.2).

As DTQL, but the one-step policy is an implicit generator and the trust-region loss is replaced by
the gradient of the KL divergence between policy and behaviour (distribution matching: Yin et al.
2023, arXiv 2311.18828), which needs a second, "fake" denoiser that follows the policy's own
samples. One training step updates critics and value, diffusion policy, one-step policy, fake
denoiser and target critics, in this order. At the end of pretraining policy and fake denoiser are
copies of the diffusion policy.
"""

from functools import partial
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from dtql_jax.algorithms import common, dtql
from dtql_jax.algorithms.base import Algorithm, Metrics
from dtql_jax.algorithms.config import as_arrays, check, static, traced, with_traced
from dtql_jax.algorithms.shared_updates import update_critics, update_diffusion
from dtql_jax.algorithms.train_state import TrainState
from dtql_jax.diffusion import edm
from dtql_jax.training.data_parallel.rows import gradients
from dtql_jax.types import Array, Transition


@flax.struct.dataclass
class DQLKLConfig:
    """Settings of DQL-KL."""

    learning_rate: float = traced(3e-4, ">= 0")  # of both denoisers and the one-step policy
    critic_learning_rate: float = traced(3e-4, ">= 0")  # of critics and value
    alpha: float = traced(1.0, ">= 0")  # weight of the distribution-matching loss
    expectile: float = traced(0.7, "in [0, 1]")  # of the value loss
    discount: float = traced(0.99, "in [0, 1]")  # per environment step
    tau: float = traced(0.005, "in [0, 1]")  # step of the target critics towards the online ones
    generation_sigma: float = traced(2.5, "> 0")  # sigma_g, scale of the policy's input noise

    lr_decay: bool = static(False)  # cosine decay of every learning rate to 0 over decay_steps
    decay_steps: int = static(1_000_000, "> 0")  # training steps, without pretraining
    max_action: float = static(1.0, "> 0")  # bound of the action space
    hidden_dim: int = static(256, "> 0")  # width of every network
    time_dim: int = static(16, "even, >= 4")  # features of the noise level
    clip_denoised: bool = static(True)  # clip D to the action space (the 2D bandits do not)
    value_target: str = static("online", one_of=dtql.VALUE_TARGETS)  # "target": as in IQL's paper
    num_candidates: int = static(1024, "> 0")  # actions drawn for each observation
    action_selection: str = static("softmax", one_of=dtql.ACTION_SELECTIONS)  # over Q


@flax.struct.dataclass
class DQLKLState:
    """Everything that one training step reads and writes; see `dtql.DTQLState`."""

    config: Any
    diffusion: TrainState
    fake_diffusion: TrainState  # the denoiser of the policy's own samples
    policy: TrainState
    critics: TrainState
    target_critics: Any
    value: TrainState
    action_dim: int = flax.struct.field(pytree_node=False)


class Draws(NamedTuple):
    """The random numbers of one step: sigma [B], the others [B, A] standard normal."""

    denoising_sigma: Array
    denoising_noise: Array
    policy_noise: Array
    distillation_sigma: Array
    distillation_noise: Array
    fake_sigma: Array
    fake_noise: Array


make_networks = partial(dtql.make_networks, policy="implicit")


def draw(key: Array, batch_size: int, action_dim: int) -> Draws:
    """Draws the random numbers of one step."""
    keys = dict(zip(Draws._fields, jax.random.split(key, 7), strict=True))

    def one(name: str) -> Array:
        if name.endswith("sigma"):
            return edm.noise_level(jax.random.uniform(keys[name], (batch_size,)))
        return jax.random.normal(keys[name], (batch_size, action_dim))

    return Draws(*map(one, Draws._fields))


def init_state(
    config: DQLKLConfig, networks: dtql.Networks, key: Array, sample: Transition
) -> DQLKLState:
    """A new state: target critics equal the critics, policy and fake denoiser the diffusion."""
    observation, action, time = common.placeholders(sample)
    keys = jax.random.split(key, 3)
    diffusion = TrainState.create(networks.denoiser.init(keys[0], action, observation, time))
    critics = networks.critic.init(keys[1], observation, action)
    return DQLKLState(
        config=as_arrays(config),
        diffusion=diffusion,
        fake_diffusion=diffusion,
        policy=diffusion,
        critics=TrainState.create(critics),
        target_critics=critics,
        value=TrainState.create(networks.value.init(keys[2], observation)),
        action_dim=action.shape[-1],
    )


def distribution_matching_loss(
    real: edm.Network,
    fake: edm.Network,
    actions: Array,
    observations: Array,
    sigma: Array,
    noise: Array,
    max_action: float | None,
) -> Array:
    """The loss whose gradient is that of the KL divergence (Yin et al. 2023, equations 7 and 8).

    Both denoisers see the same noised action. With a_real and a_fake what they make of it and
    g = (a_fake - a_real) / mean_j |a_j - a_real_j|, the mean over a row's action dimensions, the
    loss is half the mean square of g; its gradient by the actions is g / (B * A).

    Args:
      real: the raw F of the behaviour's denoiser.
      fake: the raw F of the denoiser that follows the policy.
      actions: [B, A] of the policy.
      observations: [B, O].
      sigma: [B] noise levels.
      noise: [B, A] standard normal.
      max_action: bound of the clipped D, or None.
    """
    noised = actions + sigma[..., None] * noise
    a_real = edm.denoise(real, noised, sigma, observations, max_action)
    a_fake = edm.denoise(fake, noised, sigma, observations, max_action)
    weight = jnp.mean(jnp.abs(actions - a_real), axis=-1, keepdims=True)
    goal = jax.lax.stop_gradient(actions - (a_fake - a_real) / weight)
    return 0.5 * jnp.mean((actions - goal) ** 2)


def policy_loss(
    params: tuple[Any, Any],
    batch: Transition,
    draws: Draws,
    networks: dtql.Networks,
    config: Any,
    state: DQLKLState,
) -> tuple[Array, Metrics]:
    """alpha * L_KL - mean min(Q1, Q2)(s, a_theta), plus the fake denoiser's loss on a_theta.

    The fake denoiser takes a_theta as data, so neither term has a gradient by the other's
    parameters.

    Args:
      params: of the policy and of the fake denoiser.
      batch: transitions [B, ...].
      draws: the noise of the policy's actions, of the distillation and of the fake denoiser.
      networks: the modules.
      config: alpha, generation_sigma, max_action, clip_denoised.
      state: critics and both denoisers, which get no gradient from the policy.
    """
    policy_params, fake_params = params
    bound = common.denoised_bound(config)
    actions, _ = networks.policy.sample(
        policy_params, batch.observations, draws.policy_noise, config.generation_sigma
    )
    distillation = distribution_matching_loss(
        partial(networks.denoiser.apply, state.diffusion.params),
        partial(networks.denoiser.apply, state.fake_diffusion.params),
        actions,
        batch.observations,
        draws.distillation_sigma,
        draws.distillation_noise,
        bound,
    )
    q = networks.critic.apply(state.critics.params, batch.observations, actions)
    q_loss = -jnp.mean(jnp.min(q, axis=0))
    loss = config.alpha * distillation + q_loss
    fake_loss = edm.denoising_loss(
        partial(networks.denoiser.apply, fake_params),
        jax.lax.stop_gradient(actions),
        batch.observations,
        draws.fake_sigma,
        draws.fake_noise,
        bound,
    )
    return loss + fake_loss, {
        "policy_loss": loss,
        "distillation_loss": distillation,
        "q_loss": q_loss,
        "fake_denoising_loss": fake_loss,
    }


def pretrain_update(
    networks: Any, config: DQLKLConfig, state: DQLKLState, batch: Transition, draws: Draws
) -> tuple[DQLKLState, Metrics]:
    """One pretraining step: parts 1 and 2 of DTQL, copied to policy and fake denoiser."""
    common.check_batch(batch)
    c = with_traced(config, state)
    state, critic_metrics = update_critics(networks, c, state, batch, 1.0)
    state, diffusion_metrics = update_diffusion(networks, c, state, batch, draws, 1.0)
    params = state.diffusion.params
    state = state.replace(
        policy=state.policy.replace(params=params),
        fake_diffusion=state.fake_diffusion.replace(params=params),
    )
    return state, critic_metrics | diffusion_metrics


def train_update(
    networks: Any, config: DQLKLConfig, state: DQLKLState, batch: Transition, draws: Draws
) -> tuple[DQLKLState, Metrics]:
    """One training step: parts 1 and 2 of DTQL, policy and fake denoiser, target critics."""
    common.check_batch(batch)
    c = with_traced(config, state)
    decay = common.decay_factor(config, state.policy.step)
    state, critic_metrics = update_critics(networks, c, state, batch, decay)
    state, diffusion_metrics = update_diffusion(networks, c, state, batch, draws, decay)
    params = (state.policy.params, state.fake_diffusion.params)
    (policy_grads, fake_grads), policy_metrics = gradients(
        policy_loss, params, (batch, draws), networks, c, state
    )
    rate = c.learning_rate * decay
    state = state.replace(
        policy=state.policy.apply_gradients(policy_grads, rate),
        fake_diffusion=state.fake_diffusion.apply_gradients(fake_grads, rate),
        target_critics=optax.incremental_update(state.critics.params, state.target_critics, c.tau),
    )
    return state, critic_metrics | diffusion_metrics | policy_metrics


def dql_kl(config: DQLKLConfig) -> Algorithm:
    """DQL-KL as four pure functions; see `algorithms.base.Algorithm` for their signatures.

    Acting is DTQL's: the critics judge the unbounded outputs, and the chosen one is clipped.
    """
    check(config)
    networks, number = make_networks(config), common.number_of_candidates(config)

    def step(update: Any, state: DQLKLState, batch: Transition, key: Array) -> Any:
        return update(networks, config, state, batch, draw(key, *batch.actions.shape))

    return Algorithm(
        init=partial(init_state, config, networks),
        pretrain_step=partial(step, pretrain_update),
        train_step=partial(step, train_update),
        act=partial(dtql.act, networks, config, number),
    )
