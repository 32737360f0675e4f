"""Numbers that stop being finite are named with their term; values that grow, before they do."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.algorithms.base import Algorithm
from dtql_jax.training.progress import Progress
from dtql_jax.training.trainer import Trainer, TrainerConfig
from dtql_jax.training.watch import DivergenceMonitor, term_of
from dtql_jax.types import Array, Transition
from tests.test_metrics_table import rows
from tests.training.fakes import data

SETTINGS = TrainerConfig(8, 0, 60, updates_per_call=7, log_every=10, eval_every=60)


class Lines(Progress):
    """A display that keeps its warnings."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@flax.struct.dataclass
class Config:
    discount: Array
    lost_at: Array


@flax.struct.dataclass
class State:
    critics: Array
    policy: Array
    count: Array
    config: Config


def doubling(lost_at: float = -1.0) -> Algorithm:
    """Q doubles at each update; the gradient of update `lost_at` makes the policy NaN."""

    def init(key: Array, sample: Transition) -> State:
        config = Config(jnp.float32(0.9), jnp.float32(lost_at))
        return State(jnp.ones(3), jnp.zeros(2), jnp.int32(0), config)

    def step(state: State, batch: Transition, key: Array):
        metrics = {"q_data": jnp.mean(state.critics), "policy_loss": jnp.sum(state.policy)}
        lost = jnp.where(state.count == state.config.lost_at, jnp.nan, 0.0)
        after = state.replace(
            critics=2.0 * state.critics, policy=state.policy + lost, count=state.count + 1
        )
        return after, metrics

    return Algorithm(init, step, step, lambda state, observations, key: observations)


def test_values_are_reported_once_and_before_they_overflow() -> None:
    display = Lines()
    settings = TrainerConfig(8, 0, 200, updates_per_call=10, log_every=10, eval_every=200)
    result = Trainer(doubling(), data(), [0], settings, display=display).run()
    # rewards are 1 and the discount is 0.9: no Q can be beyond 10, and ten times that is told of.
    # The mean over updates 0 to 9 is (2^10 - 1) / 10; 2^128 is beyond float32
    first, second = display.warnings
    assert first.startswith("q_data has grown to 102 at update 10 (the rewards allow at most 10)")
    assert second.startswith("gradient of critics is not finite at update 127") or (
        second.startswith("q_data (critic) is not finite at update 12")
    )
    assert not result.finished


@pytest.mark.parametrize("lost_at", [5, 6, 7])
def test_a_gradient_that_is_not_finite_spoils_no_state(lost_at: int) -> None:
    result = Trainer(doubling(lost_at), data(), [0], SETTINGS, display=Lines()).run()
    assert not result.finished
    for leaf in jax.tree.leaves(result.state):
        assert np.isfinite(leaf).all()
    # calls are updates 0 to 6, 7 to 9 (a row of the log), ...; 6 is the last one of its call and
    # shows in no metric, the others in the update after
    update, metric = result.diverged[0]
    if lost_at == 6:
        assert (update, metric) == (6, "gradient of policy")
    else:
        assert (update, metric) == (lost_at + 1, "policy_loss")
    assert int(result.state.count[0]) == (0 if lost_at < 7 else 7)


BROKEN = [
    ({"policy_loss": 4, "trust_region_loss": 4, "q_loss": -1}, "trust_region_loss"),
    ({"policy_loss": 4, "nll_loss": 4}, "nll_loss"),
    ({"policy_loss": 4, "q_loss": 4, "td_loss": 4, "critic_loss": 4}, "td_loss"),
    ({"denoising_loss": 3, "td_loss": 4}, "denoising_loss"),
    ({"mine": 4, "policy_loss": 4}, "policy_loss"),
    ({"mine": 4}, "mine"),
]


@pytest.mark.parametrize(("broken", "expected"), BROKEN)
def test_the_cause_is_named_rather_than_the_sum_that_it_spoils(
    broken: dict[str, int], expected: str
) -> None:
    lines: list[str] = []
    watch = DivergenceMonitor([7], list(broken), jnp.zeros(2), None, lines.append)
    watch.look(np.array([list(broken.values())], np.int32))
    assert watch.diverged[0].metric == expected
    assert len(lines) == 1 and expected in lines[0]


def test_every_metric_has_a_term() -> None:
    assert [name for name in rows("Training") if not term_of(name)] == []
