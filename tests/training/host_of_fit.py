"""One host of a fit on several.

python -m tests.training.host_of_fit HOST:PORT PROCESSES PROCESS FOLDER SEEDS WHAT

WHAT: whole, stop (host 1 asks for it after update 50) or die (host 1 does, there).
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np

from dtql_jax.errors import LostError
from dtql_jax.training import hosts
from dtql_jax.training.checkpoint import Checkpoints
from dtql_jax.training.logging import MetricsLog
from dtql_jax.training.trainer import Trainer, TrainerConfig
from tests.training.fakes import data, linear_algorithm

SETTINGS = TrainerConfig(16, 30, 100, 10, 20, 40, 20)


def rows_of(actions: np.ndarray) -> list[dict]:
    """A row for each member's actions."""
    fields = ("return_mean", "return_std", "success_rate", "length_mean")
    return [{"score": float(a.mean()), "episodes": 4} | dict.fromkeys(fields, 0.0) for a in actions]


def make_trainer(folder: Path, seeds: list[int], checkpoints, overlap: bool = False) -> Trainer:
    """The fit, on as many hosts as there are."""

    def evaluate(policy, update: int) -> list[dict]:
        own = len(seeds[fit.placement.own])
        numbers = np.zeros((own, 4), np.int32)
        return rows_of(policy(np.ones((own, 4, 3), np.float32), numbers, numbers))

    def make_log(names, at: int | None) -> MetricsLog:
        return MetricsLog(folder, seeds, names, resume_at=at, tensorboard=False)

    fit = Trainer(
        linear_algorithm(),
        data(),
        seeds,
        SETTINGS,
        evaluate=evaluate,
        overlap=overlap,
        checkpoints=checkpoints,
        make_log=make_log if hosts.first() else None,
    )
    return fit


def main(coordinator: str, processes: str, process: str, folder: str, seeds: str, what: str) -> int:
    hosts.join(coordinator, int(processes), int(process))

    def question() -> bool:
        if process != "1" or fit.update <= 50 or what == "whole":
            return False
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return True

    path = Path(folder)
    with Checkpoints(path / "checkpoints") as checkpoints:
        fit = make_trainer(
            path, [int(seed) for seed in seeds.split(",")], checkpoints, what == "whole"
        )
        if checkpoints.latest() is not None:
            fit.resume()
        try:
            result = fit.run(question)
        except LostError as error:
            print(f"lost at {fit.update}: {error}", flush=True)
            os._exit(3)
    print("finished" if result.finished else "stopped", result.update, len(result.evaluation))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
