"""DTQL's numbers stop being finite in one term after another: each is named, with its operation.

The faults are real ones: learning rates and weights that overflow float32, and data outside of the
action space. Nothing of the training step is replaced.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from dtql_jax.algorithms import make_algorithm
from dtql_jax.training import debug
from dtql_jax.training.checkpoint import Checkpoints
from dtql_jax.training.progress import Progress
from dtql_jax.training.trainer import Trainer, TrainerConfig
from dtql_jax.training.watch import term_of
from tests.algorithms import small

CALLS = 5  # updates in a call of the device, after which a member must have stopped


@dataclasses.dataclass(frozen=True)
class Fault:
    """What is wrong, and what must be named.

    Attributes:
      term: that is named.
      files: where the operation may be that is named; the first update whose numbers are not
        finite may be the one after it.
      settings: of the algorithm.
      pretrain: updates of pretraining.
      action: the largest action in the data.
    """

    term: str
    files: tuple[str, ...]
    settings: dict[str, float]
    pretrain: int = 0
    action: float = 0.9


NETWORKS = ("layers.py", "networks.py", "losses.py", "edm.py", "train_state.py")
NETWORKS += ("dtql.py", "shared_updates.py")
FAULTS = {
    "critics overflow": Fault("critic", NETWORKS, {"critic_learning_rate": 1e12}),
    "the denoiser overflows": Fault("denoising", NETWORKS, {"learning_rate": 1e30}, pretrain=40),
    # the first training step sees the denoiser that it has just spoilt
    "the trust region overflows": Fault("trust region", NETWORKS, {"learning_rate": 1e30}),
    "actions without a density": Fault("NLL", ("losses.py",), {"gamma": 1.0}, action=1.5),
    "a weight overflows": Fault("policy", ("dtql.py",), {"alpha": 3e38}),
}


class Lines(Progress):
    """A display that keeps its warnings."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def trainer_of(
    fault: Fault, display: Progress, checkpoints: Checkpoints | None = None, log_every: int = 10
) -> tuple[Trainer, Any]:
    settings = {"hidden_dim": 16, "num_candidates": 4} | fault.settings
    loop = TrainerConfig(16, fault.pretrain, 400, CALLS, log_every, 400, 10)
    data = small.batch(64)
    actions = np.asarray(data.actions)
    data = data._replace(actions=actions / np.abs(actions).max() * np.float32(fault.action))
    algorithm = make_algorithm("dtql", settings)
    return Trainer(algorithm, data, [3], loop, checkpoints=checkpoints, display=display), data


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_the_term_the_update_and_the_operation(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    fault, display = FAULTS[name], Lines()
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        fit, data = trainer_of(fault, display, checkpoints)
        result = fit.run()
        found = result.diverged[0]
        assert not result.finished
        assert term_of(found.metric) == fault.term
        (warning,) = [w for w in display.warnings if "is not finite" in w]
        assert f"({fault.term}) is not finite at update {found.update}" in warning
        # within the call of the device in which it happened, or at the next boundary
        assert result.update - found.update <= 10
        fit.resume()  # its last checkpoint is the last finite state
        for leaf in jax.tree.leaves(fit.state):
            assert np.isfinite(leaf).all()
        operation = debug.explain(fit, data, 0)
    assert operation is not None
    assert found.update - 1 <= operation.update <= found.update
    file = operation.place.split(":")[0].rsplit("/", 1)[-1]
    assert file in fault.files
    record_property("cases", 1)
    record_property("faults", name)
    record_property(
        "found", f"named {fault.term}, update {found.update}, {operation.name} in {file}"
    )


@pytest.mark.slow
def test_q_is_reported_before_it_overflows(
    record_property: Callable[[str, object], None],
) -> None:
    display = Lines()
    fault = Fault("critic", NETWORKS, {"critic_learning_rate": 100.0})
    fit, _ = trainer_of(fault, display, log_every=2)
    result = fit.run()
    grown = [i for i, w in enumerate(display.warnings) if w.startswith("q_data has grown to")]
    ends = [i for i, w in enumerate(display.warnings) if "is not finite" in w]
    assert result.diverged, "the values never overflowed: nothing was before it"
    assert len(grown) == 1 and grown[0] < ends[0]
    record_property("cases", 1)
    record_property("faults", "critics that diverge")
    said = display.warnings[grown[0]].split(" (")[0]
    record_property("found", f"reported that {said}; overflow at {result.diverged[0].update}")
