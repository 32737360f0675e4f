"""DTQL: diffusion trust-region Q-learning (Chen, Wang, Zhou, NeurIPS 2024, arXiv 2405.19690).

One training step is four updates in this order, each of which sees what the one before it wrote:
critics and value (IQL), diffusion policy (EDM denoising), one-step policy (trust region, Q, NLL),
target critics. Where the paper and its authors' program differ, the program is the default, since
it made the published scores; the paper's form is an option. The variants of the ablations (kind of
one-step policy, value target, tanh correction, action selection) are one field each.
"""

import dataclasses
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from dtql_jax import losses, networks
from dtql_jax.algorithms import common, one_step_policies
from dtql_jax.algorithms.base import Algorithm, Metrics
from dtql_jax.algorithms.train_state import TrainState, polyak
from dtql_jax.diffusion import edm, weighting
from dtql_jax.types import Array, Transition

ACTION_SELECTIONS = ("softmax", "argmax", "single")
VALUE_TARGETS = ("online", "target")


@dataclasses.dataclass(frozen=True)
class DTQLConfig:
    """Settings of DTQL. The first block is traced: a sweep over it never recompiles."""

    learning_rate: float = 3e-4  # of the diffusion and the one-step policy
    critic_learning_rate: float = 3e-4  # of critics and value
    alpha: float = 1.0  # weight of the trust-region loss
    gamma: float = 0.0  # weight of the NLL; where it is 0, the NLL is not computed
    expectile: float = 0.7  # of the value loss, in (0, 1)
    discount: float = 0.99  # per environment step
    tau: float = 0.005  # step of the target critics towards the online ones, per training step
    generation_sigma: float = 2.5  # scale of the implicit policy's input noise

    policy: str = "gaussian"  # the one-step policy; or "deterministic", "implicit"
    lr_decay: bool = False  # cosine decay of every learning rate to 0 over decay_steps
    decay_steps: int = 1_000_000  # training steps, counted from the end of pretraining
    max_action: float = 1.0  # actions lie in [-max_action, max_action]
    hidden_dim: int = 256  # width of every network
    time_dim: int = 16  # features of the noise level
    microbatch: int = 0  # rows a gradient is computed of at once; 0: as the device has it best
    clip_denoised: bool = True  # clip D to the action space (the 2D bandits do not)
    weighting: str = "edm"  # noise levels and weights of both denoising losses; or "elbo"
    value_target: str = "online"  # critics in the value loss; or "target" as in IQL's paper
    tanh_correction: bool = False  # the Jacobian of the tanh in the NLL, as in the paper
    num_candidates: int = 1024  # actions drawn for each observation when acting
    action_selection: str = "softmax"  # over the candidates' Q; or "argmax", or "single" draw

    def __post_init__(self) -> None:
        common.check_settings(
            self,
            choices={
                "action_selection": ACTION_SELECTIONS,
                "value_target": VALUE_TARGETS,
                "policy": one_step_policies.POLICIES,
                "weighting": weighting.WEIGHTINGS,
            },
            unit=("expectile", "discount", "tau"),
            nonnegative=("learning_rate", "critic_learning_rate", "alpha", "gamma", "microbatch"),
            positive=(
                *("generation_sigma", "max_action", "decay_steps", "hidden_dim"),
                "num_candidates",
            ),
        )
        common.check_time_dim(self.time_dim)
        if self.gamma != 0.0 and self.policy != "gaussian":
            raise ValueError(
                f"gamma is {self.gamma} with policy {self.policy!r}; the NLL needs a density: "
                "expected gamma 0, or policy 'gaussian'"
            )


class Hyperparameters(NamedTuple):
    """The traced numbers of `DTQLConfig`, float32 scalars of the same names."""

    learning_rate: Array
    critic_learning_rate: Array
    alpha: Array
    gamma: Array
    expectile: Array
    discount: Array
    tau: Array
    generation_sigma: Array


@flax.struct.dataclass
class DTQLState:
    """Everything that one training step reads and writes.

    Attributes:
      diffusion: the behaviour's denoiser.
      policy: the one-step policy; its step counts training steps, not pretraining.
      critics: Q1 and Q2, stacked on a leading axis of 2.
      target_critics: parameters alone, of the same layout.
      value: V.
      hyper: the traced numbers.
    """

    diffusion: TrainState
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
    trust_region_sigma: Array
    trust_region_noise: Array


def draw(key: Array, batch_size: int, action_dim: int, weights: str = "edm") -> Draws:
    """Draws the random numbers of one step of a batch; noise levels as `weights` has them."""
    keys = jax.random.split(key, 5)

    def sigma(key: Array) -> Array:
        return weighting.noise_level(weights, jax.random.uniform(key, (batch_size,)))

    def normal(key: Array) -> Array:
        return jax.random.normal(key, (batch_size, action_dim))

    return Draws(sigma(keys[0]), normal(keys[1]), normal(keys[2]), sigma(keys[3]), normal(keys[4]))


def hyperparameters(config: DTQLConfig) -> Hyperparameters:
    """The traced numbers of a configuration."""
    return common.traced(Hyperparameters, config)


def policy_architecture(config: DTQLConfig) -> one_step_policies.Architecture:
    """The static shape of the one-step policy."""
    return one_step_policies.Architecture(
        config.policy, config.hidden_dim, config.time_dim, config.max_action
    )


def init_state(config: DTQLConfig, key: Array, observation_dim: int, action_dim: int) -> DTQLState:
    """A fresh state; target critics equal the critics, an implicit policy the diffusion policy."""
    observation, action = jnp.zeros((1, observation_dim)), jnp.zeros((1, action_dim))
    keys = jax.random.split(key, 4)
    denoiser = networks.Denoiser(action_dim, config.hidden_dim, config.time_dim)
    critics = networks.DoubleCritic(config.hidden_dim).init(keys[2], observation, action)
    policy = one_step_policies.init(policy_architecture(config), keys[1], observation, action)
    state = DTQLState(
        diffusion=TrainState.create(denoiser.init(keys[0], action, observation, jnp.zeros((1,)))),
        policy=TrainState.create(policy),
        critics=TrainState.create(critics),
        target_critics=critics,
        value=TrainState.create(networks.Value(config.hidden_dim).init(keys[3], observation)),
        hyper=hyperparameters(config),
    )
    return _start_policy(config, state)


def _start_policy(config: DTQLConfig, state: DTQLState) -> DTQLState:
    """An implicit policy starts from the (pre)trained diffusion policy; the others from nothing."""
    if config.policy != "implicit":
        return state
    return state.replace(policy=state.policy.replace(params=state.diffusion.params))


def learning_rate_factor(config: DTQLConfig, step: Array) -> Array:
    """The cosine factor of training step k, 1 where there is no decay."""
    return common.cosine_decay(step, config.decay_steps) if config.lr_decay else jnp.float32(1.0)


def update_critics(
    config: DTQLConfig, state: DTQLState, batch: Transition, decay: Array
) -> tuple[DTQLState, Metrics]:
    """Part 1: L_V + L_Q (IQL, equations 5 and 6). One forward pass of Q serves both losses."""
    critic, value = networks.DoubleCritic(config.hidden_dim), networks.Value(config.hidden_dim)

    def loss_fn(params: tuple[Any, Any], batch: Transition) -> tuple[Array, Metrics]:
        critic_params, value_params = params
        q = critic.apply(critic_params, batch.observations, batch.actions)
        v = value.apply(value_params, batch.observations)
        if config.value_target == "target":
            q_data = critic.apply(state.target_critics, batch.observations, batch.actions)
        else:
            q_data = q
        q_min = jax.lax.stop_gradient(jnp.min(q_data, axis=0))
        next_v = value.apply(state.value.params, batch.next_observations)
        targets = losses.td_targets(batch.rewards, batch.masks, next_v, state.hyper.discount)
        value_loss = losses.expectile_loss(q_min - v, state.hyper.expectile)
        td_loss = losses.twin_td_loss(q, targets)
        metrics = {
            "critic_loss": value_loss + td_loss,
            "value_loss": value_loss,
            "td_loss": td_loss,
            "q_data": jnp.mean(q_min),
            "v_data": jnp.mean(v),
        }
        return value_loss + td_loss, metrics

    params = (state.critics.params, state.value.params)
    (critic_grads, value_grads), metrics = common.mean_gradients(
        loss_fn, params, batch, config.microbatch
    )
    rate = state.hyper.critic_learning_rate * decay
    critics = state.critics.apply_gradients(critic_grads, rate)
    value_state = state.value.apply_gradients(value_grads, rate)
    return state.replace(critics=critics, value=value_state), metrics


def _denoiser_bound(config: DTQLConfig) -> float | None:
    return config.max_action if config.clip_denoised else None


def update_diffusion(
    config: DTQLConfig,
    state: DTQLState,
    batch: Transition,
    draws: Draws,
    decay: Array,
    weights: str = "edm",
) -> tuple[DTQLState, Metrics]:
    """Part 2: the denoising loss L_BC on the data (EDM, equation 8), weighed as `weights` says."""
    denoiser = networks.Denoiser(batch.actions.shape[-1], config.hidden_dim, config.time_dim)

    def loss_fn(params: Any, rows: tuple[Transition, Draws]) -> tuple[Array, Metrics]:
        batch, draws = rows
        loss = edm.denoising_loss(
            lambda *inputs: denoiser.apply(params, *inputs),
            batch.actions,
            batch.observations,
            draws.denoising_sigma,
            draws.denoising_noise,
            _denoiser_bound(config),
            weighting.error_scale(weights, draws.denoising_sigma),
        )
        return loss, {"denoising_loss": loss}

    grads, metrics = common.mean_gradients(
        loss_fn, state.diffusion.params, (batch, draws), config.microbatch
    )
    diffusion = state.diffusion.apply_gradients(grads, state.hyper.learning_rate * decay)
    return state.replace(diffusion=diffusion), metrics


def update_policy(
    config: DTQLConfig, state: DTQLState, batch: Transition, draws: Draws, decay: Array
) -> tuple[DTQLState, Metrics]:
    """Part 3: alpha * L_TR - mean min(Q1, Q2)(s, a_theta) + gamma * L_NLL (DTQL, equation 9)."""
    architecture = policy_architecture(config)
    critic = networks.DoubleCritic(config.hidden_dim)
    denoiser = networks.Denoiser(batch.actions.shape[-1], config.hidden_dim, config.time_dim)

    def loss_fn(params: Any, rows: tuple[Transition, Draws]) -> tuple[Array, Metrics]:
        batch, draws = rows
        actions, gaussian = one_step_policies.sample(
            architecture,
            params,
            batch.observations,
            draws.policy_noise,
            state.hyper.generation_sigma,
        )
        trust_region = losses.trust_region_loss(
            lambda *inputs: denoiser.apply(state.diffusion.params, *inputs),
            actions,
            batch.observations,
            draws.trust_region_sigma,
            draws.trust_region_noise,
            _denoiser_bound(config),
            weighting.error_scale(config.weighting, draws.trust_region_sigma),
        )
        q = critic.apply(state.critics.params, batch.observations, actions)
        q_loss = -jnp.mean(jnp.min(q, axis=0))
        nll = jnp.float32(0.0)
        if config.gamma != 0.0:
            nll = losses.tanh_gaussian_nll(
                *gaussian, batch.actions, config.max_action, config.tanh_correction
            )
        loss = state.hyper.alpha * trust_region + q_loss + state.hyper.gamma * nll
        metrics = {
            "policy_loss": loss,
            "trust_region_loss": trust_region,
            "q_loss": q_loss,
            "nll_loss": nll,
        }
        if gaussian is not None:
            metrics["policy_std"] = jnp.mean(jnp.exp(gaussian.log_std))
        return loss, metrics

    grads, metrics = common.mean_gradients(
        loss_fn, state.policy.params, (batch, draws), config.microbatch
    )
    policy_state = state.policy.apply_gradients(grads, state.hyper.learning_rate * decay)
    return state.replace(policy=policy_state), metrics


def pretrain_update(
    config: DTQLConfig, state: DTQLState, batch: Transition, draws: Draws
) -> tuple[DTQLState, Metrics]:
    """One pretraining step: parts 1 and 2, at the full learning rate; targets stay."""
    common.check_batch(batch)
    full = jnp.float32(1.0)
    state, critic_metrics = update_critics(config, state, batch, full)
    state, diffusion_metrics = update_diffusion(config, state, batch, draws, full, config.weighting)
    return _start_policy(config, state), critic_metrics | diffusion_metrics


def train_update(
    config: DTQLConfig, state: DTQLState, batch: Transition, draws: Draws
) -> tuple[DTQLState, Metrics]:
    """One training step: parts 1 to 4."""
    common.check_batch(batch)
    decay = learning_rate_factor(config, state.policy.step)
    state, critic_metrics = update_critics(config, state, batch, decay)
    state, diffusion_metrics = update_diffusion(
        config, state, batch, draws, decay, config.weighting
    )
    state, policy_metrics = update_policy(config, state, batch, draws, decay)
    targets = polyak(state.critics.params, state.target_critics, state.hyper.tau)
    metrics = critic_metrics | diffusion_metrics | policy_metrics
    return state.replace(target_critics=targets), metrics


def candidates(
    config: DTQLConfig, state: DTQLState, observations: Array, noise: Array
) -> tuple[Array, Array]:
    """Candidate actions and what the target critics think of them.

    Args:
      config: the settings.
      state: the state; its policy and target critics are used.
      observations: [..., O].
      noise: [..., N, A] standard normal.

    Returns:
      Actions [..., N, A] and min(Q1, Q2) of the target critics [..., N].
    """
    actions, _ = one_step_policies.sample(
        policy_architecture(config),
        state.policy.params,
        observations,
        noise,
        state.hyper.generation_sigma,
    )
    critic = networks.DoubleCritic(config.hidden_dim)
    return actions, common.min_q(critic, state.target_critics, observations, actions)


def number_of_candidates(config: DTQLConfig) -> int:
    """N of `act`. Of a deterministic policy's candidates one is as good as all."""
    return 1 if config.policy == "deterministic" else common.number_of_candidates(config)


def act(config: DTQLConfig, state: DTQLState, observations: Array, key: Array) -> Array:
    """One action for each observation: observations [..., O] -> actions [..., A].

    "softmax" samples one of `num_candidates` by softmax(Q), "argmax" takes the best of them,
    "single" draws one action from the one-step policy and asks no critic.
    """
    noise_key, choice_key = jax.random.split(key)
    number = number_of_candidates(config)
    action_dim = one_step_policies.action_dim(policy_architecture(config), state.policy.params)
    noise = jax.random.normal(noise_key, (*observations.shape[:-1], number, action_dim))
    actions, q = candidates(config, state, observations, noise)
    if number == 1:
        action = actions[..., 0, :]
    else:
        action = common.choose(actions, q, choice_key, config.action_selection)
    # the implicit policy's output is not bounded, the others' is
    return jnp.clip(action, -config.max_action, config.max_action)


def dtql(config: DTQLConfig) -> Algorithm:
    """DTQL as four pure functions; see `algorithms.base.Algorithm` for their signatures."""

    def init(key: Array, sample: Transition) -> DTQLState:
        return init_state(config, key, sample.observations.shape[-1], sample.actions.shape[-1])

    def pretrain_step(state: DTQLState, batch: Transition, key: Array) -> tuple[DTQLState, Metrics]:
        draws = draw(key, *batch.actions.shape, config.weighting)
        return pretrain_update(config, state, batch, draws)

    def train_step(state: DTQLState, batch: Transition, key: Array) -> tuple[DTQLState, Metrics]:
        draws = draw(key, *batch.actions.shape, config.weighting)
        return train_update(config, state, batch, draws)

    def act_fn(state: DTQLState, observations: Array, key: Array) -> Array:
        return act(config, state, observations, key)

    number = number_of_candidates(config)
    return Algorithm(init, pretrain_step, train_step, act_fn, by_rows=True, candidates=number)
