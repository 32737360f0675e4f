"""Diffusion Trusted Q-Learning, DTQL (Chen, Wang, Zhou, NeurIPS 2024, arXiv 2405.19690).

One training step makes four updates in this order, each with the parameters that the one before it
wrote: critics and value (IQL), diffusion policy (EDM denoising), one-step policy (trust region, Q,
NLL), target critics. Where the paper and its authors' program differ, the program is the default,
since it made the published scores; the paper's form is an option. The variants of the ablations
(one-step policy, value target, tanh correction, action selection) are one field each.
"""

from functools import partial
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from dtql_jax import losses
from dtql_jax.algorithms import common, one_step_policies
from dtql_jax.algorithms.base import Algorithm, Metrics
from dtql_jax.algorithms.config import as_arrays, check, static, traced, with_traced
from dtql_jax.algorithms.shared_updates import update_critics, update_diffusion
from dtql_jax.algorithms.train_state import TrainState
from dtql_jax.diffusion import weighting
from dtql_jax.networks import Denoiser, DoubleCritic, Value
from dtql_jax.types import Array, Transition

ACTION_SELECTIONS = ("softmax", "argmax", "single")
VALUE_TARGETS = ("online", "target")


@flax.struct.dataclass
class DTQLConfig:
    """Settings of DTQL."""

    learning_rate: float = traced(3e-4, ">= 0")  # of the diffusion and the one-step policy
    critic_learning_rate: float = traced(3e-4, ">= 0")  # of critics and value
    alpha: float = traced(1.0, ">= 0")  # weight of the trust-region loss
    gamma: float = traced(0.0, ">= 0")  # weight of the NLL; 0: the NLL is not computed
    expectile: float = traced(0.7, "in [0, 1]")  # of the value loss
    discount: float = traced(0.99, "in [0, 1]")  # per environment step
    tau: float = traced(0.005, "in [0, 1]")  # step of the target critics towards the online ones
    generation_sigma: float = traced(2.5, "> 0")  # scale of the implicit policy's input noise

    policy: str = static("gaussian", one_of=one_step_policies.POLICIES)  # the one-step policy
    lr_decay: bool = static(False)  # cosine decay of every learning rate to 0 over decay_steps
    decay_steps: int = static(1_000_000, "> 0")  # training steps, without pretraining
    max_action: float = static(1.0, "> 0")  # bound of the action space
    hidden_dim: int = static(256, "> 0")  # width of every network
    time_dim: int = static(16, "even, >= 4")  # features of the noise level
    clip_denoised: bool = static(True)  # clip D to the action space (the 2D bandits do not)
    weighting: str = static("edm", one_of=weighting.WEIGHTINGS)  # of both denoising losses
    value_target: str = static("online", one_of=VALUE_TARGETS)  # "target": as in IQL's paper
    tanh_correction: bool = static(False)  # the Jacobian of the tanh in the NLL, as in the paper
    num_candidates: int = static(1024, "> 0")  # actions drawn for each observation
    action_selection: str = static("softmax", one_of=ACTION_SELECTIONS)  # over the candidates' Q


@flax.struct.dataclass
class DTQLState:
    """Everything that one training step reads and writes."""

    config: Any  # the configuration; its traced fields are arrays
    diffusion: TrainState  # the behaviour's denoiser
    policy: TrainState  # its step counts training steps, not pretraining
    critics: TrainState  # Q1 and Q2, stacked on a leading axis of 2
    target_critics: Any  # parameters only
    value: TrainState
    action_dim: int = flax.struct.field(pytree_node=False)  # A


class Draws(NamedTuple):
    """The random numbers of one step: sigma [B], the others [B, A] standard normal."""

    denoising_sigma: Array
    denoising_noise: Array
    policy_noise: Array
    trust_region_sigma: Array
    trust_region_noise: Array


class Networks(NamedTuple):
    """The modules of DTQL, without parameters."""

    denoiser: Denoiser
    policy: one_step_policies.OneStepPolicy
    critic: DoubleCritic
    value: Value


def make_networks(config: Any, policy: str = "") -> Networks:
    """Builds the modules; `policy` is the kind of one-step policy, by default the configuration's.

    `config` is a DTQLConfig or has its fields for networks.
    """
    width, time_dim = config.hidden_dim, config.time_dim
    one_step = one_step_policies.make_policy(
        policy or config.policy, width, time_dim, config.max_action
    )
    return Networks(Denoiser(width, time_dim), one_step, DoubleCritic(width), Value(width))


def draw(key: Array, batch_size: int, action_dim: int, weights: str = "edm") -> Draws:
    """Draws the random numbers of one step; `weights` chooses the density of noise levels."""
    keys = jax.random.split(key, 5)

    def sigma(key: Array) -> Array:
        return weighting.noise_level(weights, jax.random.uniform(key, (batch_size,)))

    def normal(key: Array) -> Array:
        return jax.random.normal(key, (batch_size, action_dim))

    return Draws(sigma(keys[0]), normal(keys[1]), normal(keys[2]), sigma(keys[3]), normal(keys[4]))


def init_state(config: DTQLConfig, networks: Networks, key: Array, sample: Transition) -> DTQLState:
    """A new state; target critics equal the critics, an implicit policy the diffusion policy."""
    observation, action, time = common.placeholders(sample)
    keys = jax.random.split(key, 4)
    critics = networks.critic.init(keys[2], observation, action)
    state = DTQLState(
        config=as_arrays(config),
        diffusion=TrainState.create(networks.denoiser.init(keys[0], action, observation, time)),
        policy=TrainState.create(networks.policy.init(keys[1], observation, action)),
        critics=TrainState.create(critics),
        target_critics=critics,
        value=TrainState.create(networks.value.init(keys[3], observation)),
        action_dim=action.shape[-1],
    )
    return _start_policy(config, state)


def _start_policy(config: DTQLConfig, state: DTQLState) -> DTQLState:
    """Copies the (pre)trained diffusion policy to an implicit policy."""
    if config.policy != "implicit":
        return state
    return state.replace(policy=state.policy.replace(params=state.diffusion.params))


def policy_loss(
    params: Any,
    batch: Transition,
    draws: Draws,
    networks: Networks,
    config: Any,
    state: DTQLState,
    with_nll: bool,
) -> tuple[Array, Metrics]:
    """alpha * L_TR - mean min(Q1, Q2)(s, a_theta) + gamma * L_NLL (DTQL, equation 9).

    Args:
      params: of the one-step policy.
      batch: transitions [B, ...].
      draws: the noise of the policy's actions and of the trust region.
      networks: the modules.
      config: alpha, gamma, generation_sigma, max_action, clip_denoised, weighting.
      state: critics and diffusion policy, which get no gradient.
      with_nll: whether to compute L_NLL; it is 0 otherwise.
    """
    actions, gaussian = networks.policy.sample(
        params, batch.observations, draws.policy_noise, config.generation_sigma
    )
    trust_region = losses.trust_region_loss(
        partial(networks.denoiser.apply, state.diffusion.params),
        actions,
        batch.observations,
        draws.trust_region_sigma,
        draws.trust_region_noise,
        common.denoised_bound(config),
        weighting.error_scale(config.weighting, draws.trust_region_sigma),
    )
    q = networks.critic.apply(state.critics.params, batch.observations, actions)
    q_loss = -jnp.mean(jnp.min(q, axis=0))
    nll = jnp.float32(0.0)
    if with_nll and gaussian is not None:
        nll = losses.tanh_gaussian_nll(
            *gaussian, batch.actions, config.max_action, config.tanh_correction
        )
    loss = config.alpha * trust_region + q_loss + config.gamma * nll
    metrics = {
        "policy_loss": loss,
        "trust_region_loss": trust_region,
        "q_loss": q_loss,
        "nll_loss": nll,
    }
    if gaussian is not None:
        metrics["policy_std"] = jnp.mean(jnp.exp(gaussian.log_std))
    return loss, metrics


def pretrain_update(
    networks: Networks, config: DTQLConfig, state: DTQLState, batch: Transition, draws: Draws
) -> tuple[DTQLState, Metrics]:
    """One pretraining step: parts 1 and 2, at the full learning rate; targets stay."""
    common.check_batch(batch)
    c = with_traced(config, state)
    state, critic_metrics = update_critics(networks, c, state, batch, 1.0)
    state, metrics = update_diffusion(networks, c, state, batch, draws, 1.0, c.weighting)
    return _start_policy(config, state), critic_metrics | metrics


def train_update(
    networks: Networks, config: DTQLConfig, state: DTQLState, batch: Transition, draws: Draws
) -> tuple[DTQLState, Metrics]:
    """One training step: critics and value, diffusion policy, one-step policy, target critics."""
    common.check_batch(batch)
    c, with_nll = with_traced(config, state), config.gamma != 0.0
    decay = common.decay_factor(config, state.policy.step)
    state, critic_metrics = update_critics(networks, c, state, batch, decay)
    state, metrics = update_diffusion(networks, c, state, batch, draws, decay, c.weighting)
    policy, policy_metrics = state.policy.minimise(
        policy_loss, c.learning_rate * decay, (batch, draws), networks, c, state, with_nll
    )
    targets = optax.incremental_update(state.critics.params, state.target_critics, c.tau)
    state = state.replace(policy=policy, target_critics=targets)
    return state, critic_metrics | metrics | policy_metrics


def candidates(
    networks: Any, config: Any, state: Any, observations: Array, noise: Array
) -> tuple[Array, Array]:
    """Candidate actions [..., N, A] and their min(Q1, Q2) of the target critics [..., N].

    `observations` are [..., O], `noise` [..., N, A] is standard normal.
    """
    actions, _ = networks.policy.sample(
        state.policy.params, observations, noise, config.generation_sigma
    )
    return actions, common.min_q(networks.critic, state.target_critics, observations, actions)


def act(
    networks: Any, config: Any, number: int, state: Any, observations: Array, key: Array
) -> Array:
    """One action for each observation: observations [..., O] -> actions [..., A].

    Draws `number` candidates; "softmax" samples one of them by softmax(Q), "argmax" takes the best.
    """
    noise_key, choice_key = jax.random.split(key)
    noise = jax.random.normal(noise_key, (*observations.shape[:-1], number, state.action_dim))
    actions, q = candidates(networks, with_traced(config, state), state, observations, noise)
    if number == 1:
        action = actions[..., 0, :]
    else:
        action = common.choose(actions, q, choice_key, config.action_selection)
    # the implicit policy's output is not bounded
    return jnp.clip(action, -config.max_action, config.max_action)


def dtql(config: DTQLConfig) -> Algorithm:
    """DTQL as four pure functions; see `algorithms.base.Algorithm` for their signatures."""
    check(config)
    if config.gamma != 0.0 and config.policy != "gaussian":
        raise ValueError(
            f"gamma is {config.gamma} with policy {config.policy!r}; the NLL needs a density: "
            "expected gamma 0, or policy 'gaussian'"
        )
    networks = make_networks(config)
    # a deterministic policy needs one candidate
    number = 1 if config.policy == "deterministic" else common.number_of_candidates(config)

    def pretrain_step(state: DTQLState, batch: Transition, key: Array) -> tuple[DTQLState, Metrics]:
        draws = draw(key, *batch.actions.shape, weights=config.weighting)
        return pretrain_update(networks, config, state, batch, draws)

    def train_step(state: DTQLState, batch: Transition, key: Array) -> tuple[DTQLState, Metrics]:
        draws = draw(key, *batch.actions.shape, weights=config.weighting)
        return train_update(networks, config, state, batch, draws)

    return Algorithm(
        init=partial(init_state, config, networks),
        pretrain_step=pretrain_step,
        train_step=train_step,
        act=partial(act, networks, config, number),
    )
