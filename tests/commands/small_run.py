"""A finished run in a folder, made in seconds: random data, a few updates, no simulator."""

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np

from dtql_jax.commands import runner
from dtql_jax.datasets.info import DatasetInfo
from dtql_jax.datasets.registry import get_task
from dtql_jax.presets import get_config, parts
from dtql_jax.training.checkpoint import Checkpoints
from dtql_jax.training.device import describe_device
from dtql_jax.training.logging import MetricsLog
from dtql_jax.training.run_folder import RunFolder, write_json
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
EPISODES = SMALL["eval_episodes"]


def small_config(env: str, algorithm: str, seeds: int = 1, **changes: Any) -> dict[str, Any]:
    """A configuration of a task with the smallest sizes."""
    config = get_config(f"{env},quick,{algorithm}")
    config.update(SMALL | {"seeds": seeds})
    config.algorithm.hidden_dim = 16
    if "num_candidates" in config.algorithm:
        config.algorithm.num_candidates = 4
    config.algorithm.update(changes)
    return config.to_dict()


def info_of(env: str, source: str = "generated") -> DatasetInfo:
    """What would be known of a task's data."""
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


def write_run(
    path: Path,
    env: str = "pointmaze-umaze",
    algorithm: str = "dtql",
    *,
    seeds: int = 1,
    source: str = "generated",
    base: float = 50.0,
    finished: bool = True,
    **changes: Any,
) -> Trainer:
    """Trains into `path` and writes what a run leaves; scores are made up around `base`."""
    config, info = small_config(env, algorithm, seeds, **changes), info_of(env, source)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(30, info.observation_dim)).astype(np.float32)
    actions = rng.uniform(-0.9, 0.9, (30, info.action_dim)).astype(np.float32)
    ones = np.ones(30, np.float32)
    data = Transition(rows, actions, rows, ones, ones)
    numbers = parts.seeds_of(config)
    scores = base + 10.0 * rng.normal(size=(8, seeds, EPISODES))

    def evaluate(policy: Any, update: int) -> list[dict[str, Any]]:
        return [
            {
                "score": float(scores[update, i].mean()),
                "return_mean": float(scores[update, i].mean()),
                "return_std": float(scores[update, i].std()),
                "success_rate": math.nan,
                "length_mean": 7.0,
                "episodes": EPISODES,
            }
            for i in range(seeds)
        ]

    run = {"config": config, "dataset": info.to_dict(), "data_seconds": 0.5}
    with (
        RunFolder.create(path, run) as folder,
        Checkpoints(path / "checkpoints") as checkpoints,
    ):
        fit = runner.make_trainer(
            config,
            data,
            evaluate=evaluate,
            checkpoints=checkpoints,
            make_log=lambda names, at: MetricsLog(path, numbers, names, tensorboard=False),
        )
        fit.run()
        if finished:
            _finish(folder, info, fit, scores[fit.update])
    return fit


def _finish(folder: RunFolder, info: DatasetInfo, fit: Trainer, scores: np.ndarray) -> None:
    config = folder.run["config"]
    with (folder.path / "episodes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["member", "seed", "episode", "return", "length", "success"])
        for (member, episode), value in np.ndenumerate(scores):
            success = int(value > 50) if info.env.success == "reward" else ""
            writer.writerow([member, fit.seeds[member], episode, float(value), 7, success])
    summary = {
        "task": config["task"],
        "source": info.source,
        "dataset_id": info.dataset_id,
        "algorithm": config["algorithm"]["name"],
        "seeds": fit.seeds,
        "score_name": "normalised score" if info.reference_scores else "return",
        "score_by_seed": [float(v) for v in scores.mean(axis=1)],
        "score_mean": float(scores.mean()),
        "seconds": {"data": 0.5, **fit.seconds},
        "device": describe_device(),
        "versions": folder.run["versions"],
        "commit": folder.run["commit"],
    }
    write_json(folder.path / "summary.json", summary)
