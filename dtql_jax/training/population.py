"""Populations: P members (seeds, hyperparameters) as a leading axis of the state, in one program.

A single run is a population of one. Member i draws the same numbers as the single run with its
seed. K updates are one compiled call: batches are drawn on the device, in one `lax.scan`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.algorithms.base import Algorithm
from dtql_jax.algorithms.config import traced_names
from dtql_jax.errors import UserError, near_matches
from dtql_jax.training.data_parallel import Placement
from dtql_jax.types import Array, Transition

Step = Callable[[Any, Transition, Array], tuple[Any, dict[str, Array]]]


class MemberKeys(NamedTuple):
    """The three streams of random numbers of each member, typed keys [P]."""

    init: Array
    run: Array
    evaluation: Array


def member_keys(seeds: Sequence[int]) -> MemberKeys:
    """Splits each member's seed into its keys."""
    keys = [jax.random.split(jax.random.key(seed), 3) for seed in seeds]
    return MemberKeys(*jnp.stack(keys, axis=1))


def init(algorithm: Algorithm, placement: Placement, keys: Array, sample: Transition) -> Any:
    """Initialises the states of all members, [places, ...] on every leaf, each from its own key."""
    function = placement.map_members(algorithm.init, (0, None))
    return function(keys, placement.copy(jax.tree.map(lambda x: x[:1], sample)))


def set_hyperparameters(
    placement: Placement, state: Any, values: Mapping[str, Sequence[float]]
) -> Any:
    """Gives each member its own hyperparameters, {name: one number for each of the P members}.

    UserError where the algorithm has no such traced field, or the number of values is not P.
    """
    if not values:
        return state
    known, changed = traced_names(state.config), {}
    for name, numbers in values.items():
        if name not in known:
            raise UserError(f"{name!r} cannot differ between members; {near_matches(name, known)}")
        if len(numbers) != placement.members:
            raise UserError(
                f"{name} has {len(numbers)} values; expected one for each of the "
                f"{placement.members} members"
            )
        changed[name] = placement.put(np.asarray(numbers, np.float32))
    return state.replace(config=state.config.replace(**changed))


def member(state: Any, index: int) -> Any:
    """Returns the state of one member, without the leading axis."""
    return jax.tree.map(lambda x: x[index], state)


# ---------------------------------------------------------------------------------- the updates


class MetricSums(NamedTuple):
    """Sums of M metrics over the updates since they were last logged."""

    sums: Array  # [M] float32, in a fixed order; 0 where a phase does not report a metric
    failed_at: Array  # int32, first update of the call in which a number became NaN or inf; or -1


# (state, sums, data, run_key, start); `data` is a Transition, or the argument of a custom `draw`
Update = Callable[[Any, MetricSums, Any, Array, Array], tuple[Any, MetricSums]]


def empty_sums(metrics: int, members: int | None = None) -> MetricSums:
    """The sums before the first update: [M], or [P, M] for a number of members."""
    shape = () if members is None else (members,)
    return MetricSums(jnp.zeros((*shape, metrics)), jnp.full(shape, -1, jnp.int32))


def became_nonfinite(before: Any, after: Any) -> Any:
    """For each leaf of a state: whether numbers in it were finite before and are not after."""

    def leaf(old: Array, new: Array) -> Array:
        if not jnp.issubdtype(new.dtype, jnp.inexact):
            return jnp.bool_(False)
        return jnp.any(jnp.isfinite(old) & ~jnp.isfinite(new))

    return jax.tree.map(leaf, before, after)


def draw_batch(data: Transition, key: Array, batch_size: int) -> Transition:
    """Draws `batch_size` transitions uniformly with replacement from data [N, ...]."""
    rows = jax.random.randint(key, (batch_size,), 0, data.rewards.shape[0])
    return jax.tree.map(lambda x: x[rows], data)


def scan_updates(
    step: Step,
    metrics: Sequence[str],
    batch_size: int,
    num_updates: int,
    draw: Callable[[Any, Array, int], Transition] = draw_batch,
) -> Update:
    """Returns a function that makes `num_updates` updates of one member.

    Args:
      step: `Algorithm.pretrain_step` or `train_step`.
      metrics: names of the M metrics, all that `step` reports among them.
      batch_size: rows of a batch.
      num_updates: length of the scan (static).
      draw: (data, key, batch_size) -> batch; `data` is whatever it understands.

    Returns:
      (state, sums, data, run_key, start) -> (state, sums). Update number k (start <= k < start +
      num_updates) draws all its numbers from fold_in(run_key, k), so splitting a run into other
      calls changes nothing. If a metric, or the state at the end of a call, is not finite, then
      this call and all later ones return the state that they were given.
    """

    def run(
        state: Any, sums: MetricSums, data: Any, run_key: Array, start: Array
    ) -> tuple[Any, MetricSums]:
        def one(carry: tuple[Any, Array, Array], k: Array) -> tuple[Any, None]:
            state, total, finite = carry
            batch_key, step_key = jax.random.split(jax.random.fold_in(run_key, k))
            state, reported = step(state, draw(data, batch_key, batch_size), step_key)
            values = jnp.stack([jnp.float32(reported.get(name, 0.0)) for name in metrics])
            return (state, total + values, finite & jnp.isfinite(values).all()), None

        ks = start + jnp.arange(num_updates, dtype=jnp.int32)
        carry = (state, sums.sums, sums.failed_at == -1)
        (after, total, finite), _ = jax.lax.scan(one, carry, ks)
        # the metrics of this call cannot show a non-finite gradient of its last update
        broken = jax.tree.leaves(became_nonfinite(state, after))
        finite &= ~jnp.any(jnp.stack(broken))
        failed_at = jnp.where((sums.failed_at == -1) & ~finite, start, sums.failed_at)
        after = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, state)
        return after, MetricSums(total, failed_at)

    return run


def make_update(
    step: Step, metrics: Sequence[str], batch_size: int, num_updates: int, placement: Placement
) -> Any:
    """Jits `scan_updates` for a whole population; the state is donated.

    The sums are not, so that the host can wait for one call while the next is running.

    Returns:
      (state [places, ...], sums, data [N, ...], run_keys [places], start) -> (state, sums).
    """
    update = scan_updates(step, metrics, batch_size, num_updates)
    return placement.map_members(update, (0, 0, None, 0, None), donate=(0,))


def metric_names(
    algorithm: Algorithm, placement: Placement, state: Any, data: Transition, batch_size: int
) -> dict[str, list[str]]:
    """Names of the metrics that each phase's step reports: {"pretrain": ..., "train": ...}.

    Traces the steps as `make_update` does, so that a jitted step is not traced again there.
    """
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), placement.places))

    def reported(step: Step) -> list[str]:
        def metrics(state: Any, data: Transition, key: Array) -> dict[str, Array]:
            return step(state, draw_batch(data, key, batch_size), key)[1]

        return list(jax.eval_shape(placement.map_members(metrics, (0, None, 0)), state, data, keys))

    return {phase: reported(getattr(algorithm, f"{phase}_step")) for phase in ("pretrain", "train")}
