"""A disk that is full for a while costs nothing; one that stays full ends the run with a line."""

import subprocess
import sys
from pathlib import Path

from dtql_jax.training.checkpoint import Checkpoints
from tests.robustness.full_disk import LIMIT

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
    # one line for the log and the checkpoints, none of any library's threads
    (line,) = ended.stderr.splitlines()
    assert line.startswith("warning: ") and "training goes on" in line and "is whole" in line
    for name in ("metrics.csv", "evaluations.csv"):
        assert (full / name).read_text() == (whole / name).read_text(), name
    with Checkpoints(full / "checkpoints") as checkpoints:
        assert checkpoints.latest() == 420


def test_full_to_the_end(tmp_path: Path) -> None:
    ended = run(tmp_path / "full", 200, NEVER)
    assert ended.returncode == 3, ended.stderr
    warning, error = ended.stderr.splitlines()
    assert warning.startswith("warning: ") and "training goes on" in warning
    assert error.startswith("error: ") and "cannot be written" in error
    with Checkpoints(tmp_path / "full" / "checkpoints") as checkpoints:
        # the checkpoint of step 200 was being written when the evaluation filled the disk; none of
        # a later update, since the rows before it are lost
        assert checkpoints.whole() in (170, 220)


def test_a_log_of_its_output_on_the_full_disk(tmp_path: Path) -> None:
    folder = tmp_path / "full"
    folder.mkdir()
    with (tmp_path / "output").open("wb") as output:
        output.write(bytes(LIMIT))
        output.flush()
        command = [sys.executable, "-m", "tests.robustness.full_disk", str(folder), "100", "300"]
        assert subprocess.run(command, cwd=ROOT, stdout=output, stderr=output).returncode == 0
    assert (tmp_path / "output").stat().st_size == LIMIT
