"""A run folder made in seconds: random data, a few updates, no evaluation."""

from pathlib import Path
from typing import Any

import numpy as np

from dtql_jax.commands import runner
from dtql_jax.datasets.info import DatasetInfo
from dtql_jax.datasets.registry import get_task
from dtql_jax.presets import get_config, parts
from dtql_jax.training.checkpoint import Checkpoints
from dtql_jax.training.logging import MetricsLog
from dtql_jax.training.run_folder import RunFolder
from dtql_jax.training.trainer import Trainer
from dtql_jax.types import Transition

SMALL = {
    "pretrain_steps": 2,
    "train_steps": 4,
    "batch_size": 8,
    "updates_per_call": 2,
    "log_every": 2,
    "eval_every": 2,
    "checkpoint_every": 4,
    "eval_episodes": 4,
    "final_eval_episodes": 4,
}


def small_config(env: str, algorithm: str, seeds: int = 1) -> dict[str, Any]:
    """A configuration of a task with the smallest sizes."""
    config = get_config(f"{env},quick,{algorithm}")
    config.update(SMALL | {"seeds": seeds})
    config.algorithm.hidden_dim = 16
    if "num_candidates" in config.algorithm:
        config.algorithm.num_candidates = 4
    return config.to_dict()


def info_of(env: str, source: str = "generated") -> DatasetInfo:
    """A record of a task's data."""
    task = get_task(env)
    place = task.d4rl[0] if source == "d4rl" else task.generated
    dims = task.generated or task.minari
    return DatasetInfo(
        task=task.name,
        source=source,
        dataset_id=task.d4rl[0].file_name if source == "d4rl" else "dtql_jax/test-v0",
        version="v0",
        path="data",
        fingerprint="sha256:" + 64 * "0",
        episodes=3,
        transitions=30,
        observation_dim=dims.observation_dim,
        action_dim=dims.action_dim,
        observation_layout=place.env.observation_keys or ("observation",),
        env=place.env,
        reference_scores=task.d4rl[0].reference_scores if source == "d4rl" else None,
    )


def write_run(path: Path, algorithm: str = "dtql", seeds: int = 1) -> Trainer:
    """Trains a point maze's policy on random data into `path`."""
    config = small_config("pointmaze-umaze", algorithm, seeds)
    info = info_of("pointmaze-umaze")
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(30, info.observation_dim)).astype(np.float32)
    actions = rng.uniform(-0.9, 0.9, (30, info.action_dim)).astype(np.float32)
    ones = np.ones(30, np.float32)
    numbers = parts.seeds_of(config)
    run = {"config": config, "dataset": info.to_dict(), "data_seconds": 0.5}
    with (
        RunFolder.create(path, run),
        Checkpoints(path / "checkpoints") as checkpoints,
    ):
        trainer = runner.make_trainer(
            config,
            Transition(rows, actions, rows, ones, ones),
            checkpoints=checkpoints,
            make_log=lambda names, at: MetricsLog(path, numbers, names, tensorboard=False),
        )
        trainer.run()
    return trainer
