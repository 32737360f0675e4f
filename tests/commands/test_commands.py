"""The commands as processes: a whole small run, Ctrl-C and resume, and wrong input."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.commands.commands import ROOT, SMALL, assert_wrong, call, command


@pytest.fixture(scope="module")
def whole(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    ended = call("train", f"--out={out}", "--seeds=2", *SMALL, environment=environment)
    assert ended.returncode == 0, ended.stderr
    return out


def test_a_run_leaves_everything(whole: Path) -> None:
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["task"] == "pointmaze-umaze"
    assert summary["source"] == "generated"
    assert summary["dataset_id"].startswith("dtql_jax/pointmaze/umaze")
    assert summary["dataset_fingerprint"].startswith("sha256:")
    assert summary["seeds"] == [0, 1]
    assert summary["updates"] == 120
    assert summary["episodes"] == 3
    assert 0.0 <= summary["score_mean"] <= 100.0
    phases = {"data", "init", "compile", "pretrain", "train", "evaluate", "checkpoint"}
    assert set(summary["seconds"]) == phases
    assert summary["device"]["kind"]
    assert summary["versions"]["jax"]
    assert summary["commit"]
    assert len((whole / "episodes.csv").read_text().splitlines()) == 1 + 2 * 3
    for picture in ("learning_curve.png", "losses.png", "trajectories.png"):
        assert (whole / picture).read_bytes().startswith(b"\x89PNG")
    assert list((whole / "tensorboard").iterdir())


def test_ctrl_c_and_resume_change_nothing(
    environment: dict[str, str], whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "stopped"
    process = subprocess.Popen(
        command("train", f"--out={out}", "--seeds=2", *SMALL),
        cwd=ROOT,
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = out / "metrics.csv"
    while process.poll() is None and not (metrics.exists() and "train" in metrics.read_text()):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130, said
    assert f"make resume RUN={out}" in said
    assert not (out / "summary.json").exists()
    ended = call("resume", f"--run={out}", environment=environment)
    assert ended.returncode == 0, ended.stderr
    for name in ("metrics.csv", "evaluations.csv", "episodes.csv"):
        assert (out / name).read_text() == (whole / name).read_text()


def test_evaluate_repeats_the_score(environment: dict[str, str], whole: Path) -> None:
    ended = call("evaluate", f"--run={whole}", "--quiet", environment=environment)
    assert ended.returncode == 0, ended.stderr
    found, summary = json.loads(ended.stdout), json.loads((whole / "summary.json").read_text())
    assert found["score_by_seed"] == summary["score_by_seed"]
    assert found["length_mean"] == summary["length_mean"]


WRONG = {
    "--env=antmaze-umze": "did you mean antmaze-umaze",
    "--config.batch_sise=3": "did you mean batch_size",
    "--config.algorithm.alfa=3": "did you mean algorithm.alpha",
    "--config.batch_size=many": "invalid literal",
    "--config.batch_size=0": "config.batch_size is 0; expected at least 1",
    "--config.algorithm.expectile=1.5": "expected a number in [0, 1]",
    "--algorithm=dtlq": "did you mean dtql",
    "--preset=slow": "known: full, quick",
    "--source=minary": "did you mean minari",
    "--sedes=3": "did you mean",
    "stray": "unexpected argument 'stray'",
    "--config=nowhere.py": "no file nowhere.py",
    "--config.eval_overlap=yes": "eval_overlap is 'yes'; expected one of auto, on, off",
    "--coordinator=machine": "expected HOST:PORT or auto",
    "--processes=2": "--coordinator is missing",
    "--seeds=0": "--seeds is 0; expected at least 1",
}


def test_wrong_input_is_one_line_and_writes_nothing(
    environment: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    started = {
        argument: subprocess.Popen(
            command("train", f"--out={out}", argument),
            cwd=ROOT,
            env=os.environ | environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for argument in WRONG
    }
    for argument, process in started.items():
        said = process.communicate(timeout=300)[1]
        ended = subprocess.CompletedProcess(argument, process.returncode, stderr=said)
        assert_wrong(ended, WRONG[argument])
    assert not out.exists()


def test_folders_are_not_mixed_up(environment: dict[str, str], whole: Path, tmp_path: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in whole.rglob("*")}
    (tmp_path / "notes.txt").write_text("mine")
    cases = [
        (("train", f"--out={whole}"), "holds another run already"),
        (("train", f"--out={tmp_path}"), "is not empty"),
        (("train", f"--out={tmp_path / 'notes.txt'}"), "is not empty"),
        (("resume", f"--run={whole}"), "has ended already"),
        (("resume", f"--run={tmp_path}"), "holds no run.json"),
        (("resume",), "--run is missing"),
    ]
    for arguments, expected in cases:
        assert_wrong(call(*arguments, environment=environment), expected)
    lock = whole / ".lock"
    assert {p: t for p, t in before.items() if p != lock} == {
        p: p.stat().st_mtime_ns for p in whole.rglob("*") if p != lock
    }
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["train", "evaluate", "data", "report", "sweep", "decisions"])
def test_help(name: str) -> None:
    ended = call(name, "--help")
    assert ended.returncode == 0
    assert "flags:" in ended.stdout
    assert f"dtql-jax {name}" in ended.stdout
