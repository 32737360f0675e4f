"""The main job, as a new user meets it: the default run reaches its goals."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_default_run_reaches_its_goals(tmp_path: Path) -> None:
    own = {"MINARI_DATASETS_PATH": str(tmp_path / "minari"), "DTQL_JAX_CACHE": str(tmp_path / "c")}
    command = [sys.executable, "-m", "experiments.train", f"--out={tmp_path / 'run'}"]
    subprocess.run(command, cwd=ROOT, env=os.environ | own, check=True)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["episodes"] == 100
    assert summary["score_mean"] >= 95.0
