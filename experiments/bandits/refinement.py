"""Gaussian policies trained on networks that are trained already: the project's own setting.

The order of training is the first difference from the authors' program, in which the policy starts
together with its critics: here denoiser and critics are those of the end of `training.train` and
are held. The others are fields of the configuration's `variants`.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.diffusion import edm
from dtql_jax.types import Array
from experiments.bandits import training
from experiments.bandits.problems import Bandit, spatial_order

_START_LOG_STD = -4.0  # of a policy that starts at a data point
_CANDIDATES, _LEVELS = 1_000, 64  # data points compared, and noised copies of each


def action_losses(behaviour: Any, q: Any, actions: Array, key: Array, eta: Array) -> Array:
    """Returns L_TR - eta * min(Q1, Q2) of single actions [C, 2], all with the same noise: [C]."""
    points = training.quasi_random(key, _LEVELS, 3)
    sigma, noise = edm.noise_level(points[:, 0]), training.normal(points[:, 1:])

    def loss(action: Array) -> Array:
        repeated = jnp.broadcast_to(action, (_LEVELS, 2))
        distance = training.trust_region(behaviour, repeated, sigma, noise)
        return distance - eta * training.mean_q(q, action[None])

    return jax.lax.map(loss, actions, batch_size=64)


@partial(jax.jit, static_argnames=("rows", "updates", "from_data", "with_nll"))
def _train(
    behaviour: Any, q: Any, data: Array, box: Array, key: Array, eta: Array, gamma: Array,
    rate: Array, *, rows: int, updates: int, from_data: bool, with_nll: bool,
) -> tuple[Array, Array]:  # fmt: skip
    """Returns the policy's [4] numbers before and after training."""
    start_key, run_key = jax.random.split(key)
    start = jnp.zeros(4)
    if from_data:
        candidates = data[:: max(1, len(data) // _CANDIDATES)]
        losses = action_losses(behaviour, q, candidates, start_key, eta)
        mean = jnp.arctanh(candidates[jnp.argmin(losses)] / (box + 1e-3))
        start = jnp.concatenate([mean, jnp.full(2, _START_LOG_STD)])

    def loss(policy: Array, points: Array) -> Array:
        value = training.policy_loss(policy, behaviour, q, points, box, eta)
        return value + gamma * training.nll(policy, data, box) if with_nll else value

    def step(policy: training.Trained, k: Array) -> tuple[training.Trained, None]:
        points = training.quasi_random(jax.random.fold_in(run_key, k), rows, 5)
        return policy.update(jax.grad(loss)(policy.params, points), rate), None

    policy, _ = jax.lax.scan(step, training.Trained.create(start), jnp.arange(updates))
    return start, policy.params


def train(
    config: Mapping[str, Any],
    variant: Mapping[str, Any],
    bandit: Bandit,
    eta: float,
    networks: tuple[Any, Any],
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Trains one policy on networks that are held.

    Args:
      config: the study's.
      variant: its start, scale of eta, gamma and updates.
      bandit: the problem.
      eta: the authors' weight of Q in this panel.
      networks: parameters of the denoiser and of the critics.
      seed: of the random numbers.

    Returns:
      The policy's [4] numbers before and after.
    """
    order = spatial_order(bandit.actions)
    start, end = _train(
        *networks,
        jnp.asarray(bandit.actions[order], jnp.float32),
        jnp.float32(bandit.box),
        jax.random.key(seed, impl="threefry2x32"),
        jnp.float32(eta * variant["eta_scale"]),
        jnp.float32(variant["gamma"]),
        jnp.float32(config["learning_rate"]),
        rows=config["policy_rows"],
        updates=variant["updates"],
        from_data=variant["start"] == "data",
        with_nll=variant["gamma"] != 0.0,
    )
    return np.asarray(start), np.asarray(end)
