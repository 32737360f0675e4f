"""Whatever a file or a configuration holds, the end is a clean error or a correct result."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.robustness import fuzz
from tests.robustness.damage import FOREIGN

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What targets set is taken back."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("DTQL_JAX_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_some_cases(name: str, tmp_path: Path) -> None:
    found = fuzz.run(fuzz.TARGETS[name], tmp_path, fuzz.FEW)
    assert sum(found.values()) >= fuzz.FEW // 2


@pytest.mark.soak
@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_many_cases(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    found = fuzz.run(fuzz.TARGETS[name], tmp_path, fuzz.MANY[name])
    record_property("cases", sum(found.values()))
    record_property("faults", "flipped bits, cuts, foreign content, other values")
    record_property("found", f"{found['refused']} clean errors, {found['correct']} correct results")
    # a target whose cases all end the same way would test nothing
    assert found["refused"] and sum(found.values()) >= fuzz.MANY[name] // 2


def test_more_than_a_thousand_cases_are_tried() -> None:
    assert sum(fuzz.MANY.values()) >= 1000 and set(fuzz.MANY) == set(fuzz.TARGETS)


COMMANDS = {
    "resume": ["experiments.resume", "--run={run}"],
    "evaluate": ["experiments.evaluate", "--run={run}"],
    "reproduce": ["experiments.reproduce", "--run={run}"],
    "export": ["experiments.export", "--run={run}"],
}


@pytest.mark.soak
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("content", ["nothing", "a pickle", "JSON"])
def test_the_commands_end_with_one_line_and_exit_code_2(
    name: str, content: str, tmp_path: Path
) -> None:
    (tmp_path / "run.json").write_bytes(FOREIGN[content])
    module, *arguments = [word.format(run=tmp_path) for word in COMMANDS[name]]
    ended = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("error: ") and len(ended.stderr.splitlines()) == 1
