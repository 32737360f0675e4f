"""A program whose disk is full from an update on: no file may grow beyond 300 bytes.

python -m tests.robustness.full_disk FOLDER FROM TO
"""

import resource
import sys
from pathlib import Path

from dtql_jax.training.checkpoint import Checkpoints, SaveError
from dtql_jax.training.logging import MetricsLog
from dtql_jax.training.progress import Progress
from dtql_jax.training.trainer import Trainer, TrainerConfig
from tests.training.fakes import data, linear_algorithm

SEEDS = [3, 5]
SETTINGS = TrainerConfig(16, 20, 400, 10, 10, 50, 50)
LIMIT = 300


def main(folder: Path, begin: int, end: int) -> int:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def evaluate(policy, update: int) -> list[dict]:
        step = update - SETTINGS.pretrain_steps
        full = begin <= step < end
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT if full else limits[0], limits[1]))
        fields = ("return_mean", "return_std", "success_rate", "length_mean")
        return [{"score": float(step), "episodes": 1} | dict.fromkeys(fields, "") for _ in SEEDS]

    try:
        with Checkpoints(folder / "checkpoints") as checkpoints:
            fit = Trainer(
                linear_algorithm(),
                data(),
                SEEDS,
                SETTINGS,
                evaluate=evaluate,
                checkpoints=checkpoints,
                make_log=lambda names, at: MetricsLog(folder, SEEDS, names, resume_at=at),
                display=Progress(quiet=True),
            )
            fit.run()
    except SaveError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
