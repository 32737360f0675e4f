"""Finished runs as rows of the table, without any path of this machine."""

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
# entries of summary.json that a row keeps
_KEPT = (
    *("task", "algorithm", "source", "dataset_id", "dataset_fingerprint", "environment", "preset"),
    *("pretrain_updates", "score_name", "score_by_seed", "seconds", "device", "versions"),
    *("commit", "acting"),
)


def read_runs(folders: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Returns one row for each finished run in some folders and below them, in table order.

    Runs on data of random actions (the kitchens' generated data) are no results and left out.

    Raises:
      UserError: a folder does not exist.
    """
    rows = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise UserError(f"--runs: no folder {folder}")
        rows += [_row(path.parent) for path in sorted(folder.rglob("summary.json"))]
    return sorted((row for row in rows if "-random/" not in row["dataset_id"]), key=_order)


def _order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    def place(name: str, known: Sequence[str]) -> int:
        return known.index(name) if name in known else len(known)

    task = row["task"].removesuffix(f"-{row['dataset_version']}")
    return (
        place(task, GROUPS["paper"]),
        *(row["task"], row["dataset_id"], row["updates"] - row["pretrain_updates"]),
        place(row["algorithm"], ALGORITHMS),
    )


def _row(folder: Path) -> dict[str, Any]:
    summary = json.loads((folder / "summary.json").read_text())
    run = json.loads((folder / "run.json").read_text())
    config, dataset = run["config"], run["dataset"]
    seeds, episodes = len(summary["seeds"]), summary["episodes"]
    preset = _paper_preset(config)
    differences = paper_differences(config, seeds, episodes)
    paper = None
    if differences == [] and summary["algorithm"] == "dtql":
        paper = published.paper_score(config["task"], summary["source"], dataset["version"])
    return {name: summary[name] for name in _KEPT} | {
        "dataset_version": dataset["version"],
        "transitions": dataset["transitions"],
        "data_return": _data_return(dataset),
        "updates": summary["updates"] + summary["pretrain_updates"],
        "batch_size": config["batch_size"],
        "paper_batch_size": None if preset is None else preset["batch_size"],
        "width": config["algorithm"]["hidden_dim"],
        "candidates": summary["acting"].get("num_candidates"),
        "seeds": seeds,
        "episodes": episodes,
        "checkpoint": summary.get("checkpoint", "last"),
        "settings": config["algorithm"],
        "mean": summary["score_mean"],
        "standard_error": summary["score_standard_error_over_seeds"],
        "standard_error_over_episodes": summary["score_standard_error"],
        "reference_percent": _reference_percent(summary),
        "diverged": sum(member["diverged"] is not None for member in summary["members"]),
        "differences": differences,
        "paper": None if paper is None else paper._asdict(),
        "curve": _curve(folder / "evaluations.csv"),
    }


def _paper_preset(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the published configuration of a run's task and algorithm, if there is one."""
    try:
        return get_config(f"{config['task']},paper,{config['algorithm']['name']}").to_dict()
    except UserError:
        return None


def paper_differences(config: Mapping[str, Any], seeds: int, episodes: int) -> list[str] | None:
    """Returns how a run differs from the published settings; None for a task without them.

    Args:
      config: of the run.
      seeds: number of seeds trained.
      episodes: of each seed, with the last checkpoint.
    """
    preset = _paper_preset(config)
    if preset is None:
        return None
    own, paper = flat(config), flat(preset)
    compared = {name: (own.get(name), paper[name]) for name in paper if name not in _FREE}
    found = [
        f"{name.removeprefix('algorithm.')} {value} ({asked})"
        for name, (value, asked) in compared.items()
        if value != asked
    ]
    if seeds < PAPER_SEEDS:
        found.append(f"seeds {seeds} ({PAPER_SEEDS})")
    if episodes < parts.final_episodes(preset):
        found.append(f"episodes {episodes} ({parts.final_episodes(preset)})")
    return found


def _data_return(dataset: Mapping[str, Any]) -> float | None:
    """Returns the mean return of a collection's episodes, from the record beside its data."""
    if dataset["source"] != "generated":
        return None
    try:
        metadata = json.loads((Path(dataset["path"]) / "data" / "metadata.json").read_text())
        collected = metadata["dtql_jax"]
        returns = [part["return_mean"] for part in collected]
        return float(np.average(returns, weights=[part["episodes"] for part in collected]))
    except (OSError, ValueError, KeyError, ZeroDivisionError):
        return None  # the collection was removed, or an older version made it


def _reference_percent(summary: Mapping[str, Any]) -> float | None:
    """Returns the score on data that is not D4RL's in D4RL's range: random 0, expert 100."""
    try:
        known = get_task(summary["task"]).d4rl
    except UserError:
        return None
    # the return of an AntMaze episode is 1 at the goal, so its mean is the success rate
    unit = {"return": 1.0, "success rate": 100.0}.get(summary["score_name"])
    if not known or unit is None:
        return None
    mean = np.array(summary["score_mean"] / unit)
    return float(normalised_score(mean, *known[0].reference_scores))


def _curve(path: Path) -> dict[str, list[Any]]:
    """Returns the learning curve: {"updates": [F], "scores": [F][P]}."""
    scores: dict[int, list[float]] = {}
    for row in read_rows(path):
        scores.setdefault(int(row["update"]), []).append(float(row["score"]))
    return {"updates": sorted(scores), "scores": [scores[update] for update in sorted(scores)]}
