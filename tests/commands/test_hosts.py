"""The training command on two hosts: two processes on this machine."""

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.commands.commands import ROOT, SMALL, call, command

SMALLER = (
    *SMALL,
    *("--seeds=3", "--config.pretrain_steps=20", "--steps=40", "--config.eval_every=20"),
    *("--config.final_eval_episodes=2", "--config.record_episodes=1"),
)


def on_two_hosts(environment: dict[str, str], *arguments: str) -> list[tuple[int, str]]:
    """(exit code, stderr) of each host."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    where = (f"--coordinator={address}", "--processes=2")
    started = [
        subprocess.Popen(
            command("train", *arguments, *where, f"--process={k}"),
            cwd=ROOT,
            env=os.environ | environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for k in (0, 1)
    ]
    said = [process.communicate(timeout=900)[1] for process in started]
    return [(process.returncode, each) for process, each in zip(started, said, strict=True)]


@pytest.mark.soak
def test_two_hosts_leave_the_run_of_one(environment: dict[str, str], tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    ended = call("train", *SMALLER, f"--out={one}", environment=environment)
    assert ended.returncode == 0, ended.stderr
    for code, said in on_two_hosts(environment, *SMALLER, f"--out={two}"):
        assert code == 0, said
    for name in ("metrics.csv", "evaluations.csv", "episodes.csv"):
        assert (two / name).read_text() == (one / name).read_text(), name
    found, wanted = (json.loads((path / "summary.json").read_text()) for path in (two, one))
    assert found["device"]["hosts"] == 2
    for key in set(wanted) - {"seconds", "device"}:
        assert found[key] == wanted[key], key
    for name in ("learning_curve.png", "trajectories.png"):
        assert (two / name).read_bytes().startswith(b"\x89PNG")
    # one process evaluates the training of two
    played = call("evaluate", f"--run={two}", "--quiet", environment=environment)
    assert json.loads(played.stdout)["score_by_seed"] == wanted["score_by_seed"]
    # both hosts report wrong input in one line
    for code, said in on_two_hosts(environment, *SMALLER, f"--out={two}"):
        assert code == 2 and "holds another run already" in said
        assert len([line for line in said.splitlines() if line.startswith("error: ")]) == 1
