"""The numbers of a report: scores with their errors and intervals, times, settings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dtql_jax.commands.reporting.runs import Variant, differing, flat_settings
from dtql_jax.commands.tables import plus_minus
from dtql_jax.evaluation import published, scores
from dtql_jax.training.progress import duration

PHASES = ("data", "init", "compile", "pretrain", "train", "evaluate", "checkpoint")


@dataclasses.dataclass(frozen=True)
class Score:
    """One row of the table of scores.

    Attributes:
      variant: the members that it is of.
      name: of the score: "normalised score", "success rate" (%), "return".
      mean: over seeds and episodes.
      error: standard error over seeds x episodes; None for one draw.
      seed_error: standard error over the seeds' means; None for one seed.
      iqm: interquartile mean of the seeds' means.
      interval: 95 % bootstrap interval: of the IQM over seeds, or with one seed of the mean over
        its episodes; None where there is only one draw.
      seeds: number of seeds.
      episodes: of each seed.
      finished: whether all runs have ended; else the numbers are of the last evaluation.
      paper: the paper's score, where task, source and version are the same.
    """

    variant: Variant
    name: str
    mean: float
    error: float | None
    seed_error: float | None
    iqm: float
    interval: tuple[float, float] | None
    seeds: int
    episodes: int
    finished: bool
    paper: published.Published | None


def score_of(variant: Variant) -> Score | None:
    """The row of a variant; None where nothing has been evaluated yet."""
    name, values = variant.episode_scores()
    finished = all(own.size for own in values)
    episodes = min((own.size for own in values), default=0)
    if finished:
        means = np.array([own.mean() for own in values])
        _, error = scores.mean_and_standard_error(np.concatenate(values)[None])
    else:
        curves = variant.curves("evaluations", "score")
        if not curves:
            return None
        means, error = np.array([own[-1] for _, own in curves.values()]), math.nan
        rows = variant.run.evaluations
        episodes = int(rows[-1]["episodes"]) if rows else 0
    seed_error = scores.mean_and_standard_error(means[:, None], over="seeds")[1]
    interval = None
    if len(means) > 1:
        interval = scores.stratified_bootstrap_interval(means)
    elif finished and values[0].size > 1:
        interval = scores.stratified_bootstrap_interval(values[0], np.mean)
    dataset = variant.run.dataset
    return Score(
        variant=variant,
        name=name,
        mean=float(means.mean()),
        error=_known(error),
        seed_error=_known(seed_error),
        iqm=float(scores.interquartile_mean(means)),
        interval=interval,
        seeds=len(means),
        episodes=episodes,
        finished=finished,
        paper=published.paper_score(dataset["task"], dataset["source"], dataset["version"]),
    )


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


@dataclasses.dataclass(frozen=True)
class Aggregate:
    """One algorithm over several tasks.

    Attributes:
      label: of the variant.
      tasks: names.
      runs: seeds that every task has.
      mean: of the seeds' and tasks' scores.
      iqm: interquartile mean of them.
      interval: 95 % stratified-bootstrap interval of the IQM, the tasks being the strata.
    """

    label: str
    tasks: tuple[str, ...]
    runs: int
    mean: float
    iqm: float
    interval: tuple[float, float] | None


def aggregates(rows: Sequence[Score]) -> list[Aggregate]:
    """The scores over several tasks, of each label that was run on more than one."""
    found = []
    for label in dict.fromkeys(row.variant.label for row in rows):
        own = [row for row in rows if row.variant.label == label and row.finished]
        if len(own) < 2 or len({row.name for row in own}) > 1 or own[0].name == "return":
            continue  # returns of different tasks have no common scale
        runs = min(row.seeds for row in own)
        columns = [[v.mean() for v in row.variant.episode_scores()[1][:runs]] for row in own]
        values = np.array(columns).T
        interval = scores.stratified_bootstrap_interval(values) if runs > 1 else None
        tasks = tuple(row.variant.task for row in own)
        iqm = float(scores.interquartile_mean(values))
        found.append(Aggregate(label, tasks, runs, float(values.mean()), iqm, interval))
    return found


PHASES = ("data", "init", "compile", "pretrain", "train", "evaluate", "checkpoint")


Columns = list[str]
Rows = list[list[Any]]


def score_table(rows: Sequence[Score], paper: bool) -> tuple[Columns, Rows]:
    """The scores of a task's variants; `paper` adds the paper's scores."""
    columns = ["variant", "mean ± standard error", "± over seeds", "IQM", "95 % interval"]
    columns += ["seeds x episodes"] + (["paper's DTQL"] if paper else [])
    cells = []
    for row in rows:
        interval = interval_text(row.interval) + ("¹" if row.seeds == 1 and row.interval else "")
        line = [
            row.variant.label + ("" if row.finished else " (not finished)"),
            plus_minus(row.mean, row.error),
            plus_minus(row.seed_error),
            plus_minus(row.iqm if row.seeds > 1 else None),
            interval,
            f"{row.seeds} x {row.episodes}",
        ]
        cells.append(line + ([row.paper.score if row.paper else None] if paper else []))
    return columns, cells


def aggregate_table(rows: Sequence[Aggregate]) -> tuple[Columns, Rows]:
    """The scores over several tasks."""
    columns = ["variant", "tasks", "seeds", "mean", "IQM", "95 % interval"]
    return columns, [
        [
            row.label,
            len(row.tasks),
            row.runs,
            plus_minus(row.mean),
            plus_minus(row.iqm),
            interval_text(row.interval),
        ]
        for row in rows
    ]


def interval_text(pair: tuple[float, float] | None) -> str:
    """An interval with one digit, or "-"."""
    return "-" if pair is None else f"[{pair[0]:.1f}, {pair[1]:.1f}]"


def time_table(variants: Sequence[Variant]) -> tuple[Columns, Rows]:
    """Wall time by phase of each finished run, with its rate of updates and its device."""
    runs = {run.path: run for variant in variants for run in variant.runs}
    rows = []
    for run in runs.values():
        if run.summary is None:
            continue
        seconds = {phase: run.summary["seconds"].get(phase, 0.0) for phase in PHASES}
        learning = seconds["pretrain"] + seconds["train"]
        updates = run.config["pretrain_steps"] + run.config["train_steps"]
        device = run.summary["device"]
        rate = f"{updates / learning:.1f}" if learning > 0 else "-"
        members = f" x {len(run.members)} members" if len(run.members) > 1 else ""
        rows.append(
            [
                run.path.name,
                *(duration(s) if s >= 0.5 else None for s in seconds.values()),
                duration(sum(seconds.values())),
                rate + members,
                f"{device['devices']} x {device['kind']}, {device['cpu_cores']} cores",
            ]
        )
    return ["run", *PHASES, "total", "updates/s", "device"], rows


def settings_table(variants: Sequence[Variant]) -> tuple[Columns, Rows]:
    """The settings in which variants differ, a column for each variant.

    A setting that only one variant has is left out.
    """
    flat = [flat_settings(variant) for variant in variants]
    names = [name for name in differing(list(variants)) if sum(name in f for f in flat) > 1]
    rows = [[n, *(f.get(n) for f in flat)] for n in sorted(names) if n != "algorithm.name"]
    return ["setting", *(variant.label for variant in variants)], rows
