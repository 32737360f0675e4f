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
    _, values = _score(info, result)
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


def _score(info: DatasetInfo, result: EvaluationResult) -> tuple[str, np.ndarray]:
    """Name and values [P, N] of the score."""
    return scores.score(result.returns, result.successes, info.env, info.reference_scores)


def earlier_scores(folder: Path, update: int) -> Iterator[tuple[int, float]]:
    """Yields (update, mean score of the members) of a run's evaluations up to an update."""
    found: dict[int, list[float]] = {}
    for row in read_rows(folder / "evaluations.csv"):
        found.setdefault(int(row["update"]), []).append(float(row["score"]))
    yield from ((at, float(np.mean(each))) for at, each in found.items() if at <= update)


def scores_of(info: DatasetInfo, result: EvaluationResult) -> dict[str, Any]:
    """Returns the scores over all seeds and episodes, for summary.json."""
    name, values = _score(info, result)
    mean, error = scores.mean_and_standard_error(values)
    _, seed_error = scores.mean_and_standard_error(values, over="seeds")
    warning = None
    if info.mujoco_version:
        warning = physics_differ(info.env.env_id, info.mujoco_version, version("mujoco")) or None
    return {
        "score_name": name,
        "score_mean": mean,
        "score_standard_error": error if math.isfinite(error) else None,
        "score_standard_error_over_seeds": seed_error if math.isfinite(seed_error) else None,
        "score_by_seed": values.mean(axis=1).tolist(),
        "return_mean": float(result.returns.mean()),
        "success_rate": None if result.successes is None else float(result.successes.mean()),
        "length_mean": float(result.lengths.mean()),
        "diverged_actions_by_seed": result.nonfinite_actions.tolist(),
        "warning": warning,
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
    run, path = folder.run, folder.path
    config, algorithm = run["config"], run["config"]["algorithm"]
    _write_episodes(path / "episodes.csv", trainer.seeds, result)
    drawn = _draw(path, info, config, result)
    scored = scores_of(info, result)
    members = run.get("members", [{"seed": seed, "settings": {}} for seed in trainer.seeds])
    diverged = {i: found._asdict() for i, found in trainer.diverged.items()}
    acting = ("action_selection", "num_candidates")
    summary = {
        "task": config["task"],
        "source": info.source,
        "dataset_id": info.dataset_id,
        "dataset_fingerprint": info.fingerprint,
        "algorithm": algorithm["name"],
        "preset": config["preset"],
        "seeds": sorted(set(trainer.seeds)),
        "members": [
            member | {"score": score, "diverged": diverged.get(i)}
            for i, (member, score) in enumerate(zip(members, scored["score_by_seed"], strict=True))
        ],
        "updates": config["train_steps"],
        "pretrain_updates": config["pretrain_steps"],
        "checkpoint": "last",
        "acting": {name: algorithm[name] for name in acting if name in algorithm},
        "environment": info.env.env_id,
        "episodes": result.returns.shape[1],
        **scored,
        "seconds": {"data": run["data_seconds"], **trainer.seconds},
        "device": describe_device(),
        "versions": run["versions"],
        "commit": run["commit"],
    }
    write_json(path / "summary.json", summary)
    _print(summary, path, drawn, display)


def _print(summary: dict[str, Any], path: Path, drawn: list[str], display: Progress) -> None:
    """Prints the score, where the time went, and the files."""
    error, members = summary["score_standard_error"], summary["members"]
    within = "" if error is None else f" +- {error:.1f}"
    number = sum(member["diverged"] is not None for member in members)
    diverged = f", {number} of them diverged" if number else ""
    display.result(
        f"{summary['score_name']} {summary['score_mean']:.1f}{within} on {summary['dataset_id']} "
        f"(source {summary['source']}), {len(members)} member(s) x {summary['episodes']} episodes, "
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
    title = f"{config['algorithm']['name']} on {config['task']}"
    curves.learning_curve(
        read_rows(folder / "evaluations.csv"),
        folder / "learning_curve.png",
        score_name=_score(info, result)[0],
        task=config["task"],
        source=info.source,
        dataset=info.dataset_id,
    )
    curves.training_curves(read_rows(folder / "metrics.csv"), folder / "losses.png", title=title)
    drawn = ["learning_curve.png", "losses.png"]
    own = [trajectory for trajectory in result.trajectories if trajectory.member == 0]
    if own and result.successes is not None and "maze" in config["task"]:
        placed = [mazes.positions_and_goals(info.env, t.observations) for t in own]
        mazes.trajectories(
            mazes.read_maze(info.env),
            [positions for positions, _ in placed],
            folder / "trajectories.png",
            goals=[goal[0] for _, goal in placed if goal is not None] or None,
            successes=[bool(result.successes[0, t.episode]) for t in own],
            title=title,
            subtitle=f"seed {config['seed']}, first {len(own)} of "
            f"{result.returns.shape[1]} episodes, data: {info.dataset_id}",
        )
        drawn.append("trajectories.png")
    return drawn
