"""The first operation that is not finite is named with its line."""

import inspect

import jax
import jax.numpy as jnp

from dtql_jax.algorithms.base import Algorithm
from dtql_jax.training import debug
from dtql_jax.training.progress import Progress
from dtql_jax.training.trainer import Trainer, TrainerConfig
from tests.training.fakes import data

STEPS = 30


def step(state, batch, key):
    """Shrinks a number; its logarithm is minus infinity once it has become 0."""
    hidden = jnp.max(jnp.where(state > -1.0, state, jnp.log(jnp.zeros(()))))  # a mask: no fault
    smaller = jnp.maximum(state - 1.0, 0.0)
    loss = jnp.mean(jnp.log(smaller)) + hidden  # the fault
    return smaller, {"loss": loss}


def line_of(words: str) -> int:
    lines, first = inspect.getsourcelines(step)
    return first + next(i for i, line in enumerate(lines) if words in line)


def algorithm() -> Algorithm:
    return Algorithm(lambda key, sample: jnp.full((2,), 20.0), step, step, lambda s, o, k: o)


def test_the_operation_and_its_line() -> None:
    settings = TrainerConfig(4, 0, STEPS, updates_per_call=8, log_every=10, eval_every=STEPS)
    fit = Trainer(algorithm(), data(), [1], settings, display=Progress(quiet=True))
    result = fit.run()
    # 20 - 1 - 19 = 0 in update number 19
    assert result.diverged == {0: (19, "loss")}
    found = debug.explain(fit, data(), 0)
    assert found.update == 19 and found.name == "log" and not found.gradient
    assert f"test_debug.py:{line_of('# the fault')} (step)" in found.place
    assert found.inputs == ((0.0, 0.0),)
    assert "log at " in str(found) and "update 19" in str(found)


def test_a_gradient_is_said_to_be_one() -> None:
    def root(state, batch, key):
        loss, gradient = jax.value_and_grad(lambda x: jnp.sum(jnp.sqrt(jax.nn.relu(x) * x)))(state)
        return state - gradient, {"loss": loss}

    key = jax.random.key(0)
    found = debug.first_nonfinite(root, jnp.zeros(2), data(), key, 0, 3, 4)
    assert found.update == 0 and "test_debug.py" in found.place
    # the loss is 0, its derivative 0.5 / sqrt(0)
    assert found.name in ("div", "rsqrt", "mul")


def test_finite_updates_are_none() -> None:
    found = debug.first_nonfinite(step, jnp.full((2,), 9.0), data(), jax.random.key(0), 0, 5, 4)
    assert found is None


def test_calls_begin_where_the_loop_begins_them() -> None:
    settings = TrainerConfig(4, 25, 40, updates_per_call=7, log_every=10, eval_every=40)
    # pretraining is cut at 10, 20 and its end 25; training at 35, 45, ...
    expected = {0: 0, 6: 0, 7: 7, 9: 7, 10: 10, 18: 17, 24: 20, 25: 25, 33: 32, 35: 35, 64: 62}
    assert {k: settings.call_of(k) for k in expected} == expected
