"""K updates in one compiled call: batches drawn on the device, one lax.scan, the state donated."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dtql_jax.types import Array, Transition

Step = Callable[[Any, Transition, Array], tuple[Any, dict[str, Array]]]


class Tally(NamedTuple):
    """What the updates since the last row of the log reported, for M metrics in a fixed order.

    Attributes:
      sums: [M] float32, sums of the metrics; 0 where a phase does not report one.
      broken: [M] int32, the first update at which a metric was not finite; -1: none so far. Where
        the metrics were finite and the state after update k was not (a gradient), entry j is
        -(k + 2) for each part j of the state that was not; see `state_parts`.
    """

    sums: Array
    broken: Array

    @property
    def alive(self) -> Array:
        """Whether all numbers have been finite: [M] -> a scalar."""
        return jnp.all(self.broken == -1, axis=-1)


# (state, tally, data, run_key, start): the data is a Transition, or what `draw` takes in its place
Update = Callable[[Any, Tally, Any, Array, Array], tuple[Any, Tally]]


def empty_tally(metrics: int) -> Tally:
    """The tally before the first update."""
    return Tally(jnp.zeros((metrics,)), jnp.full((metrics,), -1, jnp.int32))


def state_parts(state: Any) -> dict[str, list[Any]]:
    """The leaves of a state by the field that they belong to ("critics", "policy", ...)."""
    parts: dict[str, list[Any]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        name = jax.tree_util.keystr(path[:1], simple=True) or "state"
        parts.setdefault(name, []).append(leaf)
    return parts


def _spoilt(before: Any, after: Any) -> list[Array]:
    """For each part of a state: whether numbers in it were finite before and are not after."""

    def leaf(old: Array, new: Array) -> Array:
        if not jnp.issubdtype(new.dtype, jnp.inexact):
            return jnp.bool_(False)
        return jnp.any(jnp.isfinite(old) & ~jnp.isfinite(new))

    spoilt = jax.tree.map(leaf, before, after)
    return [jnp.any(jnp.stack(leaves)) for leaves in state_parts(spoilt).values()]


def draw_batch(data: Transition, key: Array, batch_size: int) -> Transition:
    """Draws `batch_size` transitions uniformly with replacement from data [N, ...]."""
    size = data.rewards.shape[0]
    rows = jax.random.randint(key, (batch_size,), 0, size)
    return jax.tree.map(lambda x: x[rows], data)


def scan_updates(
    step: Step,
    metrics: Sequence[str],
    batch_size: int,
    num_updates: int,
    draw: Callable[[Any, Array, int], Transition] = draw_batch,
) -> Update:
    """Returns a function that makes `num_updates` updates.

    Args:
      step: `Algorithm.pretrain_step` or `train_step`.
      metrics: names of the M metrics, all that `step` reports among them.
      batch_size: rows of a batch.
      num_updates: length of the scan (static).
      draw: (data, key, batch_size) -> batch; whatever `data` it understands.

    Returns:
      (state, tally, data, run_key, start) -> (state, tally). Update number k (start <= k < start +
      num_updates) draws all its numbers from fold_in(run_key, k), so splitting a run into other
      calls changes nothing. A state whose metrics are not all finite, or which is not finite
      itself at the end of a call, is given back as it came, in this call and all later ones.
    """

    def run(state: Any, tally: Tally, data: Any, run_key: Array, start: Array) -> tuple[Any, Tally]:
        def one(carry: tuple[Any, Tally], k: Array) -> tuple[tuple[Any, Tally], None]:
            state, tally = carry
            batch_key, step_key = jax.random.split(jax.random.fold_in(run_key, k))
            state, reported = step(state, draw(data, batch_key, batch_size), step_key)
            values = jnp.stack([jnp.float32(reported.get(name, 0.0)) for name in metrics])
            first = (tally.broken == -1) & ~jnp.isfinite(values)
            return (state, Tally(tally.sums + values, jnp.where(first, k, tally.broken))), None

        ks = start + jnp.arange(num_updates, dtype=jnp.int32)
        (after, tally), _ = jax.lax.scan(one, (state, tally), ks)
        # a gradient of the last update shows in no metric of this call
        places = jnp.arange(len(metrics))
        spoilt = jnp.zeros(len(metrics), bool)
        for j, part in enumerate(_spoilt(state, after)):
            spoilt |= (places == min(j, len(metrics) - 1)) & part
        last = jnp.where(spoilt & tally.alive, -(ks[-1] + 2), tally.broken)
        tally = tally._replace(broken=last)
        return jax.tree.map(lambda new, old: jnp.where(tally.alive, new, old), after, state), tally

    return run
