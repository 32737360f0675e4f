"""A long run of a small network that writes down what it holds: memory, threads, files, rate.

python -m tests.robustness.long_fit FOLDER UPDATES

A row of `process.csv` after each checkpoint: updates, seconds, resident kilobytes, threads, open
files. The networks are DTQL's, of 16 units.
"""

import csv
import gc
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from dtql_jax.algorithms import make_algorithm
from dtql_jax.training.checkpoint import Checkpoints
from dtql_jax.training.logging import MetricsLog
from dtql_jax.training.progress import Progress
from dtql_jax.training.trainer import Trainer, TrainerConfig
from tests.training.fakes import data

FIELDS = ("update", "seconds", "resident_kb", "threads", "files")
SETTINGS = {"hidden_dim": 16, "num_candidates": 4}
EVALUATIONS = 50


def resident() -> int:
    """Kilobytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def row(update: int) -> dict[str, Any]:
    gc.collect()
    files = len(os.listdir("/proc/self/fd"))
    numbers = (update, time.monotonic(), resident(), threading.active_count(), files)
    return dict(zip(FIELDS, numbers, strict=True))


def main(folder: Path, updates: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    every = updates // EVALUATIONS
    settings = TrainerConfig(16, 0, updates, 100, 100, every, every)
    rows: list[dict[str, Any]] = [row(0)]

    def evaluate(policy: Any, update: int) -> list[dict[str, Any]]:
        rows.append(row(update))
        fields = ("return_mean", "return_std", "success_rate", "length_mean")
        return [{"score": 0.0, "episodes": 1} | dict.fromkeys(fields, 0.0)]

    with Checkpoints(folder / "checkpoints") as checkpoints:
        fit = Trainer(
            make_algorithm("dtql", SETTINGS),
            data(),
            [0],
            settings,
            evaluate=evaluate,
            checkpoints=checkpoints,
            make_log=lambda names, at: MetricsLog(folder, [0], names, resume_at=at),
            display=Progress(quiet=True),
        )
        assert fit.run().finished
    del fit
    rows.append(row(updates))
    with (folder / "process.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
