"""The results of a run: rows of evaluations.csv, episodes.csv, figures and summary.json."""

import csv
import math
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from dtql_jax.datasets import DatasetInfo
from dtql_jax.datasets.physics import physics_differ
from dtql_jax.evaluation import scores
from dtql_jax.evaluation.rollout import EvaluationResult
from dtql_jax.plots import curves, mazes
from dtql_jax.training import background
from dtql_jax.training.device import describe_device
from dtql_jax.training.logging import read_rows
from dtql_jax.training.progress import Progress, duration
from dtql_jax.training.run_folder import RunFolder, write_json
from dtql_jax.training.trainer import Trainer


def rows_of(info: DatasetInfo, result: EvaluationResult) -> list[dict[str, Any]]:
    """Returns one row of evaluations.csv for each member."""
    _, values = scores.score(result.returns, result.successes, info.env, info.reference_scores)
    successes = result.successes
    return [
        {
            "score": float(values[i].mean()),
            "return_mean": float(result.returns[i].mean()),
            "return_std": float(result.returns[i].std()),
            "success_rate": math.nan if successes is None else float(successes[i].mean()),
            "length_mean": float(result.lengths[i].mean()),
            "episodes": result.returns.shape[1],
        }
        for i in range(len(values))
    ]


def earlier_scores(folder: Path, update: int) -> Iterator[tuple[int, float]]:
    """Yields (update, mean score of the members) of a run's evaluations up to an update."""
    found: dict[int, list[float]] = {}
    for row in read_rows(folder / "evaluations.csv"):
        found.setdefault(int(row["update"]), []).append(float(row["score"]))
    yield from ((at, float(np.mean(each))) for at, each in found.items() if at <= update)


def scores_of(info: DatasetInfo, result: EvaluationResult) -> dict[str, Any]:
    """Returns the scores of an evaluation over all seeds and episodes, for summary.json."""
    name, values = scores.score(result.returns, result.successes, info.env, info.reference_scores)
    mean, error = scores.mean_and_standard_error(values)
    _, seed_error = scores.mean_and_standard_error(values, over="seeds")
    successes = result.successes
    return {
        "score_name": name,
        "score_mean": mean,
        "score_standard_error": _finite(error),
        "score_standard_error_over_seeds": _finite(seed_error),
        "score_by_seed": [float(v) for v in values.mean(axis=1)],
        "return_mean": float(result.returns.mean()),
        "success_rate": None if successes is None else float(successes.mean()),
        "length_mean": float(result.lengths.mean()),
        "diverged_actions_by_seed": [int(n) for n in result.nonfinite_actions],
        "warning": physics_warning(info),
    }


def write(
    folder: RunFolder,
    info: DatasetInfo,
    trainer: Trainer,
    result: EvaluationResult,
    display: Progress,
) -> None:
    """Writes episodes.csv, the figures and summary.json, and prints the score."""
    display.start("figures")
    config, path = folder.run["config"], folder.path
    _write_episodes(path / "episodes.csv", trainer.seeds, result)
    drawn = _draw(path, info, config, result)
    acting = ("action_selection", "num_candidates")
    summary = {
        "task": config["task"],
        "source": info.source,
        "dataset_id": info.dataset_id,
        "dataset_fingerprint": info.fingerprint,
        "algorithm": config["algorithm"]["name"],
        "preset": config["preset"],
        "seeds": sorted(set(trainer.seeds)),
        "members": _members(folder, info, trainer, result),
        "updates": config["train_steps"],
        "pretrain_updates": config["pretrain_steps"],
        "checkpoint": "last",
        "acting": {k: config["algorithm"][k] for k in acting if k in config["algorithm"]},
        "environment": info.env.env_id,
        "episodes": result.returns.shape[1],
        **scores_of(info, result),
        "seconds": {"data": folder.run["data_seconds"], **trainer.seconds},
        "device": describe_device(),
        "versions": folder.run["versions"],
        "commit": folder.run["commit"],
    }
    write_json(path / "summary.json", summary)
    error = summary["score_standard_error"]
    within = "" if error is None else f" +- {error:.1f}"
    diverged = f", {len(trainer.diverged)} of them diverged" if trainer.diverged else ""
    display.result(
        f"{summary['score_name']} {summary['score_mean']:.1f}{within} on {info.dataset_id} "
        f"(source {info.source}), {len(trainer.seeds)} member(s) x {summary['episodes']} episodes, "
        f"last checkpoint{diverged}"
    )
    if summary["warning"]:
        display.warn(summary["warning"])
    spent = ", ".join(f"{name} {duration(s)}" for name, s in summary["seconds"].items())
    display.say(f"time: {spent}")
    display.say(background.share(summary["seconds"]))
    display.say(f"run folder: {path}")
    for name in ("summary.json", *drawn, "evaluations.csv", "metrics.csv", "checkpoints/"):
        display.say(f"  {name}")


def _members(
    folder: RunFolder, info: DatasetInfo, trainer: Trainer, result: EvaluationResult
) -> list[dict[str, Any]]:
    """Each member's seed, own settings and score, and where it diverged (None: nowhere)."""
    _, values = scores.score(result.returns, result.successes, info.env, info.reference_scores)
    members = folder.run.get("members", [{"seed": s, "settings": {}} for s in trainer.seeds])
    diverged = {i: found._asdict() for i, found in trainer.diverged.items()}
    return [
        member | {"score": float(values[i].mean()), "diverged": diverged.get(i)}
        for i, member in enumerate(members)
    ]


def _write_episodes(path: Path, seeds: list[int], result: EvaluationResult) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["member", "seed", "episode", "return", "length", "success"])
        for (member, episode), value in np.ndenumerate(result.returns):
            success = "" if result.successes is None else int(result.successes[member, episode])
            length = int(result.lengths[member, episode])
            writer.writerow([member, seeds[member], episode, float(value), length, success])


def _draw(
    folder: Path, info: DatasetInfo, config: dict[str, Any], result: EvaluationResult
) -> list[str]:
    """Draws the figures of a run; returns their names."""
    name, _ = scores.score(result.returns, result.successes, info.env, info.reference_scores)
    curves.learning_curve(
        read_rows(folder / "evaluations.csv"),
        folder / "learning_curve.png",
        score_name=name,
        task=config["task"],
        source=info.source,
        dataset=info.dataset_id,
    )
    title = f"{config['algorithm']['name']} on {config['task']}"
    curves.training_curves(read_rows(folder / "metrics.csv"), folder / "losses.png", title=title)
    drawn = ["learning_curve.png", "losses.png"]
    own = [t for t in result.trajectories if t.member == 0]
    if own and result.successes is not None and "maze" in config["task"]:
        successes = result.successes
        placed = [mazes.positions_and_goals(info.env, t.observations) for t in own]
        mazes.trajectories(
            mazes.read_maze(info.env),
            [positions for positions, _ in placed],
            folder / "trajectories.png",
            goals=[goal[0] for _, goal in placed if goal is not None] or None,
            successes=[bool(successes[0, t.episode]) for t in own],
            title=title,
            subtitle=f"seed {config['seed']}, first {len(own)} of "
            f"{result.returns.shape[1]} episodes, data: {info.dataset_id}",
        )
        drawn.append("trajectories.png")
    return drawn


def physics_warning(info: DatasetInfo) -> str | None:
    """Returns a line if the installed MuJoCo has other physics than the dataset's, else None."""
    if not info.mujoco_version:
        return None
    return physics_differ(info.env.env_id, info.mujoco_version, version("mujoco")) or None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
