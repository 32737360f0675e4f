"""One process at a time works in a run's folder; the lock of a dead process does not block."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import dtql_jax
from dtql_jax.errors import UserError
from dtql_jax.training.run_folder import FORMAT, RunFolder

ROOT = Path(__file__).parents[2]
RUN = {
    "config": {"algorithm": {"name": "bc"}},
    "dataset": {"fingerprint": "f", "dataset_id": "d", "observation_dim": 2, "action_dim": 1},
}
HOLDER = """
import sys, time
from dtql_jax.training.run_folder import RunFolder
with RunFolder.open(sys.argv[1]):
    print("in", flush=True)
    time.sleep(600)
"""


def test_a_folder_in_use_is_refused_until_its_process_is_dead(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", RUN).close()
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "in\n"
        with pytest.raises(UserError, match="in use by a run that is still alive"):
            RunFolder.open(tmp_path / "run")
        process.send_signal(signal.SIGKILL)
    with RunFolder.open(tmp_path / "run") as folder:
        assert folder.run["config"] == RUN["config"]


def test_a_changed_record_is_refused(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", RUN).close()
    path = tmp_path / "run" / "run.json"
    content = json.loads(path.read_text())
    content["config"]["algorithm"]["name"] = "dc"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="has changed since its run began"):
        RunFolder.open(tmp_path / "run")
    # where the change is meant
    del content["sha256"]
    path.write_text(json.dumps(content))
    with RunFolder.open(tmp_path / "run") as folder:
        assert folder.run["config"]["algorithm"]["name"] == "dc"


def test_a_folder_of_an_older_version_is_refused_with_its_version(tmp_path: Path) -> None:
    old = RUN | {"versions": {"dtql-jax": "0.1.0"}, "commit": "0123456789abcdef"}
    (tmp_path / "run.json").write_text(json.dumps(old))
    with pytest.raises(UserError, match=r"by dtql-jax 0\.1\.0, commit 0123456789ab; this is"):
        RunFolder.open(tmp_path)


def test_a_new_record_names_the_version(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", RUN).close()
    content = json.loads((tmp_path / "run" / "run.json").read_text())
    assert content["versions"]["dtql-jax"] == dtql_jax.__version__
    assert content["format"] == FORMAT
