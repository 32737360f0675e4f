"""Functions that several algorithms share: checks, learning-rate decay, the choice of an action."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax

from dtql_jax import networks
from dtql_jax.types import Array, Transition


def check_batch(batch: Transition) -> None:
    """Raises AssertionError unless the shapes are those of a batch [B, ...]."""
    chex.assert_rank([batch.observations, batch.actions, batch.rewards, batch.masks], [2, 2, 1, 1])
    chex.assert_equal_shape([batch.observations, batch.next_observations])
    chex.assert_equal_shape([batch.rewards, batch.masks])
    chex.assert_equal_shape_prefix([batch.observations, batch.actions, batch.rewards], 1)


def placeholders(sample: Transition) -> tuple[jax.Array, jax.Array, jax.Array]:
    """An observation [1, O], an action [1, A] and a time [1] to initialise networks with."""
    sizes = sample.observations.shape[-1], sample.actions.shape[-1]
    return jnp.zeros((1, sizes[0])), jnp.zeros((1, sizes[1])), jnp.zeros((1,))


def decay_factor(config: Any, step: Array, steps_a_count: int = 1) -> Any:
    """The cosine factor of update `step`, from 1 to 0 over `decay_steps`; 1 without `lr_decay`."""
    if not config.lr_decay:
        return 1.0
    return optax.cosine_decay_schedule(1.0, steps_a_count * config.decay_steps)(step)


def denoised_bound(config: Any) -> float | None:
    """The bound of the clipped D, or None."""
    return config.max_action if config.clip_denoised else None


def repeat(observations: Array, number: int) -> jax.Array:
    """Repeats each observation `number` times: [..., O] -> [..., N, O]."""
    shape = (*observations.shape[:-1], number, observations.shape[-1])
    return jnp.broadcast_to(observations[..., None, :], shape)


def min_q(
    critic: networks.DoubleCritic, params: Any, observations: Array, actions: Array
) -> jax.Array:
    """min(Q1, Q2) of candidates: observations [..., O], actions [..., N, A] -> [..., N]."""
    q = critic.apply(params, repeat(observations, actions.shape[-2]), actions)
    return jnp.min(jnp.asarray(q), axis=0)


def number_of_candidates(config: Any) -> int:
    """N of an algorithm whose `action_selection` may be a "single" draw."""
    return 1 if config.action_selection == "single" else config.num_candidates


def choose(actions: Array, scores: Array, key: Array, selection: str) -> jax.Array:
    """Chooses one of N candidates: actions [..., N, A], scores [..., N] -> [..., A].

    "argmax" takes the candidate with the highest score and does not use the key; any other
    selection samples with the scores as logits (softmax).
    """
    if selection == "argmax":
        choice = jnp.argmax(scores, axis=-1)
    else:
        choice = jax.random.categorical(key, scores)
    return jnp.take_along_axis(actions, choice[..., None, None], axis=-2)[..., 0, :]
