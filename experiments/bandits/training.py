"""Training of the bandits: one seed, all rewards on the same data, every policy at once.

There is one state, so that critics, value and denoiser learn the same whatever policy is trained
beside them. One run therefore serves all policies of a seed: the denoiser is shared by the rewards,
the critics of a reward by its policies. Networks and losses are the package's.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from dtql_jax import losses, networks
from dtql_jax.algorithms import dql_kl
from dtql_jax.diffusion import edm
from dtql_jax.types import Array
from experiments.bandits.problems import Bandit, spatial_order

STATE = np.zeros((1, 1), np.float32)
_DENOISER = networks.Denoiser(hidden_dim=128, time_dim=4)
_CRITIC, _VALUE = networks.DoubleCritic(hidden_dim=256), networks.Value(hidden_dim=256)
_GENERATION_SIGMA = 2.5  # of the KL form's generator, as its input's scale and as its noise level


@flax.struct.dataclass
class Trained:
    """Parameters and Adam's moments."""

    params: Any
    moments: Any

    @classmethod
    def create(cls, params: Any) -> "Trained":
        """Returns a state before its first update."""
        return cls(params, optax.scale_by_adam().init(params))

    def update(self, gradients: Any, learning_rate: float) -> "Trained":
        """Returns the state after one Adam update."""
        steps, moments = optax.scale_by_adam().update(gradients, self.moments)
        params = jax.tree.map(lambda p, u: p - learning_rate * u, self.params, steps)
        return Trained(params, moments)


def quasi_random(key: Array, rows: int, dims: int) -> Array:
    """Returns a randomly shifted low-discrepancy point set [rows, dims] in [0, 1).

    The first coordinate is stratified: one point in each interval of length 1 / rows. The others
    are Roberts' additive recurrence, whose steps are powers of the generalised golden ratio.
    """
    ratio = 2.0
    for _ in range(60):
        ratio = (1.0 + ratio) ** (1.0 / dims)
    steps = (1.0 / ratio) ** np.arange(1, dims)
    lattice = np.arange(rows)[:, None] * steps % 1.0
    jitter_key, shift_key = jax.random.split(key)
    first = (jnp.arange(rows) + jax.random.uniform(jitter_key, (rows,))) / rows
    others = (jnp.asarray(lattice, jnp.float32) + jax.random.uniform(shift_key, (dims - 1,))) % 1.0
    return jnp.concatenate([first[:, None], others], axis=1)


def normal(uniform: Array) -> Array:
    return jax.scipy.special.ndtri(jnp.clip(uniform, 1e-6, 1.0 - 1e-6))


def _chosen(uniform: Array, points: int) -> Array:
    """Maps stratified uniform numbers to different rows of data that are in spatial order."""
    return jnp.minimum((uniform * points).astype(jnp.int32), points - 1)


def _states(rows: int) -> Array:
    return jnp.zeros((rows, 1))


def denoiser_loss(params: Any, actions: Array, points: Array) -> Array:
    """Denoising loss L_BC of actions [B, 2] with noise from points [B, 3] in [0, 1)."""
    return edm.denoising_loss(
        lambda *inputs: _DENOISER.apply(params, *inputs),
        actions,
        _states(len(actions)),
        edm.noise_level(points[:, 0]),
        normal(points[:, 1:]),
        None,
    )


def critic_loss(
    params: tuple[Any, Any],
    next_value: Array,
    actions: Array,
    rewards: Array,
    expectile: float,
    discount: float,
) -> Array:
    """L_V + L_Q (IQL, equations 5 and 6) of actions [B, 2]; V has one state and one value."""
    q = _CRITIC.apply(params[0], _states(len(actions)), actions)
    q_min = jax.lax.stop_gradient(jnp.min(q, axis=0))
    targets = losses.td_targets(rewards, 1.0, next_value, discount)
    value_loss = losses.expectile_loss(q_min - _VALUE.apply(params[1], STATE), expectile)
    return value_loss + losses.twin_td_loss(q, targets)


def policy_actions(policy: Array, noise: Array, bound: Array | float) -> Array:
    """Returns actions [B, 2] of a Gaussian policy [4] in state 0.

    The four numbers are the last bias of its network. All biases start at 0 and ReLU has no slope
    at 0, so that no other weight has an effect or receives a gradient.
    """
    log_std = jnp.clip(policy[2:], networks.LOG_STD_MIN, networks.LOG_STD_MAX)
    return networks.squash(policy[:2], log_std, noise, bound)


def policy_loss(
    policy: Array, behaviour: Any, q: Any, points: Array, box: Array | float, eta: Array | float
) -> Array:
    """L_TR - eta * mean min(Q1, Q2) (DTQL, equation 9, gamma 0) of one Gaussian policy.

    Args:
      policy: [4], mean and log_std.
      behaviour: parameters of the denoiser of the data.
      q: parameters of the critics.
      points: [B, 5] in [0, 1): noise of the actions, noise level, noise.
      box: bound of the action space.
      eta: weight of Q.
    """
    actions = policy_actions(policy, normal(points[:, :2]), box)
    distance = trust_region(
        behaviour, actions, edm.noise_level(points[:, 2]), normal(points[:, 3:])
    )
    return distance - eta * mean_q(q, actions)


def trust_region(behaviour: Any, actions: Array, sigma: Array, noise: Array) -> Array:
    """Returns L_TR of actions [B, 2] with noise levels [B] and noise [B, 2]; D is not clipped."""
    return losses.trust_region_loss(
        lambda *inputs: _DENOISER.apply(behaviour, *inputs),
        actions,
        _states(len(actions)),
        sigma,
        noise,
        None,
    )


def mean_q(q: Any, actions: Array) -> Array:
    """Returns the mean of min(Q1, Q2) over actions [B, 2]."""
    return jnp.mean(jnp.min(_CRITIC.apply(q, _states(len(actions)), actions), axis=0))


def nll(policy: Array, data: Array, box: Array | float) -> Array:
    """L_NLL of one Gaussian policy [4] on actions [B, 2]."""
    log_std = jnp.clip(policy[2:], networks.LOG_STD_MIN, networks.LOG_STD_MAX)
    return losses.tanh_gaussian_nll(policy[:2], log_std, data, box)


def generate(params: Any, noise: Array) -> Array:
    """Actions [B, 2] of the KL form's generator."""
    level = jnp.full(len(noise), _GENERATION_SIGMA)
    return _DENOISER.apply(params, _GENERATION_SIGMA * noise, _states(len(noise)), level)


def distillation_loss(
    params: tuple[Any, Any], fake: Any, behaviour: Any, q: Any, points: Array, eta: float
) -> Array:
    """The generator's KL loss - eta * Q, plus the loss of the fake denoiser on its samples.

    Args:
      params: of the generator and of the fake denoiser; neither part has a gradient for the other.
      fake: parameters of the fake denoiser, held fixed.
      behaviour: parameters of the denoiser of the data.
      q: parameters of the critics.
      points: [B, 8] in [0, 1).
      eta: weight of Q.
    """
    actions = generate(params[0], normal(points[:, :2]))
    distance = dql_kl.distribution_matching_loss(
        lambda *inputs: _DENOISER.apply(behaviour, *inputs),
        lambda *inputs: _DENOISER.apply(fake, *inputs),
        actions,
        _states(len(actions)),
        edm.noise_level(points[:, 2]),
        normal(points[:, 3:5]),
        None,
    )
    follow = denoiser_loss(params[1], jax.lax.stop_gradient(actions), points[:, 5:])
    return distance - eta * mean_q(q, actions) + follow


class Panel(NamedTuple):
    """One reward on the data of a run.

    Attributes:
      rewards: [N] of the data.
      eta: weight of Q for the Gaussian policy.
      kl_updates: updates of the KL form; it is left as it is afterwards.
    """

    rewards: Array
    eta: float
    kl_updates: int


@flax.struct.dataclass
class PanelState:
    """What is trained for one reward: critics, value, Gaussian policy, generator, fake denoiser."""

    q: Trained
    value: Trained
    policy: Trained
    distillation: Trained  # of (generator, fake denoiser)


@flax.struct.dataclass
class State:
    """Everything of one seed: the denoiser of the data, and a PanelState for each reward."""

    behaviour: Trained
    panels: list[PanelState]


def init(key: Array, panels: int) -> State:
    """Returns fresh networks; none is a copy of another."""
    action, level = jnp.zeros((1, 2)), jnp.zeros(1)

    def panel(key: Array) -> PanelState:
        keys = jax.random.split(key, 4)
        generator, fake = (_DENOISER.init(k, action, STATE, level) for k in keys[2:])
        return PanelState(
            Trained.create(_CRITIC.init(keys[0], STATE, action)),
            Trained.create(_VALUE.init(keys[1], STATE)),
            Trained.create(jnp.zeros(4)),
            Trained.create((generator, fake)),
        )

    behaviour, *keys = jax.random.split(key, panels + 1)
    return State(
        Trained.create(_DENOISER.init(behaviour, action, STATE, level)), [panel(k) for k in keys]
    )


def make_step(
    config: Mapping[str, Any], actions: Array, box: float, panels: Sequence[Panel]
) -> Callable[[State, Array], tuple[State, Array]]:
    """Returns one update, (state, key) -> (state, policies [P, 4]), in the authors' order.

    Args:
      config: the study's.
      actions: [N, 2], the data in spatial order.
      box: bound of the Gaussian policies.
      panels: rewards.
    """
    rate, points = config["learning_rate"], len(actions)

    def critics(state: PanelState, panel: Panel, key: Array) -> PanelState:
        rows = _chosen(quasi_random(key, config["critic_rows"], 1)[:, 0], points)
        gradients = jax.grad(critic_loss)(
            (state.q.params, state.value.params),
            _VALUE.apply(state.value.params, STATE),
            actions[rows],
            panel.rewards[rows],
            config["expectile"],
            config["discount"],
        )
        return state.replace(
            q=state.q.update(gradients[0], rate), value=state.value.update(gradients[1], rate)
        )

    def policy(state: PanelState, behaviour: Any, panel: Panel, key: Array) -> PanelState:
        noise = quasi_random(key, config["policy_rows"], 5)
        gradient = jax.grad(policy_loss)(
            state.policy.params, behaviour, state.q.params, noise, box, panel.eta
        )
        return state.replace(policy=state.policy.update(gradient, rate))

    def distil(state: PanelState, behaviour: Any, key: Array) -> PanelState:
        noise = quasi_random(key, config["generator_rows"], 8)
        networks = state.distillation.params
        gradients = jax.grad(distillation_loss)(
            networks, networks[1], behaviour, state.q.params, noise, config["kl_eta"]
        )
        return state.replace(distillation=state.distillation.update(gradients, rate))

    def step(state: State, key: Array) -> tuple[State, Array]:
        own, *keys = jax.random.split(key, len(panels) + 1)
        noise = quasi_random(own, config["denoiser_rows"], 4)
        rows = actions[_chosen(noise[:, 0], points)]
        gradient = jax.grad(denoiser_loss)(state.behaviour.params, rows, noise[:, 1:])
        behaviour = state.behaviour.update(gradient, rate)
        updated = []
        for one, panel, key in zip(state.panels, panels, keys, strict=True):
            parts = jax.random.split(key, 3)
            one = policy(critics(one, panel, parts[0]), behaviour.params, panel, parts[1])
            one = jax.lax.cond(
                state.behaviour.moments.count < panel.kl_updates,
                lambda one, key: distil(one, behaviour.params, key),
                lambda one, key: one,
                one,
                parts[2],
            )
            updated.append(one)
        return State(behaviour, updated), jnp.stack([one.policy.params for one in updated])

    return step


def behaviour_samples(params: Any, noise: Array) -> Array:
    """Samples [B, 2] of the diffusion policy."""
    return edm.sample(lambda *x: _DENOISER.apply(params, *x), _states(len(noise)), noise, None)


def unflatten(denoiser: np.ndarray, critics: np.ndarray) -> tuple[Any, Any]:
    """Returns the parameters of a denoiser and of critics from the vectors that `train` returns."""
    state = init(jax.random.key(0), 1)
    restored = (
        ravel_pytree(params)[1](jnp.asarray(flat))
        for params, flat in (
            (state.behaviour.params, denoiser),
            (state.panels[0].q.params, critics),
        )
    )
    return next(restored), next(restored)


def gaussian_samples(policy: np.ndarray, box: float, number: int) -> np.ndarray:
    """Returns samples [S, 2] of a Gaussian policy [4], always with the same noise."""
    noise = np.random.default_rng(0).standard_normal((number, 2))
    return np.asarray(policy_actions(jnp.asarray(policy), noise, box))


EVERY = 50  # updates in one call


def train(
    config: Mapping[str, Any],
    bandits: Sequence[Bandit],
    settings: Sequence[Mapping[str, Any]],
    seed: int,
    say: Callable[[int], None] = lambda done: None,
) -> dict[str, np.ndarray]:
    """Trains every policy of one seed on bandits with the same data.

    Args:
      config: the study's.
      bandits: P rewards on the same data.
      settings: of their panels.
      seed: of networks and random numbers.
      say: told of the updates made.

    Returns:
      "policies" [F, P, 4], the Gaussian policies every `EVERY` updates; "generated" [P, S, 2],
      samples of the KL form; "behaviour" [S, 2], of the diffusion policy; "denoiser" [D] and
      "critics" [P, C], the parameters at the end.
    """
    order = spatial_order(bandits[0].actions)
    actions = jnp.asarray(bandits[0].actions[order], jnp.float32)
    panels = [
        Panel(jnp.asarray(b.reward(b.actions[order]), jnp.float32), s["eta"], s["kl_updates"])
        for b, s in zip(bandits, settings, strict=True)
    ]
    key = jax.random.key(seed, impl="threefry2x32")
    init_key, run_key, sample_key = jax.random.split(key, 3)
    state = init(init_key, len(panels))
    total = max(s["updates"] for s in settings)

    def updates(state: State, start: Array, data: tuple[Array, list[Panel]]) -> Any:
        step = make_step(config, data[0], bandits[0].box, data[1])
        keys = jax.vmap(lambda k: jax.random.fold_in(run_key, k))(start + jnp.arange(EVERY))
        return jax.lax.scan(step, state, keys)

    run = jax.jit(updates, donate_argnums=0)
    recorded = []
    for start in range(0, total, EVERY):
        state, seen = run(state, jnp.int32(start), (actions, panels))
        recorded.append(np.asarray(seen[-1]))
        say(start + EVERY)
    noise = jax.random.normal(sample_key, (config["samples"], 2))
    generated = [jax.jit(generate)(p.distillation.params[0], noise) for p in state.panels]
    return {
        "policies": np.stack(recorded),
        "generated": np.stack(generated),
        "behaviour": np.asarray(jax.jit(behaviour_samples)(state.behaviour.params, noise)),
        "denoiser": np.asarray(ravel_pytree(state.behaviour.params)[0]),
        "critics": np.stack([ravel_pytree(p.q.params)[0] for p in state.panels]),
    }
