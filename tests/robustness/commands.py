"""Real commands as processes that something happens to, and the moments to wait for."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from dtql_jax.training.logging import read_rows

ROOT = Path(__file__).parents[2]
# the networks of DTQL, a population of two, pretraining, evaluations in the simulator
NETWORKS = (
    "--config.data_transitions=3000",
    "--seeds=2",
    "--config.batch_size=16",
    "--config.updates_per_call=10",
    "--config.log_every=40",
    "--config.checkpoint_every=40",
    "--config.eval_every=200",
    "--config.eval_episodes=1",
    "--config.final_eval_episodes=2",
    "--config.algorithm.hidden_dim=16",
    "--config.algorithm.num_candidates=4",
)
SMALL = (*NETWORKS, "--config.pretrain_steps=80", "--steps=800")


def start(
    environment: dict[str, str], name: str, *arguments: str, forbidden: bool = False
) -> subprocess.Popen:
    """Starts `python -m experiments.NAME`.

    Args:
      environment: its variables.
      name: of the command.
      arguments: of the command.
      forbidden: whether permissions of files hold also where its user is root.
    """
    first = ["-m", "tests.robustness.without_privilege"] if forbidden else ["-m"]
    return subprocess.Popen(
        [sys.executable, *first, "dtql_jax", name, *arguments],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def end(process: subprocess.Popen) -> None:
    """Waits for a process that ends well."""
    said = process.communicate()[1]
    assert process.returncode == 0, said


def progress(folder: Path) -> int:
    """The update of the last row of metrics.csv."""
    rows = read_rows(folder / "metrics.csv")
    return int(rows[-1]["update"]) if rows else 0


def wait(process: subprocess.Popen, reached: Callable[[], bool], seconds: float = 600.0) -> bool:
    """Waits for a moment of a process; False if it ends before, or the moment does not come."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        if reached():
            return True
        time.sleep(0.001)
    return False
