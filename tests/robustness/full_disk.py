"""A program whose disk is full after an evaluation: no file may then grow beyond 300 bytes.

python -m tests.robustness.full_disk FOLDER UPDATE
"""

import resource
import sys
from pathlib import Path

from dtql_jax.errors import disk_trouble
from dtql_jax.training.checkpoint import Checkpoints, SaveError
from dtql_jax.training.logging import MetricsLog
from dtql_jax.training.progress import Progress
from dtql_jax.training.trainer import Trainer, TrainerConfig
from tests.training.fakes import data, linear_algorithm

SEEDS = [3, 5]
SETTINGS = TrainerConfig(16, 20, 400, 10, 10, 50, 50)
LIMIT = 300


def make_trainer(folder: Path, checkpoints: Checkpoints, full_from: int) -> Trainer:
    def evaluate(policy, update: int) -> list[dict]:
        if update >= full_from:
            resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, resource.RLIM_INFINITY))
        fields = ("return_mean", "return_std", "success_rate", "length_mean")
        return [{"score": float(update), "episodes": 1} | dict.fromkeys(fields, 0.0) for _ in SEEDS]

    return Trainer(
        linear_algorithm(),
        data(),
        SEEDS,
        SETTINGS,
        evaluate=evaluate,
        checkpoints=checkpoints,
        make_log=lambda names, at: MetricsLog(folder, SEEDS, names, resume_at=at),
        display=Progress(quiet=True),
    )


def main(folder: Path, full_from: int) -> int:
    try:
        with Checkpoints(folder / "checkpoints") as checkpoints:
            trainer = make_trainer(folder, checkpoints, full_from)
            if checkpoints.latest() is not None:
                trainer.resume()
            trainer.run()
    except SaveError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    except OSError as error:
        print(f"error: {disk_trouble(error)}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
