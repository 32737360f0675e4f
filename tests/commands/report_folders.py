"""Folders as runs leave them, with made-up scores: no training."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from dtql_jax.presets import get_config
from dtql_jax.training.run_folder import FORMAT
from tests.commands.small_run import info_of


def write_folder(
    path: Path,
    env: str = "hopper-medium",
    algorithm: str = "dtql",
    *,
    source: str = "d4rl",
    version: str = "v2",
    seeds: tuple[int, ...] = (0, 1, 2),
    settings: list[dict[str, float]] | None = None,
    final: np.ndarray | None = None,
    finished: bool = True,
    **changes: Any,
) -> Path:
    """A run's folder; `final` [members, episodes] are normalised scores, or successes of a maze.

    `settings` makes it a sweep: each of them with each seed.
    """
    config = get_config(f"{env},quick,{algorithm}")
    config.update({"seed": seeds[0], "seeds": len(seeds)} | changes)
    info = info_of(env, source).to_dict() | {"version": version}
    members = [(seed, own) for own in settings or [{}] for seed in seeds]
    if final is None:
        final = np.linspace(40.0, 60.0, len(members) * 4).reshape(len(members), 4)
    path.mkdir(parents=True)
    run = {"config": config.to_dict(), "dataset": info, "commit": "abc", "versions": {"jax": "1"}}
    run["members"] = [{"seed": seed, "settings": own} for seed, own in members]
    (path / "run.json").write_text(json.dumps(run | {"format": FORMAT}))
    low, high = info["reference_scores"] or (0.0, 100.0)
    heads = ["update", "step", "seed", "score", "episodes", "member"]
    with (path / "evaluations.csv").open("w", newline="") as file:
        rows = csv.DictWriter(file, heads)
        rows.writeheader()
        for update in (5_000, 10_000):
            for i, (seed, _) in enumerate(members):
                score = final[i].mean() * update / 10_000
                rows.writerow(
                    {"update": update, "step": update, "seed": seed, "member": i, "score": score}
                    | {"episodes": final.shape[1]}
                )
    heads = ["update", "phase", "step", "seed", "critic_loss", "member"]
    with (path / "metrics.csv").open("w", newline="") as file:
        rows = csv.DictWriter(file, heads)
        rows.writeheader()
        for update in (100, 200, 300):
            for i, (seed, _) in enumerate(members):
                head = {"update": update, "phase": "train", "step": update, "seed": seed}
                rows.writerow(head | {"member": i, "critic_loss": 1000.0 / update + i})
    if not finished:
        return path
    with (path / "episodes.csv").open("w", newline="") as file:
        heads = ["seed", "episode", "return", "length", "success", "member"]
        rows = csv.DictWriter(file, heads)
        rows.writeheader()
        maze = info["env"]["success"] == "reward"
        for (i, episode), value in np.ndenumerate(final):
            returned = low + (high - low) * value / 100.0
            row = {"member": i, "seed": members[i][0], "episode": episode, "return": returned}
            rows.writerow(row | {"length": 9, "success": int(value > 50) if maze else ""})
    seconds = {"data": 1.0, "init": 2.0, "compile": 3.0, "train": 40.0, "evaluate": 5.0}
    device = {"devices": 1, "kind": "made-up device", "cpu_cores": 4, "platform": "cpu"}
    (path / "summary.json").write_text(json.dumps({"seconds": seconds, "device": device}))
    return path
