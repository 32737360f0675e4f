"""SIGKILL at random moments, also in the middle of a checkpoint, and going on, changes nothing."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
KILLS = 20


def start(folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.robustness.killed_fit", str(folder)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def amid_a_checkpoint(folder: Path, process: subprocess.Popen) -> bool:
    """Waits until a checkpoint is half written; False if none was seen for five seconds."""
    deadline = time.monotonic() + 5.0
    while time.monotonic() < deadline and process.poll() is None:
        if any("orbax-checkpoint-tmp" in p.name for p in (folder / "checkpoints").iterdir()):
            return True
    return False


@pytest.mark.slow
def test_twenty_kills_leave_the_same_run(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    with start(whole) as process:
        assert process.wait() == 0
    rng, kills, halves = random.Random(0), 0, 0
    while True:
        with start(killed) as process:
            if process.stdout.readline().strip() != "ready":
                break  # it ended before it was ready: the assertion below says so
            if kills % 3 == 2:
                halves += amid_a_checkpoint(killed, process)
            elif kills < 3 * KILLS:
                # the first moments after a start are the resumption, the later ones the loop
                time.sleep(rng.uniform(0.0, 0.4))
            if kills >= KILLS:
                assert process.wait() == 0
            elif process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
                process.wait()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
    assert process.returncode == 0
    assert kills >= KILLS, "the run ended before it was killed often enough"
    assert halves >= 3
    record_property("cases", kills)
    record_property("faults", f"SIGKILL amid a checkpoint: {halves}, elsewhere: {kills - halves}")
    record_property("found", "parameters, metrics and evaluations bit-identical")
    for name in ("metrics.csv", "evaluations.csv"):
        assert (killed / name).read_text() == (whole / name).read_text(), name
    with np.load(whole / "result.npz") as a, np.load(killed / "result.npz") as b:
        assert a.files == b.files
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name])
