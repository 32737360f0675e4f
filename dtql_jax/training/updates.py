"""K updates in one compiled call: batches drawn on the device, one lax.scan, the state donated."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dtql_jax.types import Array, Transition

Step = Callable[[Any, Transition, Array], tuple[Any, dict[str, Array]]]
Totals = dict[str, Array]
Update = Callable[[Any, Totals, Transition, Array, Array], tuple[Any, Totals]]


def draw_batch(data: Transition, key: Array, batch_size: int) -> Transition:
    """Draws `batch_size` transitions uniformly with replacement from data [N, ...]."""
    size = data.rewards.shape[0]
    rows = jax.random.randint(key, (batch_size,), 0, size)
    return jax.tree.map(lambda x: x[rows], data)


def scan_updates(step: Step, batch_size: int, num_updates: int) -> Update:
    """Returns a function that makes `num_updates` updates.

    Args:
      step: `Algorithm.pretrain_step` or `train_step`.
      batch_size: rows of a batch.
      num_updates: length of the scan (static).

    Returns:
      (state, totals, data, run_key, start) -> (state, totals). `totals` holds the running sums of
      the metrics that the step reports. Update number k (start <= k < start + num_updates) draws
      all its numbers from fold_in(run_key, k), so splitting a run into other calls changes nothing.
    """

    def run(
        state: Any, totals: Totals, data: Transition, run_key: Array, start: Array
    ) -> tuple[Any, Totals]:
        def one(carry: tuple[Any, Totals], k: Array) -> tuple[tuple[Any, Totals], None]:
            state, totals = carry
            batch_key, step_key = jax.random.split(jax.random.fold_in(run_key, k))
            state, metrics = step(state, draw_batch(data, batch_key, batch_size), step_key)
            return (state, totals | {m: totals[m] + v for m, v in metrics.items()}), None

        (state, totals), _ = jax.lax.scan(one, (state, totals), start + jnp.arange(num_updates))
        return state, totals

    return run
