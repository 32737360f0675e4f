"""The ablations' results as rows, and the rows as Markdown."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtql_jax.commands.sweeps.plan import Job
from dtql_jax.evaluation.scores import mean_and_standard_error
from experiments.ablations import points

TITLES = {
    "gamma": "gamma, the weight of the NLL",
    "alpha": "alpha, the weight of the trust region (or KL)",
    "policy": "form of the one-step policy, at gamma 0",
    "objective": "trust region or KL",
    "weighting": "noise levels and weights of the denoising losses",
    "value_target": "critics in the value loss",
    "acting": "candidates and how one is chosen",
}


def row(name: str, group: str, label: str, own: bool, scores: np.ndarray) -> dict[str, Any]:
    """One row.

    Args:
      name: of the task in the study.
      group: the comparison.
      label: its value.
      own: whether this is the task's own setting, which stands in several groups.
      scores: [P], each seed's mean over its episodes.
    """
    mean, error = mean_and_standard_error(scores[:, None], over="seeds")
    return {
        "task": name,
        "group": group,
        "label": label,
        "own": own,
        "mean": mean,
        "standard_error": error if len(scores) > 1 else None,
        "scores_by_seed": scores.tolist(),
    }


def trained(
    out: Path, config: Mapping[str, Any], names: Sequence[str], all_jobs: Sequence[Job]
) -> list[dict[str, Any]]:
    """The rows of all comparisons, from the summaries of the jobs; all must have ended."""
    rows = []
    summaries = {job.name: json.loads((out / job.name / "summary.json").read_text())
                 for job in all_jobs}  # fmt: skip
    for name in names:
        own = points.own_point(config, name)
        for group, label, point in points.compared(config, name):
            job = points.job_of(all_jobs, config, point)
            members = [m for m in summaries[job.name]["members"]
                       if m["settings"] == dict(point.traced)]  # fmt: skip
            found = row(name, group, label, point == own, np.array([m["score"] for m in members]))
            found["settings"] = dict(point.static) | dict(point.traced)
            found["algorithm"] = point.algorithm
            found["diverged"] = sum(m["diverged"] is not None for m in members)
            found["job"] = job.name
            rows.append(found)
    return rows


def acted(name: str, found: Sequence[Mapping[str, Any]], own: Mapping[str, Any]) -> list[dict]:
    """The rows of a task's evaluations; `own` has the way in which its runs act."""
    rows = []
    for facts in found:
        selection, number = facts["selection"], facts["candidates"]
        label = f"{number:,}" + ("" if number == 1 else f" {selection}")
        is_own = (selection, number) == (own["action_selection"], own["num_candidates"])
        values = row(name, "acting", label, is_own, np.array(facts["scores"]).mean(axis=1))
        rows.append(values | {"selection": selection, "candidates": number})
    return rows


def head(
    config: Mapping[str, Any], out: Path, names: Sequence[str], all_jobs: Sequence[Job]
) -> list[str]:
    """A line for each task: its data and its budget."""
    lines = []
    for name in names:
        point = points.own_point(config, name)
        job = points.job_of(all_jobs, config, point)
        summary = json.loads((out / job.name / "summary.json").read_text())
        own, algorithm, traced = job.config, job.config["algorithm"], dict(point.traced)
        lines.append(
            f"- **{name}**: {summary['score_name']} on {summary['dataset_id']} (source "
            f"{summary['source']}), {own['pretrain_steps']:,} + {own['train_steps']:,} updates of "
            f"batch {own['batch_size']}, width {algorithm['hidden_dim']}; own setting: alpha "
            f"{traced['alpha']:g}, gamma {traced['gamma']:g}, expectile "
            f"{algorithm['expectile']:g}; "
            f"{config['seeds']} seeds x {summary['episodes']} episodes, last checkpoint, "
            f"{algorithm['num_candidates']} candidates by "
            f"{algorithm['action_selection']}"
        )
    return lines


def markdown(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """One table for each comparison, a column for each task; a task's own setting is in bold."""
    parts = []
    for group, title in TITLES.items():
        own = [r for r in rows if r["group"] == group]
        if not own:
            continue
        lines = [f"## {title[0].upper()}{title[1:]}", ""]
        # alpha is a task's own times a factor: its rows are numbered, not named alike
        order = [[r for r in own if r["task"] == name] for name in names]
        labels = [[r["label"] for r in column] for column in order]
        alike = all(column == labels[0] for column in labels)
        if alike:
            lines += ["| | " + " | ".join(names) + " |", "|" + "---|" * (1 + len(names))]
        else:
            lines += ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
        for values in zip(*order, strict=True):
            cells = [_cell(v) if alike else f"{v['label']}: {_cell(v)}" for v in values]
            start = f"| {values[0]['label']} | " if alike else "| "
            lines.append(start + " | ".join(cells) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _cell(found: Mapping[str, Any]) -> str:
    error = found["standard_error"]
    digits = 0 if abs(found["mean"]) >= 200 else 1
    text = f"{found['mean']:,.{digits}f}"
    text += "" if error is None else f" ± {error:,.{digits}f}"
    text += f" ({found['diverged']} diverged)" if found.get("diverged") else ""
    return f"**{text}**" if found["own"] else text
