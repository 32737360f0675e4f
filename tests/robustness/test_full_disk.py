"""A disk that is full for a while costs nothing; one that stays full ends the run with a line."""

import subprocess
import sys
from pathlib import Path

from dtql_jax.training.checkpoint import Checkpoints

ROOT = Path(__file__).parents[2]
NEVER = 10_000


def run(folder: Path, begin: int, end: int) -> subprocess.CompletedProcess:
    folder.mkdir()
    command = [sys.executable, "-m", "tests.robustness.full_disk", str(folder)]
    return subprocess.run(
        [*command, str(begin), str(end)], cwd=ROOT, capture_output=True, text=True
    )


def test_full_for_a_while(tmp_path: Path) -> None:
    whole, full = tmp_path / "whole", tmp_path / "full"
    assert run(whole, NEVER, NEVER).returncode == 0
    ended = run(full, 100, 300)
    assert ended.returncode == 0, ended.stderr
    warnings = [line for line in ended.stderr.splitlines() if line.startswith("warning:")]
    assert len([w for w in warnings if "training goes on, the newest whole one is" in w]) == 1
    assert len([w for w in warnings if "rows are kept until it can" in w]) == 1
    for name in ("metrics.csv", "evaluations.csv"):
        assert (full / name).read_text() == (whole / name).read_text(), name
    with Checkpoints(full / "checkpoints") as checkpoints:
        assert checkpoints.latest() == 420


def test_full_to_the_end(tmp_path: Path) -> None:
    ended = run(tmp_path / "full", 200, NEVER)
    assert ended.returncode == 3, ended.stderr
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "cannot be written" in errors[0]
    with Checkpoints(tmp_path / "full" / "checkpoints") as checkpoints:
        # the checkpoint of step 200 was being written when the evaluation filled the disk
        assert checkpoints.latest() in (170, 220)
