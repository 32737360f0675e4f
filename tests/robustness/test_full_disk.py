"""A full disk ends the run in one line; the last checkpoint is whole, and `resume` continues."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

from dtql_jax.training.checkpoint import Checkpoints
from tests.robustness.full_disk import make_trainer

ROOT = Path(__file__).parents[2]
NEVER = 10_000


def run(folder: Path, full_from: int) -> subprocess.CompletedProcess:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.robustness.full_disk", str(folder), str(full_from)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_a_full_disk_ends_the_run_and_the_run_resumes(tmp_path: Path) -> None:
    whole, full = tmp_path / "whole", tmp_path / "full"
    assert run(whole, NEVER).returncode == 0
    ended = run(full, 220)
    assert ended.returncode == 3, ended.stderr
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ")
    with Checkpoints(full / "checkpoints") as checkpoints:
        # checkpoint 220 was being written when the evaluation filled the disk
        assert checkpoints.latest() in (170, 220)
        trainer = make_trainer(full, checkpoints, NEVER)
        trainer.resume()
    resumed = run(full, NEVER)
    assert resumed.returncode == 0, resumed.stderr
    for name in ("metrics.csv", "evaluations.csv"):
        assert (full / name).read_text() == (whole / name).read_text(), name
    states = []
    for folder in (whole, full):
        with Checkpoints(folder / "checkpoints") as checkpoints:
            trainer = make_trainer(folder, checkpoints, NEVER)
            trainer.resume()
        assert trainer.update == 420
        states.append(trainer.state)
    for a, b in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_array_equal(a, b)
