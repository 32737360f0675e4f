"""Weights & Biases gets the events that TensorBoard gets; without it there is one line."""

import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from dtql_jax.errors import UserError
from dtql_jax.training.logging import MetricsLog

ROOT = Path(__file__).parents[2]


class Recorder:
    """Records the calls of wandb."""

    def __init__(self) -> None:
        self.begun: list[dict] = []
        self.logged: list[tuple[dict, int]] = []
        self.finished = 0

    def init(self, **arguments: object) -> "Recorder":
        self.begun.append(arguments)
        return self

    def log(self, values: dict, step: int) -> None:
        self.logged.append((values, step))

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """A module in wandb's place."""
    found = Recorder()
    module = types.ModuleType("wandb")
    module.init = found.init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return found


def write(folder: Path, resume_at: int | None = None) -> None:
    log = MetricsLog(
        folder, [0, 4], ["loss"], resume_at=resume_at, tensorboard=False, wandb={"a": 1}
    )
    log.write_metrics(10, "train", 10, {"loss": np.array([1.0, 3.0])}, [0, 1])
    log.close()


def test_scalars_are_sent(recorder: Recorder, tmp_path: Path) -> None:
    write(tmp_path)
    assert recorder.logged == [({"train/loss": 2.0}, 10)]
    assert recorder.finished == 1
    (begun,) = recorder.begun
    assert begun["project"] == "dtql-jax" and begun["name"] == tmp_path.name
    assert begun["config"] == {"a": 1} and begun["dir"] == str(tmp_path)
    assert (tmp_path / "metrics.csv").read_text().count("\n") == 3


def test_a_resumed_run_is_the_same_one(recorder: Recorder, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    write(tmp_path)
    write(tmp_path, resume_at=5)
    write(tmp_path / "other")
    first, again, other = recorder.begun
    assert again["id"] == first["id"] != other["id"]
    assert again["resume"] == "allow"


def test_a_failed_beginning_is_one_line(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**arguments: object) -> None:
        raise RuntimeError("no API key\nconfigured")

    monkeypatch.setattr(sys.modules["wandb"], "init", fail)
    with pytest.raises(UserError, match=r"cannot begin \(no API key configured\); try `wandb"):
        write(tmp_path)


def test_without_wandb_the_command_says_so_and_writes_nothing(tmp_path: Path) -> None:
    # a finder that hides wandb, should it be installed
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'wandb':\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hide())\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "dtql_jax", "train", "--wandb", f"--out={tmp_path / 'out'}"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: --wandb: Weights & Biases is not installed")
    assert len(ended.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
