"""The results of a sweep: the state of each job, and one table of all settings."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dtql_jax.commands.sweeps.plan import Job
from dtql_jax.commands.tables import plus_minus, table
from dtql_jax.evaluation.scores import mean_and_standard_error
from dtql_jax.training.logging import read_rows
from dtql_jax.training.run_folder import write_json

COLUMNS = ("task", "algorithm", "setting", "seeds", "score", "diverged", "source", "dataset")
# entries of summary.json that the members of a job share
_SHARED = ("task", "algorithm", "source", "score_name", "updates", "episodes", "device")


class State(NamedTuple):
    """How far a job is: waiting, running, failed or done; updates made; mean of its last scores."""

    name: str
    update: int
    score: float | None


def ended(out: Path, job: Job) -> bool:
    """Whether a job has finished."""
    return (out / job.name / "summary.json").exists()


def updates(job: Job) -> int:
    """Number of updates of a job, pretraining included."""
    return job.config["pretrain_steps"] + job.config["train_steps"]


def state(out: Path, job: Job) -> State:
    """Returns how far a job is."""
    folder = out / job.name
    files = {"summary.json": "done", "failed.txt": "failed", "run.json": "running"}
    name = next((name for file, name in files.items() if (folder / file).exists()), "waiting")
    metrics, evaluations = (read_rows(folder / f"{n}.csv") for n in ("metrics", "evaluations"))
    last = [float(r["score"]) for r in evaluations if r["update"] == evaluations[-1]["update"]]
    return State(
        name,
        int(metrics[-1]["update"]) if metrics else 0,
        float(np.mean(last)) if last else None,
    )


def rows(out: Path, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Returns one row for each task, algorithm and setting, from the finished jobs."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for job in jobs:
        if not ended(out, job):
            continue
        summary = json.loads((out / job.name / "summary.json").read_text())
        for member in summary["members"]:
            own = {f"algorithm.{name}": value for name, value in member["settings"].items()}
            settings = dict(sorted((job.settings | own).items()))
            setting = ", ".join(
                f"{name.removeprefix('algorithm.')}={f'{x:g}' if isinstance(x, float) else x}"
                for name, x in settings.items()
            )
            row = found.setdefault(
                (summary["task"], summary["algorithm"], setting),
                {
                    **{name: summary[name] for name in _SHARED},
                    **{"dataset": summary["dataset_id"], "setting": setting, "settings": settings},
                    **{"seeds": [], "scores": [], "diverged": 0},
                },
            )
            row["seeds"].append(member["seed"])
            row["scores"].append(member["score"])
            row["diverged"] += member["diverged"] is not None
    for row in found.values():
        scores = np.array(row["scores"])[:, None]  # one value a seed: its mean over episodes
        row["score_mean"], error = mean_and_standard_error(scores, over="seeds")
        row["score_standard_error"] = error if len(scores) > 1 else None
    return list(found.values())


def write(out: Path, jobs: Sequence[Job]) -> str:
    """Writes results.json, results.csv and table.md; returns the table."""
    found = rows(out, jobs)
    write_json(out / "results.json", {"rows": found})
    with (out / "results.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["task", "algorithm", "setting", "seed", "score", "source", "dataset"])
        for row in found:
            head = [row[key] for key in ("task", "algorithm", "setting")]
            for seed, score in zip(row["seeds"], row["scores"], strict=True):
                writer.writerow([*head, seed, score, row["source"], row["dataset"]])
    shown = [
        row
        | {"setting": row["setting"] or "-", "seeds": len(row["seeds"])}
        | {"score": plus_minus(row["score_mean"], row["score_standard_error"])}
        for row in found
    ]
    cells = [[row[column] for column in COLUMNS] for row in shown]
    text = f"{table(COLUMNS, cells)}\n\nscore: mean ± standard error over seeds.\n"
    missing = [job.name for job in jobs if not ended(out, job)]
    if missing:
        text += f"\nNot ended: {', '.join(missing)}\n"
    (out / "table.md").write_text(text)
    return text
