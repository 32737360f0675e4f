"""Gradients of parts of a batch, and the sizes of parts, exchanges and calls of `act`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.algorithms import make_algorithm
from dtql_jax.training.data_parallel import acting, members, rows
from tests.algorithms import small
from tests.training.fakes import linear_algorithm


@pytest.mark.parametrize("in_cache", [1, 4, 5, 12, 100])
def test_parts_of_a_batch_give_the_mean_gradient(
    in_cache: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the squared error of a linear model: 2 x^T (x w - y) / B, in numpy."""
    monkeypatch.setattr(rows, "ROWS_IN_CACHE", in_cache)
    rng = np.random.default_rng(0)
    x, y, w = rng.normal(size=(12, 3)), rng.normal(size=12), rng.normal(size=3)

    def loss_fn(w: jnp.ndarray, x: jnp.ndarray, y: jnp.ndarray) -> tuple:
        errors = x @ w - y
        return jnp.mean(errors**2), {"error": jnp.mean(errors)}

    batch = (jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32))
    grads, metrics = rows.gradients(loss_fn, jnp.asarray(w, jnp.float32), batch)
    np.testing.assert_allclose(grads, 2.0 * x.T @ (x @ w - y) / 12, rtol=1e-5)
    np.testing.assert_allclose(metrics["error"], np.mean(x @ w - y), rtol=1e-5)


def test_a_loss_is_traced_once_for_all_parts_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "ROWS_IN_CACHE", 4)
    traces = []

    def loss_fn(w: jnp.ndarray, x: jnp.ndarray) -> tuple:
        traces.append(1)
        return jnp.mean(w * x), {}

    jax.jit(lambda w, x: rows.gradients(loss_fn, w, (x,)))(jnp.float32(1.0), jnp.ones(12))
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("in_cache", "batch_size", "expected"),
    [
        (256, 2048, 256),
        (256, 1000, 250),
        (256, 256, 256),
        (256, 100, 100),
        (64, 2**11 - 9, 2**11 - 9),
    ],
)
def test_a_part_is_a_divisor_or_the_whole(
    in_cache: int, batch_size: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "ROWS_IN_CACHE", in_cache)
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert rows.microbatch_size(batch_size) == expected
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert rows.microbatch_size(batch_size) == batch_size


def test_what_devices_would_exchange_are_gradients_of_all_train_states() -> None:
    sample = small.batch(1)
    algorithm = make_algorithm("dql", small.settings("dql"))
    state = jax.eval_shape(algorithm.init, jax.random.key(0), sample)
    networks = (state.actor.params, state.critics.params)
    expected = 4 * sum(x.size for x in jax.tree.leaves(networks))
    assert members.trained_bytes(algorithm, sample) == expected
    assert members.trained_bytes(linear_algorithm(), sample) == 0


def test_observations_at_once_follow_from_the_largest_array_of_acting() -> None:
    """DTQL's [2, candidates, width] critics: twice the candidates, half the observations."""
    numbers = []
    for candidates in (128, 256, 512):
        settings = {"hidden_dim": 64, "num_candidates": candidates}
        algorithm, key = make_algorithm("dtql", settings), jax.random.key(0)
        state = jax.eval_shape(algorithm.init, key, small.batch(1))
        observation = jnp.zeros(small.OBSERVATION_DIM)
        numbers.append(acting.observations_at_once(algorithm, state, observation, key))
    assert numbers == [32, 16, 8]  # 2 MB / (2 * 128 * 64 * 4 bytes) = 32
