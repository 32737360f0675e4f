"""A replay buffer of new transitions on the device, and batches from it and an offline dataset.

| mixing | a batch of B rows |
|---|---|
| offline | all from the dataset |
| symmetric | B - B // 2 from the dataset, B // 2 new ones (Ball et al. 2023, arXiv 2302.02948) |
| uniform | from both as if they were one dataset |
| online | new ones alone |

With an empty buffer, "symmetric" and "uniform" draw only from the dataset.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from dtql_jax.training.population import draw_batch
from dtql_jax.types import Array, Transition

MIXINGS = ("offline", "symmetric", "uniform", "online")


class Replay(NamedTuple):
    """The newest transitions of one member."""

    rows: Transition  # [C, ...], a ring buffer: transition number i is in row i % C
    added: Array  # int32, transitions added so far; the newest C of them are kept


def empty(capacity: int, sample: Transition) -> Replay:
    """Makes an empty buffer; only the sizes of `sample` [N, ...] are used."""
    rows = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape[1:]), x.dtype), sample)
    return Replay(rows, jnp.int32(0))


def add(replay: Replay, new: Transition) -> Replay:
    """Adds transitions [n, ...] in order, n <= C, in place of the oldest."""
    number, capacity = new.rewards.shape[0], replay.rows.rewards.shape[0]
    if number > capacity:
        raise ValueError(f"{number} transitions do not fit into a buffer of {capacity}")
    places = (replay.added + jnp.arange(number)) % capacity
    rows = jax.tree.map(lambda own, x: own.at[places].set(x), replay.rows, new)
    return Replay(rows, replay.added + number)


def draw(
    mixing: str, offline: Transition, replay: Replay, key: Array, batch_size: int
) -> Transition:
    """Draws `batch_size` transitions with replacement from offline [N, ...] and the buffer.

    "offline", and "uniform" with an empty buffer, draw the same rows as `draw_batch`. ValueError
    where `mixing` is not one of MIXINGS.
    """
    if mixing not in MIXINGS:
        raise ValueError(f"mixing is {mixing!r}; expected one of {MIXINGS}")
    if mixing == "offline":
        return draw_batch(offline, key, batch_size)
    size, capacity = offline.rewards.shape[0], replay.rows.rewards.shape[0]
    filled = jnp.minimum(replay.added, capacity)
    if mixing == "uniform":
        rows = jax.random.randint(key, (batch_size,), 0, size + filled)
        new, old_row, new_row = rows >= size, jnp.minimum(rows, size - 1), rows - size
    else:
        # an empty buffer would give zeros to "online": add transitions before training
        keys = jax.random.split(key)
        new_row = jax.random.randint(keys[0], (batch_size,), 0, jnp.maximum(filled, 1))
        old_row = jax.random.randint(keys[1], (batch_size,), 0, size)
        number = batch_size if mixing == "online" else batch_size // 2
        new = (jnp.arange(batch_size) < number) & ((filled > 0) | (mixing == "online"))

    def pick(old: Array, own: Array) -> Array:
        chosen = new.reshape(-1, *[1] * (old.ndim - 1))
        return jnp.where(chosen, own[jnp.maximum(new_row, 0)], old[old_row])

    return jax.tree.map(pick, offline, replay.rows)
