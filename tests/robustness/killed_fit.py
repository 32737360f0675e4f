"""A program that is killed: it fits a line in FOLDER, or goes on with it, and saves the result."""

import sys
from pathlib import Path

import jax
import numpy as np

from dtql_jax.training.checkpoint import Checkpoints
from dtql_jax.training.logging import MetricsLog
from dtql_jax.training.trainer import Trainer, TrainerConfig
from tests.training.fakes import data, linear_algorithm

SEEDS = [3, 5]
SETTINGS = TrainerConfig(
    batch_size=16,
    pretrain_steps=6_000,
    train_steps=18_000,
    updates_per_call=20,
    log_every=200,
    eval_every=600,
    checkpoint_every=300,
)


def evaluate(policy, update: int) -> list[dict]:
    """Rows that follow from the policy alone, computed in many small calls to take some time."""
    numbers = np.zeros((2, 4), np.int32)
    values = []
    for k in range(20):
        values.append(policy(np.full((2, 4, 3), k, np.float32), numbers, numbers).mean((1, 2)))
    fields = ("return_mean", "return_std", "success_rate", "length_mean")
    return [
        {"score": float(v), "episodes": 4} | dict.fromkeys(fields, 0.0)
        for v in np.mean(values, axis=0)
    ]


def main(folder: Path) -> None:
    with Checkpoints(folder / "checkpoints") as checkpoints:
        fit = Trainer(
            linear_algorithm(),
            data(),
            SEEDS,
            SETTINGS,
            evaluate=evaluate,
            checkpoints=checkpoints,
            make_log=lambda names, at: MetricsLog(
                folder, SEEDS, names, resume_at=at, tensorboard=False
            ),
        )
        if checkpoints.latest() is not None:
            fit.resume()
        print("ready", flush=True)
        result = fit.run()
    leaves = {str(i): np.asarray(x) for i, x in enumerate(jax.tree.leaves(result.state))}
    np.savez(folder / "result.npz", **leaves)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
