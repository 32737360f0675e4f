"""DTQL's numbers stop being finite in one term after another: metric and operation are named.

The faults are real ones: learning rates and weights that overflow float32, and data outside of the
action space. Nothing of the training step is replaced.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from dtql_jax.algorithms import make_algorithm
from dtql_jax.training.checkpoint import Checkpoints
from dtql_jax.training.progress import Progress
from dtql_jax.training.trainer import Trainer, TrainerConfig
from tests.algorithms import small
from tests.training.fakes import Lines

CALLS = 5  # updates in a call of the device, after which a member must have stopped


@dataclasses.dataclass(frozen=True)
class Fault:
    """A fault, and the names that must be reported.

    Attributes:
      metric: a metric or field of the state that must be named.
      files: where the named operation may be.
      settings: settings of the algorithm.
      pretrain: updates of pretraining.
      action: the largest action in the data.
    """

    metric: str
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
    "the trust region overflows": Fault("trust_region_loss", NETWORKS, {"learning_rate": 1e30}),
    "actions without a density": Fault("nll_loss", ("losses.py",), {"gamma": 1.0}, action=1.5),
    "a weight overflows": Fault("policy", NETWORKS, {"alpha": 3e38}),
}


def make_trainer(
    fault: Fault, display: Progress, checkpoints: Checkpoints | None = None
) -> Trainer:
    settings = {"hidden_dim": 16, "num_candidates": 4} | fault.settings
    loop = TrainerConfig(16, fault.pretrain, 400, CALLS, 10, 400, 10)
    data = small.batch(64)
    actions = np.asarray(data.actions)
    data = data._replace(actions=actions / np.abs(actions).max() * np.float32(fault.action))
    algorithm = make_algorithm("dtql", settings)
    return Trainer(algorithm, data, [3], loop, checkpoints=checkpoints, display=display)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_the_metric_the_update_and_the_operation(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    fault, display = FAULTS[name], Lines()
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        trainer = make_trainer(fault, display, checkpoints)
        result = trainer.run()
        found = result.diverged[0]
        assert not result.finished
        assert fault.metric in found.metric, found
        (warning,) = display.warnings
        assert str(found) in warning
        # within the call of the device in which it happened, or at the next boundary
        assert result.update - found.update <= 10
        trainer.resume()  # its last checkpoint is the last finite state
        assert trainer.diverged == result.diverged
        for leaf in jax.tree.leaves(trainer.state):
            assert np.isfinite(leaf).all()
    place = found.operation.partition(" at ")[2]
    assert place.split(":")[0] in fault.files, found
    record_property("cases", 1)
    record_property("faults", name)
    record_property("found", f"named {found}")
