"""Gradients summed up over parts of a batch, and how large the parts are."""

import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.algorithms import common


@pytest.mark.parametrize("microbatch", [0, 1, 4, 5, 12, 100])
def test_parts_of_a_batch_give_the_mean_gradient(microbatch: int) -> None:
    """Of the squared error of a linear model: 2 x^T (x w - y) / B, in numpy."""
    rng = np.random.default_rng(0)
    x, y, w = rng.normal(size=(12, 3)), rng.normal(size=12), rng.normal(size=3)

    def loss_fn(w: jnp.ndarray, rows: tuple[jnp.ndarray, jnp.ndarray]) -> tuple:
        errors = rows[0] @ w - rows[1]
        return jnp.mean(errors**2), {"error": jnp.mean(errors)}

    rows = (jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32))
    grads, metrics = common.mean_gradients(loss_fn, jnp.asarray(w, jnp.float32), rows, microbatch)
    np.testing.assert_allclose(grads, 2.0 * x.T @ (x @ w - y) / 12, rtol=1e-5)
    np.testing.assert_allclose(metrics["error"], np.mean(x @ w - y), rtol=1e-5)


@pytest.mark.parametrize(
    ("setting", "batch_size", "expected"),
    [
        (256, 2048, 256),
        (256, 1000, 250),
        (256, 256, 256),
        (256, 100, 100),
        (64, 2**11 - 9, 2**11 - 9),
    ],
)
def test_microbatch_is_a_divisor_or_the_whole(setting: int, batch_size: int, expected: int) -> None:
    assert common.microbatch_size(setting, batch_size) == expected
