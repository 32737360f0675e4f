"""Finished runs as records without any path of this machine."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtql_jax.commands.sweeps.plan import GROUPS
from dtql_jax.datasets.registry import get_task
from dtql_jax.errors import UserError
from dtql_jax.evaluation import published
from dtql_jax.evaluation.scores import normalised_score
from dtql_jax.presets import get_config, parts
from dtql_jax.training.logging import read_rows
from experiments.paper_table.plan import flat
from experiments.paper_table.settings import ALGORITHMS

PAPER_SEEDS = 5
# fields that no score depends on, or that are compared on their own
_FREE = (
    *("task", "preset", "source", "d4rl_dir", "data_transitions", "data_seed", "behaviour_policy"),
    *("seed", "seeds", "updates_per_call", "log_every", "eval_every", "eval_episodes"),
    *("final_eval_episodes", "eval_envs", "eval_workers", "eval_overlap", "checkpoint_every"),
    *("wandb", "record_episodes"),
)


def read_runs(folders: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Returns the records of all finished runs in some folders and below them, in table order.

    Data of random actions (the kitchens' generated data) makes no result and is left out.

    Raises:
      UserError: a folder does not exist.
    """
    found = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise UserError(f"--runs: no folder {folder}")
        found += [_record(path.parent) for path in sorted(folder.rglob("summary.json"))]
    return sorted((row for row in found if "-random/" not in row["dataset_id"]), key=_order)


def _order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    tasks, names = list(GROUPS["paper"]), list(ALGORITHMS)
    task = row["task"].removesuffix(f"-{row['dataset_version']}")
    return (
        tasks.index(task) if task in tasks else len(tasks),
        *(row["task"], row["dataset_id"], row["updates"]),
        names.index(row["algorithm"]) if row["algorithm"] in names else len(names),
    )


def _record(folder: Path) -> dict[str, Any]:
    summary = json.loads((folder / "summary.json").read_text())
    run = json.loads((folder / "run.json").read_text())
    config, dataset = run["config"], run["dataset"]
    seeds, episodes = len(summary["seeds"]), summary["episodes"]
    differences = paper_differences(config, seeds, episodes)
    paper = None
    if differences == [] and summary["algorithm"] == "dtql":
        paper = published.paper_score(config["task"], summary["source"], dataset["version"])
    names = ("task", "algorithm", "source", "dataset_id", "dataset_fingerprint", "environment")
    names += ("preset", "pretrain_updates", "score_name", "score_by_seed", "seconds", "device")
    names += ("versions", "commit", "acting")
    return {name: summary[name] for name in names} | {
        "dataset_version": dataset["version"],
        "transitions": dataset["transitions"],
        "data_return": _data_return(dataset),
        "updates": summary["updates"] + summary["pretrain_updates"],
        "batch_size": config["batch_size"],
        "width": config["algorithm"]["hidden_dim"],
        "candidates": summary["acting"].get("num_candidates"),
        "seeds": seeds,
        "episodes": episodes,
        "checkpoint": summary.get("checkpoint", "last"),
        "settings": config["algorithm"],
        "mean": summary["score_mean"],
        "standard_error": summary["score_standard_error_over_seeds"],
        "standard_error_over_episodes": summary["score_standard_error"],
        "reference_percent": _reference_percent(summary, dataset),
        "diverged": sum(member["diverged"] is not None for member in summary["members"]),
        "differences": differences,
        "paper": None if paper is None else paper._asdict(),
        "curve": _curve(folder / "evaluations.csv"),
    }


def paper_differences(config: Mapping[str, Any], seeds: int, episodes: int) -> list[str] | None:
    """Returns how a run differs from the published settings; None for a task without them.

    Args:
      config: of the run, from its run.json.
      seeds: that were trained.
      episodes: of each seed, with the last checkpoint.
    """
    try:
        preset: Any = get_config(f"{config['task']},paper,{config['algorithm']['name']}")
    except UserError:
        return None
    paper = preset.to_dict()
    own, asked = flat(config), flat(paper)
    changed = [name for name in asked if name not in _FREE and own.get(name) != asked[name]]
    found = [f"{name.removeprefix('algorithm.')} {own.get(name)} ({asked[name]})"
             for name in changed]  # fmt: skip
    if seeds < PAPER_SEEDS:
        found.append(f"seeds {seeds} ({PAPER_SEEDS})")
    if episodes < parts.final_episodes(paper):
        found.append(f"episodes {episodes} ({parts.final_episodes(paper)})")
    return found


def _data_return(dataset: Mapping[str, Any]) -> float | None:
    """Returns the mean return of a collection's episodes from its own record, if that is there."""
    if dataset["source"] != "generated":
        return None
    try:
        metadata = json.loads((Path(dataset["path"]) / "data" / "metadata.json").read_text())
        parts = metadata["dtql_jax"]
        episodes = sum(part["episodes"] for part in parts)
        return sum(part["episodes"] * part["return_mean"] for part in parts) / episodes
    except (OSError, ValueError, KeyError, ZeroDivisionError):
        return None  # the collection is gone, or of an older version


def _reference_percent(summary: Mapping[str, Any], dataset: Mapping[str, Any]) -> float | None:
    """Returns a return on data that is not D4RL's as percent of D4RL's random..expert range."""
    if summary["score_name"] != "return":
        return None
    try:
        known = get_task(summary["task"]).d4rl
    except UserError:
        return None
    if not known:
        return None
    return float(normalised_score(np.array(summary["score_mean"]), *known[0].reference_scores))


def _curve(path: Path) -> dict[str, list[Any]]:
    """Returns the learning curve: {"updates": [F], "scores": [F][P]}."""
    scores: dict[int, list[float]] = {}
    for row in read_rows(path) if path.exists() else []:
        scores.setdefault(int(row["update"]), []).append(float(row["score"]))
    return {"updates": sorted(scores), "scores": [scores[update] for update in sorted(scores)]}
