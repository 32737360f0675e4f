"""100,000 updates leave memory, threads and open files as they were after the first few."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.robustness.long_fit import EVALUATIONS, FIELDS

ROOT = Path(__file__).parents[2]
UPDATES = 100_000
GROWTH_KB = 16_000  # of some 500,000; Python's and XLA's allocators keep what they need once


@pytest.mark.soak
def test_a_long_run_holds_what_a_short_one_does(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    command = [sys.executable, "-m", "tests.robustness.long_fit", str(tmp_path), str(UPDATES)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    table = np.genfromtxt(tmp_path / "process.csv", delimiter=",", names=True)
    assert table.dtype.names == FIELDS and len(table) == EVALUATIONS + 2
    during = table[1:-1]
    # the first tenth compiles and fills caches
    settled, late = during[EVALUATIONS // 10 : EVALUATIONS // 2], during[EVALUATIONS // 2 :]
    growth = np.median(late["resident_kb"]) - np.median(settled["resident_kb"])
    parts = [np.median(np.diff(part["seconds"])) for part in (settled, late)]
    before, after = (UPDATES // EVALUATIONS / seconds for seconds in parts)
    record_property("cases", UPDATES)
    record_property(
        "found",
        f"memory {np.median(settled['resident_kb']) / 1e3:.0f} MB {growth / 1e3:+.1f} MB, "
        f"{before:.0f} then {after:.0f} updates/s, threads {late['threads'].max():.0f}, open files "
        f"{late['files'].max():.0f} at most, {table['threads'][-1]:.0f} and "
        f"{table['files'][-1]:.0f} after its end",
    )
    assert growth < GROWTH_KB
    # medians: a checkpoint that is being written has threads and files of its own for a moment
    for name in ("threads", "files"):
        assert np.median(late[name]) <= np.median(settled[name]), name
    # what the checkpoints and the log held is given back; JAX's own threads and files stay, which
    # it may open later than the first checkpoint
    assert table["threads"][-1] <= late["threads"].min()
    assert table["files"][-1] <= late["files"].min()
