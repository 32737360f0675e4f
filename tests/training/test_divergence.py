"""The update, the metric and the operation that are not finite are named."""

import inspect
from typing import NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.algorithms.base import Algorithm
from dtql_jax.training import divergence
from dtql_jax.training.trainer import Trainer, TrainerConfig
from dtql_jax.types import Array, Transition
from tests.training.fakes import Lines, data

SETTINGS = TrainerConfig(8, 0, 60, updates_per_call=7, log_every=10, eval_every=60)


@flax.struct.dataclass
class State:
    critics: Array
    policy: Array
    count: Array


def losing(at: int) -> Algorithm:
    """The gradient of update `at` makes the policy NaN."""

    def init(key: Array, sample: Transition) -> State:
        return State(jnp.ones(3), jnp.zeros(2), jnp.int32(0))

    def step(state: State, batch: Transition, key: Array):
        metrics = {"q_data": jnp.mean(state.critics), "policy_loss": jnp.sum(state.policy)}
        lost = jnp.where(state.count == at, jnp.nan, 0.0)
        return state.replace(policy=state.policy + lost, count=state.count + 1), metrics

    return Algorithm(init, step, step, lambda state, observations, key: observations)


@pytest.mark.parametrize("at", [5, 6, 7])
def test_a_gradient_that_is_not_finite_spoils_no_state(at: int) -> None:
    display = Lines()
    result = Trainer(losing(at), data(), [4], SETTINGS, display=display).run()
    assert not result.finished
    for leaf in jax.tree.leaves(result.state):
        assert np.isfinite(leaf).all()
    # calls are updates 0 to 6, 7 to 9 (a row of the log), ...
    assert result.diverged[0][:2] == (at, "gradient of policy")
    assert int(result.state.count[0]) == (0 if at < 7 else 7)
    (warning,) = display.warnings
    assert warning.startswith(f"member 0 (seed 4): gradient of policy not finite at update {at}")


class Logarithm(NamedTuple):
    """A number that shrinks; its logarithm is not finite once it has become negative."""

    value: Array


def shrink(state: Logarithm, batch: Transition, key: Array):
    smaller = state.value - 1.0
    return Logarithm(smaller), {"fine": smaller, "loss": jnp.log(smaller)}  # the fault


def test_the_update_the_metric_and_the_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(divergence, "_PACKAGE", divergence.Path(__file__).parent)
    key = jax.random.key(0)
    found = divergence.find(
        jax.jit(shrink), Logarithm(jnp.float32(20.5)), data(), key, range(16, 40), 4
    )
    # 20.5 - 21 < 0 in the 21st update, number 36
    assert found[:2] == (36, "loss")
    lines, first = inspect.getsourcelines(shrink)
    line = first + next(i for i, text in enumerate(lines) if "# the fault" in text)
    assert found.operation == f"log at test_divergence.py:{line}"
    assert str(found).startswith("loss not finite at update 36 (first in log at ")


def test_updates_that_are_finite_one_at_a_time_are_named_as_a_range() -> None:
    state, key = Logarithm(jnp.float32(99.0)), jax.random.key(0)
    found = divergence.find(jax.jit(shrink), state, data(), key, range(3, 6), 4)
    assert found == (3, "a number in updates 3 to 5", "")
