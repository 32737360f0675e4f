"""DQL-KL: KL-based behaviour distillation (DTQL's paper, arXiv 2405.19690, section 3.2).

As DTQL, but the one-step policy is an implicit generator and the trust-region loss is replaced by
the gradient of the KL divergence between policy and behaviour (distribution matching: Yin et al.
2023, arXiv 2311.18828), which needs a second, "fake" denoiser that follows the policy's own
samples. One training step is, in this order: critics and value, diffusion policy, one-step policy,
fake denoiser, target critics. At the end of pretraining policy and fake denoiser are copies of the
diffusion policy.
"""

import dataclasses
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from dtql_jax import networks
from dtql_jax.algorithms import common, dtql, one_step_policies
from dtql_jax.algorithms.base import Algorithm, Metrics
from dtql_jax.algorithms.train_state import TrainState, polyak
from dtql_jax.diffusion import edm
from dtql_jax.types import Array, Transition


@dataclasses.dataclass(frozen=True)
class DQLKLConfig:
    """Settings of DQL-KL. The first block is traced: a sweep over it never recompiles."""

    learning_rate: float = 3e-4  # of diffusion policy, one-step policy and fake denoiser
    critic_learning_rate: float = 3e-4  # of critics and value
    alpha: float = 1.0  # weight of the distribution-matching loss
    expectile: float = 0.7  # of the value loss, in (0, 1)
    discount: float = 0.99  # per environment step
    tau: float = 0.005  # step of the target critics towards the online ones, per training step
    generation_sigma: float = 2.5  # sigma_g, scale of the policy's input noise

    lr_decay: bool = False  # cosine decay of every learning rate to 0 over decay_steps
    decay_steps: int = 1_000_000  # training steps, counted from the end of pretraining
    max_action: float = 1.0  # actions lie in [-max_action, max_action]
    hidden_dim: int = 256  # width of every network
    time_dim: int = 16  # features of the noise level
    microbatch: int = 0  # rows a gradient is computed of at once; 0: as the device has it best
    clip_denoised: bool = True  # clip D to the action space (the 2D bandits do not)
    value_target: str = "online"  # critics in the value loss; or "target" as in IQL's paper
    num_candidates: int = 1024  # actions drawn for each observation when acting
    action_selection: str = "softmax"  # over the candidates' Q; or "argmax", or "single" draw

    def __post_init__(self) -> None:
        common.check_settings(
            self,
            choices={
                "action_selection": dtql.ACTION_SELECTIONS,
                "value_target": dtql.VALUE_TARGETS,
            },
            unit=("expectile", "discount", "tau"),
            nonnegative=("learning_rate", "critic_learning_rate", "alpha", "microbatch"),
            positive=(
                *("generation_sigma", "max_action", "decay_steps", "hidden_dim"),
                "num_candidates",
            ),
        )
        common.check_time_dim(self.time_dim)


class Hyperparameters(NamedTuple):
    """The traced numbers of `DQLKLConfig`, float32 scalars of the same names."""

    learning_rate: Array
    critic_learning_rate: Array
    alpha: Array
    expectile: Array
    discount: Array
    tau: Array
    generation_sigma: Array


@flax.struct.dataclass
class DQLKLState:
    """Everything that one training step reads and writes.

    Attributes:
      diffusion: the behaviour's denoiser.
      fake_diffusion: the denoiser of the policy's own samples.
      policy: the generator; its step counts training steps, not pretraining.
      critics: Q1 and Q2, stacked on a leading axis of 2.
      target_critics: parameters alone, of the same layout.
      value: V.
      hyper: the traced numbers.
    """

    diffusion: TrainState
    fake_diffusion: TrainState
    policy: TrainState
    critics: TrainState
    target_critics: Any
    value: TrainState
    hyper: Hyperparameters


class Draws(NamedTuple):
    """The random numbers of one step: sigma [B], the others [B, A] standard normal."""

    denoising_sigma: Array
    denoising_noise: Array
    policy_noise: Array
    distillation_sigma: Array
    distillation_noise: Array
    fake_sigma: Array
    fake_noise: Array


def draw(key: Array, batch_size: int, action_dim: int) -> Draws:
    """Draws the random numbers of one step of a batch."""
    keys = jax.random.split(key, 7)

    def sigma(key: Array) -> Array:
        return edm.noise_level(jax.random.uniform(key, (batch_size,)))

    def normal(key: Array) -> Array:
        return jax.random.normal(key, (batch_size, action_dim))

    return Draws(
        *(sigma(keys[0]), normal(keys[1]), normal(keys[2])),
        *(sigma(keys[3]), normal(keys[4]), sigma(keys[5]), normal(keys[6])),
    )


def hyperparameters(config: DQLKLConfig) -> Hyperparameters:
    """The traced numbers of a configuration."""
    return common.traced(Hyperparameters, config)


def init_state(
    config: DQLKLConfig, key: Array, observation_dim: int, action_dim: int
) -> DQLKLState:
    """A fresh state: target critics equal the critics, policy and fake denoiser the diffusion."""
    observation, action = jnp.zeros((1, observation_dim)), jnp.zeros((1, action_dim))
    keys = jax.random.split(key, 3)
    denoiser = networks.Denoiser(action_dim, config.hidden_dim, config.time_dim)
    diffusion = TrainState.create(denoiser.init(keys[0], action, observation, jnp.zeros((1,))))
    critics = networks.DoubleCritic(config.hidden_dim).init(keys[1], observation, action)
    return DQLKLState(
        diffusion=diffusion,
        fake_diffusion=diffusion,
        policy=diffusion,
        critics=TrainState.create(critics),
        target_critics=critics,
        value=TrainState.create(networks.Value(config.hidden_dim).init(keys[2], observation)),
        hyper=hyperparameters(config),
    )


def _generate(config: DQLKLConfig, state: DQLKLState, params: Any, *inputs: Array) -> Array:
    """Actions of the generator: observations [..., O], noise [..., A] -> [..., A], not bounded."""
    architecture = one_step_policies.Architecture(
        "implicit", config.hidden_dim, config.time_dim, config.max_action
    )
    sigma = state.hyper.generation_sigma
    return one_step_policies.sample(architecture, params, *inputs, sigma)[0]


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


def update_policy(
    config: DQLKLConfig, state: DQLKLState, batch: Transition, draws: Draws, decay: Array
) -> tuple[DQLKLState, Metrics]:
    """Parts 3 and 4: the policy, and the fake denoiser on the same samples of the policy.

    The policy's loss is alpha * L_KL - mean min(Q1, Q2)(s, a_theta), the fake denoiser's the
    denoising loss on a_theta, which it takes as data; neither sees what the other changes.
    """
    denoiser = networks.Denoiser(batch.actions.shape[-1], config.hidden_dim, config.time_dim)
    critic = networks.DoubleCritic(config.hidden_dim)
    bound = config.max_action if config.clip_denoised else None

    def loss_fn(params: tuple[Any, Any], rows: tuple[Transition, Draws]) -> tuple[Array, Metrics]:
        (policy_params, fake_params), (batch, draws) = params, rows
        actions = _generate(config, state, policy_params, batch.observations, draws.policy_noise)
        distillation = distribution_matching_loss(
            lambda *inputs: denoiser.apply(state.diffusion.params, *inputs),
            lambda *inputs: denoiser.apply(state.fake_diffusion.params, *inputs),
            actions,
            batch.observations,
            draws.distillation_sigma,
            draws.distillation_noise,
            bound,
        )
        q = critic.apply(state.critics.params, batch.observations, actions)
        q_loss = -jnp.mean(jnp.min(q, axis=0))
        policy_loss = state.hyper.alpha * distillation + q_loss
        fake_loss = edm.denoising_loss(
            lambda *inputs: denoiser.apply(fake_params, *inputs),
            jax.lax.stop_gradient(actions),
            batch.observations,
            draws.fake_sigma,
            draws.fake_noise,
            bound,
        )
        metrics = {
            "policy_loss": policy_loss,
            "distillation_loss": distillation,
            "q_loss": q_loss,
            "fake_denoising_loss": fake_loss,
        }
        return policy_loss + fake_loss, metrics

    params = (state.policy.params, state.fake_diffusion.params)
    (policy_grads, fake_grads), metrics = common.mean_gradients(
        loss_fn, params, (batch, draws), config.microbatch
    )
    rate = state.hyper.learning_rate * decay
    policy = state.policy.apply_gradients(policy_grads, rate)
    fake = state.fake_diffusion.apply_gradients(fake_grads, rate)
    return state.replace(policy=policy, fake_diffusion=fake), metrics


def pretrain_update(
    config: DQLKLConfig, state: DQLKLState, batch: Transition, draws: Draws
) -> tuple[DQLKLState, Metrics]:
    """One pretraining step: parts 1 and 2 of DTQL, copied to policy and fake denoiser."""
    common.check_batch(batch)
    full = jnp.float32(1.0)
    state, critic_metrics = dtql.update_critics(config, state, batch, full)
    state, diffusion_metrics = dtql.update_diffusion(config, state, batch, draws, full)
    params = state.diffusion.params
    state = state.replace(
        policy=state.policy.replace(params=params),
        fake_diffusion=state.fake_diffusion.replace(params=params),
    )
    return state, critic_metrics | diffusion_metrics


def train_update(
    config: DQLKLConfig, state: DQLKLState, batch: Transition, draws: Draws
) -> tuple[DQLKLState, Metrics]:
    """One training step: parts 1 and 2 of DTQL, policy, fake denoiser, target critics."""
    common.check_batch(batch)
    decay = dtql.learning_rate_factor(config, state.policy.step)
    state, critic_metrics = dtql.update_critics(config, state, batch, decay)
    state, diffusion_metrics = dtql.update_diffusion(config, state, batch, draws, decay)
    state, policy_metrics = update_policy(config, state, batch, draws, decay)
    targets = polyak(state.critics.params, state.target_critics, state.hyper.tau)
    metrics = critic_metrics | diffusion_metrics | policy_metrics
    return state.replace(target_critics=targets), metrics


def act(config: DQLKLConfig, state: DQLKLState, observations: Array, key: Array) -> Array:
    """One action for each observation: observations [..., O] -> actions [..., A].

    As DTQL acts, the generator's outputs being judged as they are and the chosen one clipped.
    """
    noise_key, choice_key = jax.random.split(key)
    number = common.number_of_candidates(config)
    action_dim = state.policy.params["params"]["trunk"]["dense_4"]["bias"].shape[-1]
    noise = jax.random.normal(noise_key, (*observations.shape[:-1], number, action_dim))
    actions = _generate(config, state, state.policy.params, observations, noise)
    if config.action_selection == "single":
        action = actions[..., 0, :]
    else:
        critic = networks.DoubleCritic(config.hidden_dim)
        q = common.min_q(critic, state.target_critics, observations, actions)
        action = common.choose(actions, q, choice_key, config.action_selection)
    return jnp.clip(action, -config.max_action, config.max_action)


def dql_kl(config: DQLKLConfig) -> Algorithm:
    """DQL-KL as four pure functions; see `algorithms.base.Algorithm` for their signatures."""

    def init(key: Array, sample: Transition) -> DQLKLState:
        return init_state(config, key, sample.observations.shape[-1], sample.actions.shape[-1])

    def pretrain_step(
        state: DQLKLState, batch: Transition, key: Array
    ) -> tuple[DQLKLState, Metrics]:
        return pretrain_update(config, state, batch, draw(key, *batch.actions.shape))

    def train_step(state: DQLKLState, batch: Transition, key: Array) -> tuple[DQLKLState, Metrics]:
        return train_update(config, state, batch, draw(key, *batch.actions.shape))

    def act_fn(state: DQLKLState, observations: Array, key: Array) -> Array:
        return act(config, state, observations, key)

    number = common.number_of_candidates(config)
    return Algorithm(init, pretrain_step, train_step, act_fn, by_rows=True, candidates=number)
