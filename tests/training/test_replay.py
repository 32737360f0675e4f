"""The buffer against a numpy list, and how much of a batch is new."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.training import replay
from dtql_jax.training.population import draw_batch
from dtql_jax.types import Transition


def numbered(numbers: np.ndarray) -> Transition:
    """Transitions that bear their number in each entry."""
    rows = np.asarray(numbers, np.float32)
    wide = np.repeat(rows[:, None], 3, axis=1)
    return Transition(wide, wide[:, :2], wide + 0.5, rows, rows)


OFFLINE = jax.tree.map(jnp.asarray, numbered(np.arange(50)))
KEY = jax.random.key(3)


def filled(number: int, capacity: int = 16) -> replay.Replay:
    return replay.add(replay.empty(capacity, OFFLINE), numbered(1000 + np.arange(number)))


def test_a_ring_keeps_the_newest() -> None:
    buffer, kept = replay.empty(7, OFFLINE), []
    for first, number in ((0, 3), (3, 5), (8, 1), (9, 7), (16, 2)):
        numbers = np.arange(first, first + number)
        buffer = replay.add(buffer, numbered(numbers))
        kept = [*kept, *numbers][-7:]
        present = np.asarray(buffer.rows.rewards)[: min(int(buffer.added), 7)]
        assert sorted(present) == sorted(kept)
        np.testing.assert_array_equal(
            buffer.rows.next_observations[:, 1],
            buffer.rows.rewards + (0.5 * (np.arange(7) < int(buffer.added))),
        )
    assert int(buffer.added) == 18
    with pytest.raises(ValueError, match="8 transitions do not fit into a buffer of 7"):
        replay.add(buffer, numbered(np.arange(8)))


@pytest.mark.parametrize(
    ("mixing", "share"), [("symmetric", 0.5), ("online", 1.0), ("offline", 0.0)]
)
def test_shares_of_a_batch(mixing: str, share: float) -> None:
    batch = replay.draw(mixing, OFFLINE, filled(10), KEY, 64)
    new = np.asarray(batch.rewards) >= 1000
    assert new.sum() == 64 * share
    # ten of sixteen places are filled, and no other is drawn
    assert set(np.asarray(batch.rewards)[new]) <= set(range(1000, 1010))
    assert set(np.asarray(batch.rewards)[~new]) <= set(range(50))
    for part in batch:
        assert part.shape[0] == 64
    np.testing.assert_array_equal(batch.observations[:, 2], batch.rewards)
    np.testing.assert_array_equal(batch.actions[:, 0], batch.masks)


def test_uniform_draws_old_and_new_alike() -> None:
    keys = jax.random.split(KEY, 400)
    draws = jax.vmap(lambda key: replay.draw("uniform", OFFLINE, filled(10), key, 60).rewards)(keys)
    values, counts = np.unique(np.asarray(draws), return_counts=True)
    np.testing.assert_array_equal(values, [*range(50), *range(1000, 1010)])
    # 24,000 draws of 60: 400 each, deviation 20
    assert np.abs(counts - 400).max() < 100


@pytest.mark.parametrize("mixing", ["offline", "uniform"])
def test_without_new_data_a_batch_is_that_of_an_offline_run(mixing: str) -> None:
    expected = draw_batch(OFFLINE, KEY, 32)
    buffer = replay.empty(16, OFFLINE)
    batch = jax.jit(lambda b: replay.draw(mixing, OFFLINE, b, KEY, 32))(buffer)
    jax.tree.map(np.testing.assert_array_equal, batch, expected)


def test_symmetric_without_new_data_is_offline_data() -> None:
    batch = replay.draw("symmetric", OFFLINE, replay.empty(4, OFFLINE), KEY, 32)
    assert set(np.asarray(batch.rewards)) <= set(range(50)) and len(np.unique(batch.rewards)) > 10


def test_unknown_mixings_are_named() -> None:
    with pytest.raises(ValueError, match="mixing is 'half'"):
        replay.draw("half", OFFLINE, filled(1), KEY, 4)
    assert jnp.int32(0) == replay.empty(2, OFFLINE).added
