"""Whatever a file or a configuration holds, the end is a clean error or a correct result."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands.small_run import write_run
from tests.robustness import fuzz
from tests.robustness.damage import FOREIGN

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Restores the variables that targets set."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("DTQL_JAX_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_some_cases(name: str, tmp_path: Path) -> None:
    found, _ = fuzz.run(fuzz.TARGETS[name], tmp_path, fuzz.FEW)
    assert sum(found.values()) >= fuzz.FEW // 2


@pytest.mark.soak
@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_many_cases(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    found, slowest = fuzz.run(fuzz.TARGETS[name], tmp_path, fuzz.MANY[name])
    record_property("cases", sum(found.values()))
    record_property("faults", "flipped bits, cuts, foreign content, other values")
    record_property(
        "found",
        f"{found['refused']} clean errors, {found['correct']} correct results; the slowest took "
        f"{slowest:.1f} s",
    )
    # a target whose cases all end the same way would test nothing
    assert found["refused"] and sum(found.values()) >= fuzz.MANY[name] // 2


def test_more_than_a_thousand_cases_are_tried() -> None:
    assert sum(fuzz.MANY.values()) >= 1000 and set(fuzz.MANY) == set(fuzz.TARGETS)


# without lines of progress, which a busy machine may add
COMMANDS = {
    "resume": ["dtql_jax", "resume", "--quiet", "--run={folder}"],
    "evaluate": ["dtql_jax", "evaluate", "--quiet", "--run={folder}"],
    "reproduce": ["dtql_jax", "reproduce", "--quiet", "--run={folder}"],
    "export": ["dtql_jax", "export", "--run={folder}"],
}
# the commands that read other files than a run's record, and how those are called in {folder}
READERS = {
    "a D4RL file": (
        "hopper_medium-v2.hdf5",
        [
            *("dtql_jax", "train", "--quiet", "--env=hopper-medium", "--source=d4rl"),
            *("--config.d4rl_dir={folder}", "--out={folder}/run"),
        ],
    ),
    "a behaviour policy": (
        "policy.npz",
        [
            *("dtql_jax", "data", "--quiet", "--env=hopper-medium", "--transitions=100"),
            "--behaviour_policy={folder}/policy.npz",
        ],
    ),
    "a stored run": ("run.npz", ["tests.replay_reference", "{folder}/run.npz"]),
}


def assert_refused(arguments: list[str], folder: Path) -> None:
    module, *flags = [word.format(folder=folder) for word in arguments]
    ended = subprocess.run(
        [sys.executable, "-m", module, *flags], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("error: ") and len(ended.stderr.splitlines()) == 1


@pytest.mark.soak
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("content", ["nothing", "a pickle", "JSON"])
def test_the_commands_end_with_one_line_and_exit_code_2(
    name: str, content: str, tmp_path: Path
) -> None:
    (tmp_path / "run.json").write_bytes(FOREIGN[content])
    assert_refused(COMMANDS[name], tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("content", ["nothing", "a pickle", "an .npz with objects"])
@pytest.mark.parametrize("name", READERS)
def test_so_do_those_that_read_other_files(name: str, content: str, tmp_path: Path) -> None:
    file, arguments = READERS[name]
    (tmp_path / file).write_bytes(FOREIGN[content])
    assert_refused(arguments, tmp_path)
    # no run has begun
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == [file]


@pytest.mark.soak
def test_a_damaged_checkpoint_is_one_line_of_the_command(tmp_path: Path) -> None:
    write_run(tmp_path)
    newest = max((tmp_path / "checkpoints").iterdir(), key=lambda path: int(path.name))
    largest = max(newest.rglob("*"), key=lambda path: path.is_file() and path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    assert_refused(["dtql_jax", "export", "--run={folder}"], tmp_path)
