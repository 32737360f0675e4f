"""A killed evaluation worker ends a run with one line and exit code 3; the run resumes."""

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
    return [int(number) for number, words in lines if "evaluation.pool" in words]


def test_killed_worker(
    environment: dict[str, str], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    out = tmp_path / "run"
    process = start(environment, "train", f"--out={out}", *SMALL, *FEW)
    killed = False
    while not killed and process.poll() is None:
        for pid in workers_of(process.pid)[:1]:
            os.kill(pid, signal.SIGKILL)
            killed = True
        time.sleep(0.05)
    said = process.communicate()[1]
    assert killed and process.returncode == 3, said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "worker 0 died" in errors[0], said
    assert f"make resume RUN={out}" in errors[0] and "Traceback" not in said
    again = start(environment, "resume", f"--run={out}")
    said = again.communicate()[1]
    assert again.returncode == 0, said
    record_property("cases", 1)
    record_property("faults", "SIGKILL of an evaluation worker")
    record_property("found", "exit code 3, resumed to the end")
