"""Killed evaluation workers of a real run: once is a warning, twice ends it with a seed."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.robustness.commands import SMALL, start

pytestmark = pytest.mark.slow
FEW = [
    "--config.pretrain_steps=0",
    "--steps=40",
    "--config.eval_workers=1",
    "--config.eval_every=40",
]


def workers_of(pid: int) -> list[int]:
    """Process ids of the evaluation workers of a process."""
    listed = subprocess.run(
        ["ps", "-ww", "-o", "pid=", "-o", "args=", "--ppid", str(pid)],
        capture_output=True,
        text=True,
    )
    lines = [line.split(None, 1) for line in listed.stdout.splitlines()]
    return [int(number) for number, words in lines if "evaluation.workers" in words]


@pytest.mark.parametrize("kills", [1, 2])
def test_killed_workers(
    environment: dict[str, str],
    tmp_path: Path,
    kills: int,
    record_property: Callable[[str, object], None],
) -> None:
    out = tmp_path / "run"
    process = start(environment, "train", f"--out={out}", *SMALL, *FEW)
    done: set[int] = set()
    while len(done) < kills and process.poll() is None:
        for pid in set(workers_of(process.pid)) - done:
            os.kill(pid, signal.SIGKILL)
            done.add(pid)
            if len(done) == kills:
                break
        time.sleep(0.05)
    said = process.communicate()[1]
    assert len(done) == kills, said
    assert "starting it again" in said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    if kills == 1:
        assert process.returncode == 0 and not errors, said
    else:
        assert process.returncode == 3, said
        assert len(errors) == 1 and "again" in errors[0] and f"make resume RUN={out}" in errors[0]
        assert "Traceback" not in said
        again = start(environment, "resume", f"--run={out}")
        said = again.communicate()[1]
        assert again.returncode == 0, said
    record_property("cases", kills)
    record_property("faults", "SIGKILL of an evaluation worker")
    record_property("found", "started again" if kills == 1 else "exit code 3, resumed to the end")
