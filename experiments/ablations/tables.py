"""The ablations' results as rows, and the rows as Markdown tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dtql_jax.commands.sweeps.plan import Job
from dtql_jax.commands.tables import plus_minus
from experiments import study
from experiments.ablations import points
from experiments.ablations.points import Point

TITLES = {
    "gamma": "Gamma, the weight of the NLL",
    "alpha": "Alpha, the weight of the trust region (or KL)",
    "policy": "Form of the one-step policy, at gamma 0",
    "objective": "Trust region or KL",
    "weighting": "Noise levels and weights of the denoising losses",
    "value_target": "Critics in the value loss",
    "acting": "Candidates and how one is chosen",
}
Row = dict[str, Any]


def _row(task: str, group: str, label: str, own: bool, scores: Sequence[float] | np.ndarray) -> Row:
    """Returns one row from scores [P], each seed's mean over its episodes.

    `group` is the comparison, `label` the compared value. `own` marks the task's own setting, which
    is part of several groups.
    """
    mean, error = study.over_seeds(scores)
    row = {"task": task, "group": group, "label": label, "own": own, "mean": mean}
    return row | {"standard_error": error, "scores_by_seed": [float(score) for score in scores]}


def trained(
    config: Mapping[str, Any],
    names: Sequence[str],
    planned: Mapping[Point, Job],
    summaries: Mapping[str, Any],
) -> list[Row]:
    """Returns the rows of all comparisons; `summaries` has each job's by its name."""
    rows = []
    for name in names:
        own = points.own_point(config, name)
        for group, label, point in points.compared(config, name):
            job, settings = planned[point], dict(point.traced)
            members = [m for m in summaries[job.name]["members"] if m["settings"] == settings]
            row = _row(name, group, label, point == own, [m["score"] for m in members])
            row["settings"] = dict(point.static) | settings
            row["algorithm"] = point.algorithm
            row["diverged"] = sum(m["diverged"] is not None for m in members)
            row["job"] = job.name
            rows.append(row)
    return rows


def acted(
    task: str, found: Mapping[tuple[str, int], np.ndarray], own: Mapping[str, Any]
) -> list[Row]:
    """Returns the rows of a task's evaluations.

    Args:
      task: its name in the study.
      found: {(selection, candidates): scores [P, episodes]}.
      own: how the task's runs act.
    """
    rows = []
    for (selection, number), scores in found.items():
        label = f"{number:,}" + ("" if number == 1 else f" {selection}")
        is_own = (selection, number) == (own["action_selection"], own["num_candidates"])
        row = _row(task, "acting", label, is_own, scores.mean(axis=1))
        rows.append(row | {"selection": selection, "candidates": number})
    return rows


def setup(
    config: Mapping[str, Any],
    names: Sequence[str],
    planned: Mapping[Point, Job],
    summaries: Mapping[str, Any],
) -> list[str]:
    """Returns one line for each task: its data and its budget."""
    lines = []
    for name in names:
        point = points.own_point(config, name)
        job, traced = planned[point], dict(point.traced)
        summary, own, algorithm = summaries[job.name], job.config, job.config["algorithm"]
        lines.append(
            f"- **{name}**: {summary['score_name']} on {summary['dataset_id']} (source "
            f"{summary['source']}), {own['pretrain_steps']:,} + {own['train_steps']:,} updates of "
            f"batch {own['batch_size']}, width {algorithm['hidden_dim']}; own setting: alpha "
            f"{traced['alpha']:g}, gamma {traced['gamma']:g}, expectile "
            f"{algorithm['expectile']:g}; {config['seeds']} seeds x {summary['episodes']} "
            f"episodes, last checkpoint, {algorithm['num_candidates']} candidates by "
            f"{algorithm['action_selection']}"
        )
    return lines


def markdown(rows: Sequence[Row], names: Sequence[str]) -> str:
    """Returns one table for each comparison, a column for each task; own settings are bold."""
    parts = []
    for group, title in TITLES.items():
        columns = [[r for r in rows if r["group"] == group and r["task"] == name] for name in names]
        labels = [[r["label"] for r in column] for column in columns]
        # alpha is the task's own times a factor, so each task has its own labels
        alike = all(column == labels[0] for column in labels)
        lines: list[Row] = [
            {"": own[0]["label"]}
            | {r["task"]: _cell(r) if alike else f"{r['label']}: {_cell(r)}" for r in own}
            for own in zip(*columns, strict=True)
        ]
        shown = ["", *names] if alike else list(names)
        if lines:
            parts.append(f"## {title}\n\n{study.table({name: name for name in shown}, lines)}")
    return "\n\n".join(parts)


def _cell(row: Row) -> str:
    digits = 0 if abs(row["mean"]) >= 200 else 1
    text = plus_minus(row["mean"], row["standard_error"], digits)
    text += f" ({row['diverged']} diverged)" if row.get("diverged") else ""
    return f"**{text}**" if row["own"] else text
