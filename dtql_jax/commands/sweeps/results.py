"""What came out of a sweep: how far each job is, and one table of all settings."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtql_jax.commands.sweeps.plan import Job
from dtql_jax.evaluation.scores import mean_and_standard_error
from dtql_jax.training.logging import read_rows
from dtql_jax.training.run_folder import write_json

TABLE = ("task", "algorithm", "setting", "seeds", "score", "diverged", "source", "dataset")


def state(out: Path, job: Job) -> dict[str, Any]:
    """How far a job is: state, updates made and to be made, last score."""
    folder = out / job.name
    config = job.config
    total = config["pretrain_steps"] + config["train_steps"]
    rows = read_rows(folder / "metrics.csv")
    done = int(rows[-1]["update"]) if rows else 0
    scores = read_rows(folder / "evaluations.csv")
    last = [float(r["score"]) for r in scores if r["update"] == scores[-1]["update"]]
    if (folder / "summary.json").exists():
        name = "done"
    elif (folder / "failed.txt").exists():
        name = "failed"
    else:
        name = "running" if (folder / "run.json").exists() else "waiting"
    return {
        "job": job.name,
        "members": len(job.members),
        "state": name,
        "updates": done,
        "total": total,
        "score": sum(last) / len(last) if last else None,
    }


def rows(out: Path, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """One row for each (task, setting): its seeds' scores, from the jobs that have ended."""
    groups: dict[tuple[str, str, str], dict[str, Any]] = {}
    for job in jobs:
        path = out / job.name / "summary.json"
        if not path.exists():
            continue
        summary = json.loads(path.read_text())
        for member in summary["members"]:
            setting = job.settings | {f"algorithm.{k}": v for k, v in member["settings"].items()}
            shown = ", ".join(
                f"{field.removeprefix('algorithm.')}={_short(value)}"
                for field, value in sorted(setting.items())
            )
            key = summary["task"], summary["algorithm"], shown
            group = groups.setdefault(
                key,
                {
                    "task": summary["task"],
                    "algorithm": summary["algorithm"],
                    "setting": shown,
                    "settings": setting,
                    "source": summary["source"],
                    "dataset": summary["dataset_id"],
                    "score_name": summary["score_name"],
                    "updates": summary["updates"],
                    "episodes": summary["episodes"],
                    "device": summary["device"],
                    "seeds": [],
                    "scores": [],
                    "diverged": 0,
                },
            )
            group["seeds"].append(member["seed"])
            group["scores"].append(member["score"])
            group["diverged"] += member["diverged"] is not None
    for group in groups.values():
        scores = np.array(group["scores"])[:, None]  # one value a seed: its mean over episodes
        group["score_mean"], error = mean_and_standard_error(scores, over="seeds")
        group["score_standard_error"] = error if len(scores) > 1 else None
    return list(groups.values())


def write(out: Path, jobs: Sequence[Job]) -> str:
    """Writes results.json, results.csv and table.md; returns the table."""
    found = rows(out, jobs)
    write_json(out / "results.json", {"rows": found})
    with (out / "results.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["task", "algorithm", "setting", "seed", "score", "source", "dataset"])
        for row in found:
            for seed, score in zip(row["seeds"], row["scores"], strict=True):
                head = [row[key] for key in ("task", "algorithm", "setting")]
                writer.writerow([*head, seed, score, row["source"], row["dataset"]])
    lines = ["| " + " | ".join(TABLE) + " |", "|" + "---|" * len(TABLE)]
    for row in found:
        error = row["score_standard_error"]
        score = f"{row['score_mean']:.1f}" + (f" ± {error:.1f}" if error is not None else "")
        cells = [row["task"], row["algorithm"], row["setting"] or "-", str(len(row["seeds"]))]
        cells += [score, str(row["diverged"]), row["source"], row["dataset"]]
        lines.append("| " + " | ".join(cells) + " |")
    missing = [job.name for job in jobs if not (out / job.name / "summary.json").exists()]
    note = f"\nNot ended: {', '.join(missing)}\n" if missing else ""
    text = "\n".join(lines) + "\n\nscore: mean ± standard error over seeds.\n" + note
    (out / "table.md").write_text(text)
    return text


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
