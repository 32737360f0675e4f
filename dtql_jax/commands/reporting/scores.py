"""The tables of a report: scores with errors and intervals, times, and differing settings."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dtql_jax.commands.reporting.runs import Run, Variant, differing, members
from dtql_jax.commands.tables import plus_minus
from dtql_jax.envs.spec import EnvSpec
from dtql_jax.evaluation import published, scores
from dtql_jax.training.progress import duration

Table = tuple[list[str], list[list[Any]]]  # (columns, rows)

PHASES = ("data", "init", "compile", "pretrain", "train", "evaluate", "checkpoint")


class Score(NamedTuple):
    """The score of a variant.

    Attributes:
      variant: the members.
      values: [S, N], N episodes of each of S seeds; [S, 1] while a run has not finished: the means
        of its last evaluation.
      episodes: episodes of each seed.
      finished: whether all runs have finished.
    """

    variant: Variant
    values: np.ndarray
    episodes: int
    finished: bool


def score_name(variant: Variant) -> str:
    """Returns "normalised score", "success rate" or "return"."""
    if variant.dataset["reference_scores"]:
        return "normalised score"
    return "return" if variant.dataset["env"]["success"] == "none" else "success rate"


def score_of(variant: Variant) -> Score | None:
    """Returns the score of the last checkpoint, or None before the first evaluation."""
    episodes = [member.rows("episodes") for member in variant.members]
    if all(episodes):
        returns = np.array([[float(row["return"]) for row in rows] for rows in episodes])
        successes = np.array([[row["success"] == "1" for row in rows] for rows in episodes])
        env = EnvSpec.from_dict(variant.dataset["env"])
        _, values = scores.score(returns, successes, env, variant.dataset["reference_scores"])
        return Score(variant, values, values.shape[1], True)
    last = [rows[-1] for member in variant.members if (rows := member.rows("evaluations"))]
    if not last:
        return None
    means = np.array([[float(row["score"])] for row in last])
    return Score(variant, means, int(last[0]["episodes"]), False)


def paper_score(row: Score) -> float | None:
    """Returns the paper's score, where task, source and version of the data are the same."""
    data = row.variant.dataset
    found = published.paper_score(data["task"], data["source"], data["version"])
    return found.score if found else None


def score_table(rows: Sequence[Score]) -> Table:
    """Returns the scores of a task's variants, beside the paper's where they are comparable."""
    paper = any(paper_score(row) is not None for row in rows)
    columns = ["variant", "mean ± standard error", "± over seeds", "IQM", "95 % interval"]
    columns += ["seeds x episodes"] + ["paper's DTQL"] * paper
    cells = []
    for row in rows:
        means = row.values.mean(axis=1)
        mean, error = scores.mean_and_standard_error(row.values)
        _, seed_error = scores.mean_and_standard_error(row.values, over="seeds")
        iqm, interval = None, "-"
        if len(means) > 1:
            iqm = scores.interquartile_mean(means)
            interval = _interval(scores.stratified_bootstrap_interval(means))
        elif row.values.size > 1:
            episodes = row.values[0]
            interval = _interval(scores.stratified_bootstrap_interval(episodes, np.mean)) + "¹"
        line = [
            row.variant.label + ("" if row.finished else " (not finished)"),
            plus_minus(mean, error if row.finished else None),
            plus_minus(seed_error),
            plus_minus(iqm),
            interval,
            f"{len(means)} x {row.episodes}",
        ]
        cells.append(line + [paper_score(row)] * paper)
    return columns, cells


def aggregate_table(rows: Sequence[Score]) -> Table:
    """Returns the scores of each label over its tasks; returns have no common scale."""
    columns = ["variant", "tasks", "seeds", "mean", "IQM", "95 % interval"]
    cells = []
    for label in dict.fromkeys(row.variant.label for row in rows):
        own = [row for row in rows if row.variant.label == label and row.finished]
        names = {score_name(row.variant) for row in own}
        if len(own) < 2 or len(names) > 1 or names == {"return"}:
            continue
        seeds = min(len(row.values) for row in own)
        values = np.stack([row.values[:seeds].mean(axis=1) for row in own], axis=1)
        mean, iqm = float(values.mean()), scores.interquartile_mean(values)
        interval = "-"
        if seeds > 1:
            interval = _interval(scores.stratified_bootstrap_interval(values))
        cells.append([label, len(own), seeds, plus_minus(mean), plus_minus(iqm), interval])
    return columns, cells


def _interval(ends: tuple[float, float]) -> str:
    return f"[{ends[0]:.1f}, {ends[1]:.1f}]"


def time_table(runs: Sequence[Run]) -> Table:
    """Returns the wall time of each finished run by phase, its rate of updates and its device."""
    rows = []
    for run in runs:
        if run.summary is None:
            continue
        seconds = [run.summary["seconds"].get(phase, 0.0) for phase in PHASES]
        config, device = run.record["config"], run.summary["device"]
        learning = seconds[PHASES.index("pretrain")] + seconds[PHASES.index("train")]
        updates = config["pretrain_steps"] + config["train_steps"]
        number = len(members(run))
        rows.append(
            [
                run.path.name,
                *(duration(s) if s >= 0.5 else None for s in seconds),
                duration(sum(seconds)),
                f"{updates / learning:.1f}" + f" x {number} members" * (number > 1),
                f"{device['devices']} x {device['kind']}, {device['cpu_cores']} cores",
            ]
        )
    return ["run", *PHASES, "total", "updates/s", "device"], rows


def settings_table(variants: Sequence[Variant]) -> Table:
    """Returns the differing settings that at least two variants have."""
    own = [variant.settings for variant in variants]
    shared = [name for name in differing(own) if sum(name in settings for settings in own) > 1]
    rows = [
        [name, *(settings.get(name) for settings in own)]
        for name in sorted(shared)
        if name != "algorithm.name"
    ]
    return ["setting", *(variant.label for variant in variants)], rows
