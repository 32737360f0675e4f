"""Builds a report: one HTML page that needs no other file and no network."""

import base64
import datetime
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
from flax.traverse_util import flatten_dict

from dtql_jax.commands.data_info import dataset_facts
from dtql_jax.commands.reporting import charts, scores
from dtql_jax.commands.reporting.runs import Run, Variant, members
from dtql_jax.commands.tables import cell_text
from dtql_jax.errors import UserError
from dtql_jax.presets import get_config

TEMPLATES = Path(__file__).parent / "templates"
_LARGEST_PICTURE = 4 << 20  # bytes


def build(variants: Sequence[Variant]) -> dict[str, Any]:
    """Returns the content of the template."""
    names = dict.fromkeys(variant.settings["task"] for variant in variants)
    tasks = [_task([v for v in variants if v.settings["task"] == name]) for name in names]
    rows = [row for task in tasks for row in task["scores"]]
    runs = list({m.run.path: m.run for variant in variants for m in variant.members}.values())
    datasets = {v.dataset["fingerprint"]: dataset_facts(v.dataset) for v in variants}
    return {
        "title": _title(variants),
        "date": datetime.date.today().isoformat(),
        "tasks": tasks,
        "aggregates": scores.aggregate_table(rows),
        "any_paper": any(scores.paper_score(row) is not None for row in rows),
        "single_seeds": any(len(row.values) == 1 for row in rows),
        "few_seeds": any(1 < len(row.values) < 5 for row in rows),
        "times": scores.time_table(runs),
        "datasets": list(datasets.values()),
        "runs": [_run(run) for run in runs],
        "warnings": [line for run in runs for line in _warnings(run)],
    }


def _title(variants: Sequence[Variant]) -> str:
    parts = []
    for field, plural in (("algorithm.name", "algorithms"), ("task", "tasks")):
        names = list(dict.fromkeys(variant.settings[field] for variant in variants))
        parts.append(", ".join(names) if len(names) < 5 else f"{len(names)} {plural}")
    return " on ".join(parts)


def _task(own: Sequence[Variant]) -> dict[str, Any]:
    """The section of one task."""
    found = [scores.score_of(variant) for variant in own]
    rows = [score for score in found if score is not None]
    metrics = charts.metric_names(own)
    return {
        "name": own[0].settings["task"],
        "dataset": own[0].dataset,
        "score_name": scores.score_name(own[0]),
        "labels": [variant.label for variant in own],
        "scores": rows,
        "table": scores.score_table(rows),
        "missing": [v.label for v, score in zip(own, found, strict=True) if score is None],
        "curve": charts.learning_curves(own),
        "metrics": {metric: charts.metric_curve(own, metric) for metric in metrics},
        "settings": scores.settings_table(own),
        "pictures": _pictures(own, "trajectories") + _pictures(own, "decisions"),
    }


def _pictures(own: Sequence[Variant], name: str) -> list[dict[str, Any]]:
    """The figures called `name` in the run folders; they show each run's first member."""
    found = []
    for label, run in [(v.label, m.run) for v in own for m in v.members if m.number == 0]:
        path = run.path / f"{name}.png"
        if path.is_file() and path.stat().st_size < _LARGEST_PICTURE:
            data = base64.b64encode(path.read_bytes()).decode()
            text = f"{name}: {label} ({run.path.name})"
            found.append({"data": data, "label": text, "wide": name == "decisions"})
    return found


def _run(run: Run) -> dict[str, Any]:
    """The facts that are needed to repeat a run."""
    versions = run.record.get("versions", {})
    return {
        "name": run.path.name,
        "commit": run.record.get("commit", "unknown"),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "command": repeat(run),
        "settings": sorted((k, json.dumps(v)) for k, v in members(run)[0].settings.items()),
        "ended": run.summary is not None,
    }


def repeat(run: Run) -> str:
    """Returns the shortest command with a run's configuration."""
    config = flatten_dict(run.record["config"], sep=".")
    if any(member.settings != config for member in members(run)) and "command" in run.record:
        # only the original command has the settings of each member
        _, script, *rest = run.record["command"]
        return shlex.join(["dtql-jax", Path(script).stem.split()[-1], *rest])
    task, preset, algorithm = (config[key] for key in ("task", "preset", "algorithm.name"))
    try:
        default = flatten_dict(get_config(f"{task},{preset},{algorithm}").to_dict(), sep=".")
    except UserError:
        default = {}  # a configuration file of the user's own
    changed = [f"--config.{k}={v}" for k, v in config.items() if default.get(k, v) != v]
    chosen = [f"--env={task}", f"--preset={preset}", f"--algorithm={algorithm}"]
    return shlex.join(["dtql-jax", "train", *chosen, *changed])


def _warnings(run: Run) -> list[str]:
    name, summary = run.path.name, run.summary
    if summary is None:
        return [f"{name} has not finished: scores of its last evaluation."]
    lines = [
        f"{name}, seed {member.seed}: {number} actions were not finite."
        for member, number in zip(
            members(run), summary.get("diverged_actions_by_seed", ()), strict=False
        )
        if number
    ]
    lines += [
        f"{name}, seed {member['seed']}: training diverged."
        for member in summary.get("members", ())
        if member["diverged"]
    ]
    if summary.get("warning"):
        lines.append(f"{name}: {summary['warning']}")
    return lines


def write(content: dict[str, Any], out: Path) -> Path:
    """Writes report.html into a folder; returns its path."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = cell_text
    environment.filters["svg"] = lambda figure, label: markupsafe.Markup(charts.svg(figure, label))
    out.mkdir(parents=True, exist_ok=True)
    path = out / "report.html"
    path.write_text(environment.get_template("report.html.j2").render(content).rstrip() + "\n")
    return path
