"""What several algorithms share: checks, traced numbers, cosine decay, the choice of an action."""

from collections.abc import Iterable, Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp

from dtql_jax import networks
from dtql_jax.types import Array, Transition


def check_settings(
    config: Any,
    *,
    choices: Mapping[str, tuple[str, ...]] | None = None,
    unit: Iterable[str] = (),
    nonnegative: Iterable[str] = (),
    positive: Iterable[str] = (),
) -> None:
    """ValueError naming the first field of `config` outside its range.

    Args:
      config: a configuration dataclass.
      choices: field -> the values that it may have.
      unit: fields that lie in [0, 1].
      nonnegative: fields that are >= 0.
      positive: fields that are > 0.
    """
    for name, allowed in (choices or {}).items():
        if getattr(config, name) not in allowed:
            raise ValueError(f"{name} is {getattr(config, name)!r}; expected one of {allowed}")
    for names, meets, expected in (
        (unit, lambda x: 0.0 <= x <= 1.0, "a number in [0, 1]"),
        (nonnegative, lambda x: x >= 0.0, "a number >= 0"),
        (positive, lambda x: x > 0, "a number > 0"),
    ):
        for name in names:
            if not meets(getattr(config, name)):
                raise ValueError(f"{name} is {getattr(config, name)}; expected {expected}")


def check_at_most(config: Any, limits: Mapping[str, int]) -> None:
    """ValueError naming the first field of `config` above its limit.

    Numbers that unroll a loop or a table; beyond the limit a program would never be compiled.
    """
    for name, limit in limits.items():
        if getattr(config, name) > limit:
            raise ValueError(f"{name} is {getattr(config, name)}; expected at most {limit}")


def check_time_dim(time_dim: int) -> None:
    """ValueError where there are no sinusoidal features of this number."""
    if time_dim < 4 or time_dim % 2:
        raise ValueError(f"time_dim is {time_dim}; expected an even number >= 4")


def check_batch(batch: Transition) -> None:
    """AssertionError unless the shapes are those of a batch [B, ...]."""
    chex.assert_rank([batch.observations, batch.actions, batch.rewards, batch.masks], [2, 2, 1, 1])
    chex.assert_equal_shape([batch.observations, batch.next_observations])
    chex.assert_equal_shape([batch.rewards, batch.masks])
    chex.assert_equal_shape_prefix([batch.observations, batch.actions, batch.rewards], 1)


def traced(names: type, config: Any) -> Any:
    """The fields of the NamedTuple type `names`, read from `config` as float32 scalars."""
    return names(*(jnp.float32(getattr(config, n)) for n in names._fields))


def cosine_decay(step: Array, decay_steps: int | Array) -> Array:
    """The factor (1 + cos(pi k / T)) / 2 of step k, 0 from T on."""
    fraction = jnp.minimum(step / decay_steps, 1.0)
    return 0.5 * (1.0 + jnp.cos(jnp.pi * fraction))


def repeat(observations: Array, number: int) -> Array:
    """Each observation `number` times: [..., O] -> [..., N, O]."""
    shape = (*observations.shape[:-1], number, observations.shape[-1])
    return jnp.broadcast_to(observations[..., None, :], shape)


def min_q(critic: networks.DoubleCritic, params: Any, observations: Array, actions: Array) -> Array:
    """min(Q1, Q2) of candidates: observations [..., O], actions [..., N, A] -> [..., N]."""
    q = critic.apply(params, repeat(observations, actions.shape[-2]), actions)
    return jnp.min(q, axis=0)


def choose(actions: Array, scores: Array, key: Array, selection: str) -> Array:
    """One of N candidates: actions [..., N, A], scores [..., N] -> [..., A].

    "argmax" takes the one of highest score and leaves the key alone; any other selection samples
    with the scores as logits (softmax).
    """
    if selection == "argmax":
        choice = jnp.argmax(scores, axis=-1)
    else:
        choice = jax.random.categorical(key, scores)
    return jnp.take_along_axis(actions, choice[..., None, None], axis=-2)[..., 0, :]
