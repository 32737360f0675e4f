"""Populations: P members (seeds, hyper-parameters) as a leading axis on the state, one program.

A single run is a population of one. Member i draws the same numbers as the plain run with its seed.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dtql_jax.algorithms.base import Algorithm
from dtql_jax.training import updates
from dtql_jax.types import Array, Transition


class MemberKeys(NamedTuple):
    """The three streams of random numbers of each member, typed keys [P]."""

    init: Array
    run: Array
    evaluation: Array


def member_keys(seeds: Sequence[int]) -> MemberKeys:
    """The keys that follow from the members' seeds."""
    keys = [jax.random.split(jax.random.key(seed), 3) for seed in seeds]
    return MemberKeys(*jnp.stack(keys, axis=1))


def over_members(function: Callable[..., Any], size: int, in_axes: tuple[int | None, ...]) -> Any:
    """vmap over the leading axis of the arguments marked 0.

    A population of one is computed without the axis: a batched matrix product of one is slower than
    the plain one, and its last bits would differ from it.
    """
    if size > 1:
        return jax.vmap(function, in_axes=in_axes)

    def single(*arguments: Any) -> Any:
        plain = [
            jax.tree.map(lambda x: x[0], argument) if axis == 0 else argument
            for argument, axis in zip(arguments, in_axes, strict=True)
        ]
        return jax.tree.map(lambda x: x[None], function(*plain))

    return single


def init(algorithm: Algorithm, keys: MemberKeys, sample: Transition) -> Any:
    """Fresh states of all members, [P, ...] on every leaf, each from its own key."""
    function = over_members(algorithm.init, len(keys.init), (0, None))
    return jax.jit(function)(keys.init, jax.tree.map(lambda x: x[:1], sample))


def metric_names(
    algorithm: Algorithm, state: Any, data: Transition, batch_size: int
) -> dict[str, list[str]]:
    """Names of the metrics that each phase's step reports: {"pretrain": ..., "train": ...}."""
    one = jax.eval_shape(lambda s: jax.tree.map(lambda x: x[0], s), state)
    rows = jnp.zeros((batch_size,), jnp.int32)
    batch = jax.eval_shape(lambda d: jax.tree.map(lambda x: x[rows], d), data)
    steps = {"pretrain": algorithm.pretrain_step, "train": algorithm.train_step}
    key = jax.random.key(0)
    return {name: list(jax.eval_shape(step, one, batch, key)[1]) for name, step in steps.items()}


def make_update(step: updates.Step, batch_size: int, num_updates: int, size: int) -> Any:
    """The jitted update of a whole population; the state is donated.

    The totals are not, so that the host can wait for one call while the next is under way.

    Returns:
      (state [P, ...], totals, data [N, ...], run_keys [P], start) -> (state, totals).
    """
    update = updates.scan_updates(step, batch_size, num_updates)
    return jax.jit(over_members(update, size, (0, 0, None, 0, None)), donate_argnums=0)


def make_act(algorithm: Algorithm, size: int, chunk: int = 8) -> Any:
    """The jitted action choice of a whole population.

    The numbers behind an action come from (member, episode, step) alone: an episode's course does
    not depend on which others are played beside it.

    Args:
      algorithm: whose `act` is called for one observation at a time, vectorised.
      size: P.
      chunk: observations treated at once; bounds the memory of many candidates.

    Returns:
      (state [P, ...], keys [P], observations [P, E, O], episodes [P, E], steps [P, E])
      -> actions [P, E, A].
    """

    def member(state: Any, key: Array, observations: Array, episodes: Array, steps: Array) -> Array:
        def one(row: tuple[Array, Array, Array]) -> Array:
            observation, episode, step = row
            row_key = jax.random.fold_in(jax.random.fold_in(key, episode), step)
            return algorithm.act(state, observation, row_key)

        return jax.lax.map(one, (observations, episodes, steps), batch_size=chunk)

    return jax.jit(over_members(member, size, (0, 0, 0, 0, 0)))


def member(state: Any, index: int) -> Any:
    """The state of one member, without the leading axis."""
    return jax.tree.map(lambda x: x[index], state)
