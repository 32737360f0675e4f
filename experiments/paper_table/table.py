"""What came out: rows of scores from the run folders, as Markdown, JSON and a picture."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dtql_jax.datasets.registry import get_task
from dtql_jax.evaluation import published
from dtql_jax.training.progress import duration
from dtql_jax.training.run_folder import write_json
from experiments.paper_table import picture
from experiments.paper_table.cells import Cell, follows_paper
from experiments.paper_table.settings import ALGORITHMS

NAMES: dict[str, str] = {
    "dtql": "DTQL",
    "dql": "DQL",
    "idql": "IDQL",
    "iql": "IQL",
    "bc": "BC",
    "dql_kl": "DQL-KL",
}


def read_cells(out: Path) -> list[dict[str, Any]]:
    """All finished runs of a table's folder, as plain records without any path."""
    found = []
    for path in sorted(out.glob("*/summary.json")):
        summary = json.loads(path.read_text())
        run = json.loads((path.parent / "run.json").read_text())
        config, dataset = run["config"], run["dataset"]
        seeds, episodes = len(summary["seeds"]), summary["episodes"]
        paper = None
        if follows_paper(config, seeds, episodes):
            paper = published.paper_score(config["task"], summary["source"], dataset["version"])
        found.append(
            {
                "task": config["task"],
                "algorithm": summary["algorithm"],
                "source": summary["source"],
                "dataset_id": summary["dataset_id"],
                "dataset_fingerprint": summary["dataset_fingerprint"],
                "transitions": dataset["transitions"],
                "behaviour_return": _behaviour_return(dataset),
                "environment": summary["environment"],
                "preset": summary["preset"],
                "updates": summary["updates"] + summary["pretrain_updates"],
                "pretrain_updates": summary["pretrain_updates"],
                "batch_size": config["batch_size"],
                "settings": config["algorithm"],
                "acting": summary["acting"],
                "score_name": summary["score_name"],
                "mean": summary["score_mean"],
                "standard_error": summary["score_standard_error"],
                "standard_error_over_seeds": summary["score_standard_error_over_seeds"],
                "score_by_seed": summary["score_by_seed"],
                "seeds": seeds,
                "episodes": episodes,
                "diverged": sum(m["diverged"] is not None for m in summary["members"]),
                "paper": None if paper is None else paper._asdict(),
                "seconds": summary["seconds"],
                "device": summary["device"],
                "versions": summary["versions"],
                "commit": summary["commit"],
            }
        )
    return found


def _behaviour_return(dataset: Mapping[str, Any]) -> float | None:
    """Mean return of the episodes of a collection, as its own record has it; else None."""
    if dataset["source"] != "generated":
        return None
    try:
        facts = json.loads((Path(dataset["path"]) / "data" / "metadata.json").read_text())
        parts = facts["dtql_jax"]
        episodes = sum(part["episodes"] for part in parts)
        return sum(part["episodes"] * part["return_mean"] for part in parts) / episodes
    except (OSError, ValueError, KeyError, ZeroDivisionError):
        return None  # a collection of an older version, or one that is gone


def rows(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The finished runs by task and dataset: only scores on the same data share a row."""
    grouped: dict[tuple[Any, ...], dict[str, Any]] = {}
    for cell in cells:
        names = ("task", "source", "dataset_id", "dataset_fingerprint", "score_name", "preset")
        key = tuple(cell[name] for name in names)
        row = grouped.setdefault(key, {name: cell[name] for name in names} | {"cells": {}})
        row["cells"][cell["algorithm"]] = cell
    order = {task: i for i, task in enumerate(_order())}
    return sorted(grouped.values(), key=lambda r: order.get(get_task(r["task"]).name, len(order)))


def _order() -> list[str]:
    from dtql_jax.commands.sweeps.plan import PAPER

    return [task for group in PAPER.values() for task in group]


def shortfalls(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows whose DTQL is below the paper's score by more than two standard errors."""
    lines = []
    for row in found:
        cell = row["cells"].get("dtql")
        if cell is None or cell["paper"] is None or cell["standard_error"] is None:
            continue
        missing = cell["paper"]["score"] - cell["mean"]
        if missing > 2 * cell["standard_error"]:
            lines.append(f"{row['task']}: {missing:.1f} below the paper's {cell['paper']['score']}")
    return lines


def score(cell: Mapping[str, Any] | None) -> str:
    """ "54.2 ± 1.3", or "not run"."""
    if cell is None:
        return "not run"
    digits = 0 if cell["score_name"] == "return" and abs(cell["mean"]) >= 100 else 1
    error = cell["standard_error"]
    text = f"{cell['mean']:,.{digits}f}" + ("" if error is None else f" ± {error:,.{digits}f}")
    return text + (f" ({cell['diverged']} diverged)" if cell["diverged"] else "")


def markdown(
    found: Sequence[Mapping[str, Any]],
    *,
    planned: Sequence[Cell] = (),
    absent: Mapping[str, str] | None = None,
    failed: Mapping[str, str] | None = None,
) -> str:
    """The table and what must be known to read it.

    Args:
      found: of `rows`.
      planned: cells that were asked for; those without a result are named.
      absent: {task: why its data cannot be had from the source that was asked for}.
      failed: {name of a cell's folder: why it could not go on}.
    """
    named = {name for row in found for name in row["cells"]} | {c.algorithm for c in planned}
    used = [n for n in ALGORITHMS if n in named] + sorted(named - set(ALGORITHMS))
    head = ["task", "data: source, dataset", "score", *(NAMES.get(n, n) for n in used)]
    head += ["data's mean return", "paper's DTQL", "time", "device"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    asked = {(cell.task, cell.algorithm) for cell in planned}
    for row in found:
        texts = [row["task"], f"{row['source']}, {row['dataset_id']}", row["score_name"]]
        for name in used:
            cell = row["cells"].get(name)
            texts.append(score(cell) if cell or (row["task"], name) in asked else "-")
        any_cell = next(iter(row["cells"].values()))
        behaviour = any_cell["behaviour_return"] if row["score_name"] == "return" else None
        texts.append("-" if behaviour is None else f"{behaviour:,.0f}")
        own = row["cells"].get("dtql")
        paper = own["paper"] if own else None
        texts.append("-" if paper is None else f"{paper['score']}")
        spent = sum(sum(cell["seconds"].values()) for cell in row["cells"].values())
        texts += [duration(spent), _device(any_cell["device"])]
        lines.append("| " + " | ".join(texts) + " |")
    have = {row["task"] for row in found}
    for task in dict.fromkeys(cell.task for cell in planned if cell.task not in have):
        cells = [cell.algorithm for cell in planned if cell.task == task]
        texts = [task, "-", "-", *("not run" if n in cells else "-" for n in used)]
        lines.append("| " + " | ".join(texts + ["-"] * 4) + " |")
    text = "# Scores\n\n" + "\n".join(lines) + "\n\n" + "\n".join(_reading(found)) + "\n"
    text += _section("Budgets", _budgets(found))
    text += _section("Below the paper by more than two standard errors", shortfalls(found))
    text += _section("Not to be had", [f"{k}: {why}" for k, why in (absent or {}).items()])
    text += _section("Given up", [f"{name}: {why}" for name, why in (failed or {}).items()])
    return text


def _reading(found: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "Scores: the last checkpoint's, mean ± standard error over seeds x episodes. All scores of "
        "a row are of the same data, updates and seeds.",
        "",
        "Source `generated`: data collected here by this project's policies under names of its "
        "own. It is not D4RL's, and no number of the paper can stand beside it; returns are the "
        "environment's own, not normalised. A number of the paper is shown only where task, "
        "source, version of the data and the whole protocol are the paper's.",
    ]
    if any(row["preset"] == "cpu" for row in found):
        lines += [
            "",
            "Preset `cpu`: far fewer updates, smaller batches and fewer candidates than the "
            "paper's, learning rates of at least 3e-4. These rows show that everything runs; they "
            "are no measure of the methods.",
        ]
    cited = [r for r in found if (r["cells"].get("dtql") or {}).get("paper")]
    if any(r["cells"]["dtql"]["paper"]["source"] == published.AS_CITED for r in cited):
        lines += ["", "The paper's AntMaze and kitchen scores are as cited elsewhere."]
    return lines


def _budgets(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each budget once, with the tasks and algorithms that had it."""
    budgets: dict[str, list[str]] = {}
    for row in found:
        texts: dict[str, list[str]] = {}
        for name, cell in row["cells"].items():
            candidates = cell["acting"].get("num_candidates")
            text = (
                f"{cell['transitions']:,} transitions; {cell['updates']:,} updates of "
                f"{cell['batch_size']} (pretraining {cell['pretrain_updates']:,}), width "
                f"{cell['settings']['hidden_dim']}; "
                + (f"{candidates} candidates; " if candidates else "")
                + f"{cell['seeds']} seeds x {cell['episodes']} episodes"
            )
            texts.setdefault(text, []).append(str(NAMES.get(name, name)))
        for text, names in texts.items():
            budgets.setdefault(f"{', '.join(names)}: {text}", []).append(row["task"])
    return [f"{', '.join(tasks)}. {text}" for text, tasks in budgets.items()]


def _section(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    return f"\n## {title}\n\n" + "".join(f"- {line}\n" for line in lines)


def _device(device: Mapping[str, Any]) -> str:
    return f"{device['devices']} x {device['kind']}, {device['cpu_cores']} cores"


def write(out: Path, results: Path, **about: Any) -> str:
    """Writes table.md, table.json and table.png of all finished runs; returns the text.

    Args:
      out: folder of the runs.
      results: folder of the three files.
      **about: of `markdown`.
    """
    found = rows(read_cells(out))
    text = markdown(found, **about)
    results.mkdir(parents=True, exist_ok=True)
    (results / "table.md").write_text(text)
    write_json(results / "table.json", {"rows": found})
    if found:
        picture.draw(found, results / "table.png", NAMES)
    return text
