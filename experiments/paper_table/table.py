"""The table of scores as Markdown: conclusions first, then one row a run."""

from collections.abc import Mapping, Sequence
from typing import Any

from dtql_jax.commands.tables import plus_minus
from dtql_jax.evaluation import published
from dtql_jax.training.progress import duration
from experiments import study

NAMES: dict[str, str] = {
    "dtql": "DTQL",
    "dql": "DQL",
    "idql": "IDQL",
    "iql": "IQL",
    "bc": "BC",
    "fql": "FQL",
    "dql_kl": "DQL-KL",
}
UNITS = {"success rate": "success %", "normalised score": "normalised"}
Row = Mapping[str, Any]


def groups(rows: Sequence[Row]) -> list[list[Row]]:
    """Returns the rows that may be compared: same task, data and number of updates.

    The number is the same with the pretraining, as in the small budget, or without it, as in the
    published settings.
    """
    found: list[list[Row]] = []
    for row in rows:
        group = next((group for group in found if _comparable(row, group[0])), None)
        if group is None:
            found.append([row])
        else:
            group.append(row)
    return found


def _comparable(row: Row, other: Row) -> bool:
    names = ("task", "dataset_fingerprint", "score_name")
    if any(row[name] != other[name] for name in names):
        return False
    trained, other_trained = (r["updates"] - r["pretrain_updates"] for r in (row, other))
    return row["updates"] == other["updates"] or trained == other_trained


def name(row: Row) -> str:
    """Returns an algorithm's name as written in the table and the figure."""
    return NAMES.get(row["algorithm"]) or row["algorithm"]


def score_text(row: Row) -> str:
    """Returns "2512 ± 34 return" or "93.3 ± 2.1 success %"."""
    digits = 0 if row["score_name"] == "return" and abs(row["mean"]) >= 100 else 1
    text = plus_minus(row["mean"], row["standard_error"], digits)
    text += f" {UNITS.get(row['score_name'], row['score_name'])}"
    return text + (f" ({row['diverged']} seeds diverged)" if row["diverged"] else "")


def other_batch(row: Row) -> bool:
    """Returns whether the batch size is not the one published for this task and algorithm."""
    return row["paper_batch_size"] not in (None, row["batch_size"])


def batch_text(row: Row) -> str:
    """Returns "256", or "256 (not the published 2,048)"."""
    mark = f" (not the published {row['paper_batch_size']:,})" if other_batch(row) else ""
    return f"{row['batch_size']:,}{mark}"


def count(number: int, noun: str) -> str:
    """Returns "1 seed" or "3 seeds"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


COLUMNS: dict[str, study.Column] = {
    "task": "task",
    "algorithm": name,
    "score": score_text,
    "% of D4RL's range (data not D4RL's)": "reference_percent:.1f",
    "data's mean return": lambda row: f"{row['data_return']:.0f}" if has_data_return(row) else "-",
    "paper's DTQL": lambda row: "-" if row["paper"] is None else f"{row['paper']['score']}",
    "source": "source",
    "dataset": lambda row: f"{row['dataset_id']}, {row['transitions']:,} transitions",
    "updates": "updates:,",
    "batch": batch_text,
    "width": "width",
    "candidates": "candidates:,",
    "seeds x episodes": lambda row: f"{row['seeds']} x {row['episodes']}",
    "checkpoint": "checkpoint",
    "time": lambda row: duration(sum(row["seconds"].values())),
    "device": lambda row: f"{row['device']['kind']}, {count(row['device']['cpu_cores'], 'core')}",
}


def has_data_return(row: Row) -> bool:
    """Returns whether the score is a return and that of the data's episodes is known."""
    return row["score_name"] == "return" and row["data_return"] is not None


def conclusions(rows: Sequence[Row]) -> list[str]:
    """Returns what a reader may conclude from the rows, one sentence an entry."""
    if not rows:
        return ["No run has finished yet."]
    own = [row for row in rows if row["algorithm"] == "dtql"]
    lines = _beside_paper([row for row in own if row["paper"] is not None])
    returns = [row for row in own if has_data_return(row)]
    if returns:
        above = [row for row in returns if row["mean"] > row["data_return"]]
        lines.append(
            f"DTQL's return is above the mean return of its data in {len(above)} of "
            f"{len(returns)} rows{_tasks(above)}."
        )
    lines += [
        f"DTQL reaches the goal of {row['task']} in {row['mean']:.0f} % of {row['episodes']} "
        f"episodes of {count(row['seeds'], 'seed')} after {row['updates']:,} updates of "
        f"batch {row['batch_size']:,}."
        for row in own
        if row["score_name"] == "success rate"
    ]
    compared = []
    for group in groups(rows):
        names = {row["algorithm"] for row in group}
        if "dtql" in names and len(names) > 1:
            compared.append(group)
    if compared:
        best = [group[0] for group in compared if _is_best(group)]
        lines.append(
            f"DTQL is the best of the algorithms trained on the same data, or within two standard "
            f"errors of the best, on {len(best)} of {len(compared)} tasks{_tasks(best)}."
        )
    small = [row for row in rows if row["preset"] in ("cpu", "quick")]
    if small:
        lines.append(
            f"{len(small)} of {len(rows)} rows have a small budget (preset cpu or quick): they "
            "show that the program works and measure no method."
        )
    marked = [row for row in rows if other_batch(row)]
    if marked:
        lines.append(
            f"{len(marked)} of {len(rows)} rows were trained with another batch size than the "
            "published one (marked in the column batch)."
        )
    return lines


def _beside_paper(rows: Sequence[Row]) -> list[str]:
    """Compares the rows that have a score of the paper beside them."""
    if not rows:
        return ["No row is comparable with the paper's numbers: data, updates or seeds differ."]
    short = [
        row
        for row in rows
        if row["paper"]["score"] - row["mean"] > 2.0 * (row["standard_error"] or 0.0)
    ]
    reached = len(rows) - len({row["task"] for row in short})
    return [
        "On D4RL's data with the paper's settings, DTQL reaches the paper's score within two "
        f"standard errors, or exceeds it, on {reached} of {len(rows)} tasks.",
        *(
            f"{row['task']} stays {row['paper']['score'] - row['mean']:.1f} below the paper's "
            f"{row['paper']['score']}."
            for row in short
        ),
    ]


def _is_best(group: Sequence[Row]) -> bool:
    best = max(group, key=lambda row: row["mean"])
    own = max((row for row in group if row["algorithm"] == "dtql"), key=lambda row: row["mean"])
    error = (_error(best) ** 2 + _error(own) ** 2) ** 0.5
    return best["mean"] - own["mean"] <= 2.0 * error


def _error(row: Row) -> float:
    """Returns the standard error over seeds; of a single seed, that over its episodes."""
    error = row["standard_error"]
    return row["standard_error_over_episodes"] if error is None else error


def _tasks(rows: Sequence[Row]) -> str:
    return f" ({', '.join(dict.fromkeys(row['task'] for row in rows))})" if rows else ""


def markdown(rows: Sequence[Row], remarks: Mapping[str, Sequence[str]] | None = None) -> str:
    """Returns the whole text.

    Args:
      rows: of `results.read_runs`.
      remarks: {title: lines} of further sections; empty ones are left out.
    """
    text = "# Scores\n\n" + _listed(conclusions(rows))
    if rows:
        text += "\n" + study.table(COLUMNS, rows) + "\n\n" + "\n\n".join(_reading(rows)) + "\n"
    sections = {"Settings that differ from the paper's": _differences(rows)} | dict(remarks or {})
    for title, lines in sections.items():
        if lines:
            text += f"\n## {title}\n\n" + _listed(lines)
    return text


def _listed(lines: Sequence[str]) -> str:
    return "".join(f"- {line}\n" for line in lines)


def _reading(rows: Sequence[Row]) -> list[str]:
    lines = [
        "Scores are those of the last checkpoint: mean ± standard error over seeds. A single seed "
        "has no error."
    ]
    if any(row["source"] == "generated" for row in rows):
        lines.append(
            "Source `generated`: data collected here by this project's policies, not D4RL's. Its "
            "returns are not normalised. The percentage places a score in D4RL's range, 0 for "
            "the random and 100 for the expert policy; it is no D4RL score, because the data "
            "differs."
        )
    if any((row["paper"] or {}).get("source") == published.AS_CITED for row in rows):
        lines.append("The paper's AntMaze and kitchen scores are as cited elsewhere.")
    return lines


def _differences(rows: Sequence[Row]) -> list[str]:
    """Returns the differences, with the published value in parentheses, each text once."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row["differences"]:
            runs = found.setdefault(", ".join(row["differences"]), [])
            runs.append(f"{name(row)} on {row['task']}")
    return [f"{'; '.join(runs)}: {text}" for text, runs in found.items()]
