"""A repetition is compared bit for bit, and what differs is named."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from dtql_jax.commands import reproduce
from tests.commands.commands import SMALL, assert_wrong, call
from tests.commands.small_run import write_run

HEADER = "update,member,loss\n"


def write_table(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "metrics.csv").write_text(HEADER + text)
    return folder


TABLES = [
    ("1,0,0.5\n2,0,0.25\n", True, "2 rows"),
    ("1,0,0.5\n2,0,0.250000001\n", False, "1 of 2 rows differ, the first is row 2: loss 0.25 ->"),
    ("1,0,0.5\n", False, "2 rows -> 1 rows"),
    ("2,0,0.5\n2,0,0.25\n", False, "the first is row 1: update 1 -> 2"),
]


@pytest.mark.parametrize(("text", "equal", "details"), TABLES)
def test_tables(tmp_path: Path, text: str, equal: bool, details: str) -> None:
    first = write_table(tmp_path / "a", "1,0,0.5\n2,0,0.25\n")
    line = reproduce.compare_tables("metrics.csv", first, write_table(tmp_path / "b", text))
    assert line.equal == equal and details in line.details


def test_states() -> None:
    state = {"actor": np.arange(4.0, dtype=np.float32), "step": np.int32(3)}
    same = reproduce.compare_states(state, jax.tree.map(np.copy, state))
    assert same.equal and same.details == "5 numbers in 2 arrays"
    changed = state | {"actor": state["actor"] + np.float32([0, 0, 0.5, 0])}
    line = reproduce.compare_states(state, changed)
    assert not line.equal
    assert line.details == "1 of 2 arrays differ, actor the first; by 0.5 at most"
    # minus zero and zero are equal numbers and other bits
    zeros = {"w": np.zeros(2, np.float32)}
    assert not reproduce.compare_states(zeros, {"w": -zeros["w"]}).equal
    assert not reproduce.compare_states(zeros, {"w": np.zeros(3, np.float32)}).equal


RECORD = {
    "versions": {"python": "3.11.7", "jax": "0.10.2"},
    "commit": "abc",
    "device": {"devices": 1, "kind": "cpu"},
    "dataset": {"dataset_id": "d-v0", "fingerprint": "sha256:0123456789abcdef"},
}
OTHERS = [
    ({}, None, ""),
    ({"versions": {"python": "3.11.7", "jax": "0.11.0"}}, "versions", "jax 0.10.2 -> 0.11.0"),
    ({"commit": "def"}, "commit", "abc -> def"),
    ({"device": {"devices": 1, "kind": "H100"}}, "device", "1 x cpu -> 1 x H100"),
    ({"dataset": {"dataset_id": "d-v1", "fingerprint": "sha256:0"}}, "dataset", "d-v0"),
]


@pytest.mark.parametrize(("changes", "what", "details"), OTHERS)
def test_circumstances(changes: dict, what: str | None, details: str) -> None:
    lines = reproduce.compare_records(RECORD, RECORD | changes)
    assert [line.what for line in lines if not line.equal] == ([what] if what else [])
    assert any(details in line.details for line in lines)


def test_a_changed_source_cannot_be_told() -> None:
    lines = reproduce.compare_records(
        RECORD | {"commit": "a-dirty"}, RECORD | {"commit": "a-dirty"}
    )
    assert [line.what for line in lines if not line.equal] == ["commit"]


def test_a_run_that_has_not_ended_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    assert_wrong(call("reproduce", f"--run={tmp_path / 'run'}"), "has not ended")


@pytest.mark.slow
def test_the_command(environment: dict[str, str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    ended = call("train", f"--out={run}", "--seeds=2", *SMALL, environment=environment)
    assert ended.returncode == 0, ended.stderr
    ended = call("reproduce", f"--run={run}", "--quiet", environment=environment)
    assert ended.returncode == 0, ended.stderr
    assert "equal bit for bit" in ended.stdout
    for what in (*reproduce.TABLES, "parameters", "versions", "dataset"):
        (line,) = [x for x in ended.stdout.splitlines() if x.startswith(f"| {what} ")]
        assert "| yes" in line
    # another seed in the record is another run
    shutil.rmtree(tmp_path / "run-again")
    record = json.loads((run / "run.json").read_text())
    del record["sha256"]
    record["members"][1]["seed"] = 7
    (run / "run.json").write_text(json.dumps(record))
    ended = call("reproduce", f"--run={run}", "--quiet", environment=environment)
    assert ended.returncode == 1, ended.stderr
    assert "NOT equal" in ended.stdout
