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
      broken: [M] int32, the first update at which a metric was not finite; -1: none so far.
    """

    sums: Array
    broken: Array

    @property
    def alive(self) -> Array:
        """Whether all metrics have been finite: [M] -> a scalar."""
        return jnp.all(self.broken < 0, axis=-1)


Update = Callable[[Any, Tally, Transition, Array, Array], tuple[Any, Tally]]


def empty_tally(metrics: int) -> Tally:
    """The tally before the first update."""
    return Tally(jnp.zeros((metrics,)), jnp.full((metrics,), -1, jnp.int32))


def draw_batch(data: Transition, key: Array, batch_size: int) -> Transition:
    """Draws `batch_size` transitions uniformly with replacement from data [N, ...]."""
    size = data.rewards.shape[0]
    rows = jax.random.randint(key, (batch_size,), 0, size)
    return jax.tree.map(lambda x: x[rows], data)


def scan_updates(step: Step, metrics: Sequence[str], batch_size: int, num_updates: int) -> Update:
    """Returns a function that makes `num_updates` updates.

    Args:
      step: `Algorithm.pretrain_step` or `train_step`.
      metrics: names of the M metrics, all that `step` reports among them.
      batch_size: rows of a batch.
      num_updates: length of the scan (static).

    Returns:
      (state, tally, data, run_key, start) -> (state, tally). Update number k (start <= k < start +
      num_updates) draws all its numbers from fold_in(run_key, k), so splitting a run into other
      calls changes nothing. A state whose metrics are not all finite is given back as it came, in
      this call and all later ones.
    """

    def run(
        state: Any, tally: Tally, data: Transition, run_key: Array, start: Array
    ) -> tuple[Any, Tally]:
        def one(carry: tuple[Any, Tally], k: Array) -> tuple[tuple[Any, Tally], None]:
            state, tally = carry
            batch_key, step_key = jax.random.split(jax.random.fold_in(run_key, k))
            state, reported = step(state, draw_batch(data, batch_key, batch_size), step_key)
            values = jnp.stack([jnp.float32(reported.get(name, 0.0)) for name in metrics])
            first = (tally.broken < 0) & ~jnp.isfinite(values)
            return (state, Tally(tally.sums + values, jnp.where(first, k, tally.broken))), None

        ks = start + jnp.arange(num_updates, dtype=jnp.int32)
        (after, tally), _ = jax.lax.scan(one, (state, tally), ks)
        return jax.tree.map(lambda new, old: jnp.where(tally.alive, new, old), after, state), tally

    return run
