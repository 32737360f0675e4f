"""Builds a report: one HTML page that needs no other file and no network."""

from __future__ import annotations

import base64
import datetime
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import markupsafe

from dtql_jax.commands.reporting import charts, tables
from dtql_jax.commands.reporting.runs import Run, Variant, flat_settings, score_name
from dtql_jax.commands.tables import table
from dtql_jax.errors import UserError
from dtql_jax.presets import get_config

TEMPLATES = Path(__file__).parent / "templates"
_INLINED = 4 << 20  # bytes; a larger figure is left out


def build(variants: Sequence[Variant]) -> dict[str, Any]:
    """Returns everything that the template shows."""
    tasks = [_task(variants, task) for task in dict.fromkeys(v.task for v in variants)]
    rows = [row for task in tasks for row in task["scores"]]
    runs = list({run.path: run for v in variants for run in v.runs}.values())
    paper = any(row.paper for row in rows)
    for task in tasks:
        task["table"] = tables.score_table(task["scores"], paper)
    return {
        "title": _title(variants),
        "date": datetime.date.today().isoformat(),
        "tasks": tasks,
        "aggregates": tables.aggregate_table(tables.aggregates(rows)),
        "any_paper": paper,
        "single_seeds": any(row.seeds == 1 for row in rows),
        "few_seeds": any(1 < row.seeds < 5 for row in rows),
        "times": tables.time_table(variants),
        "datasets": _datasets(runs),
        "runs": [_run(run) for run in runs],
        "warnings": _warnings(runs),
    }


def _title(variants: Sequence[Variant]) -> str:
    labels = list(dict.fromkeys(v.run.config["algorithm"]["name"] for v in variants))
    tasks = list(dict.fromkeys(v.task for v in variants))
    shown = [", ".join(words) if len(words) < 5 else f"{len(words)} {kind}" for words, kind in (
        (labels, "algorithms"), (tasks, "tasks"))]  # fmt: skip
    return f"{shown[0]} on {shown[1]}"


def _task(variants: Sequence[Variant], task: str) -> dict[str, Any]:
    own = [variant for variant in variants if variant.task == task]
    name = score_name(own[0].run)
    found = [tables.score_of(variant) for variant in own]
    figures = [(m, charts.metric_curve(own, m)) for m in charts.metric_names(own)]
    return {
        "name": task,
        "score_name": name,
        "unit": " (%)" if name == "success rate" else "",
        "variants": own,
        "scores": [score for score in found if score is not None],
        "missing": [v.label for v, s in zip(own, found, strict=True) if s is None],
        "curve": charts.learning_curves(own, task, name),
        "metrics": [(metric, figure) for metric, figure in figures if figure is not None],
        "settings": tables.settings_table(own) if len(own) > 1 else ([], []),
        "pictures": _pictures(own),
    }


def _pictures(own: Sequence[Variant]) -> list[dict[str, Any]]:
    """The figures in the run folders that show the policy of the run's first member."""
    found = []
    drawn = [(v.label, run) for v in own for run, member in v.members if member == 0]
    for label, run in drawn:
        for name in ("trajectories.png", "decisions.png"):
            path = run.path / name
            if path.is_file() and path.stat().st_size < _INLINED:
                data = base64.b64encode(path.read_bytes()).decode()
                words = f"{path.stem}: {label} ({run.path.name})"
                found.append({"data": data, "label": words, "wide": name == "decisions.png"})
    return sorted(found, key=lambda picture: picture["wide"])


def _datasets(runs: Sequence[Run]) -> list[list[tuple[str, str]]]:
    """One list of (name, value) for each dataset."""
    cards = {}
    for run in runs:
        data = run.dataset
        env = data["env"]
        card = [
            ("task", data["task"]),
            ("source", data["source"]),
            ("dataset", data["dataset_id"]),
            ("fingerprint", data["fingerprint"]),
            ("transitions", f"{data['transitions']:,} in {data['episodes']:,} episodes"),
            ("observation", f"{data['observation_dim']}: {' + '.join(data['observation_layout'])}"),
            ("action", str(data["action_dim"])),
            ("environment", f"{env['env_id']}, at most {env['max_episode_steps']} steps"),
            ("success", "any reward above 0" if env["success"] == "reward" else "not known"),
        ]
        if data["reference_scores"]:
            low, high = data["reference_scores"]
            card.append(("D4RL's score", f"return {low:g} is 0, return {high:g} is 100"))
        if data["clipped_actions"]:
            card.append(("clipped", f"{data['clipped_actions']:,} action entries"))
        cards[data["fingerprint"]] = card
    return list(cards.values())


def _run(run: Run) -> dict[str, Any]:
    """What is needed to repeat a run."""
    versions = run.content.get("versions", {})
    flat = flat_settings(Variant("", [(run, 0)], {}))
    return {
        "name": run.path.name,
        "commit": run.content.get("commit", "unknown"),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "command": repeat(run),
        "settings": sorted((name, json.dumps(value)) for name, value in flat.items()),
        "ended": run.summary is not None,
    }


def repeat(run: Run) -> str:
    """Returns the shortest command with a run's configuration."""
    config = run.config
    if any(settings for _, settings in run.members) and "command" in run.content:
        # members with settings of their own: only the original command has them all
        _, script, *rest = run.content["command"]
        return shlex.join(["dtql-jax", Path(script).stem.split()[-1], *rest])
    words = ["dtql-jax train", f"--env={config['task']}"]
    words += [f"--preset={config['preset']}", f"--algorithm={config['algorithm']['name']}"]
    given = flat_settings(Variant("", [(run, 0)], {}))
    try:
        spec = f"{config['task']},{config['preset']},{config['algorithm']['name']}"
        default = get_config(spec).to_dict()
    except UserError:
        default = {"algorithm": {}}  # a configuration file of the user's own
    base = {k: v for k, v in default.items() if k != "algorithm"}
    base |= {f"algorithm.{k}": v for k, v in default["algorithm"].items()}
    known = {name: value for name, value in given.items() if base.get(name, value) != value}
    words += [f"--config.{name}={shlex.quote(str(value))}" for name, value in known.items()]
    return " ".join(words)


def _warnings(runs: Sequence[Run]) -> list[str]:
    lines = []
    for run in runs:
        if run.summary is None:
            lines.append(f"{run.path.name} has not finished: scores of its last evaluation.")
            continue
        bad = run.summary.get("diverged_actions_by_seed") or []
        for (seed, _), number in zip(run.members, bad, strict=False):
            if number:
                lines.append(f"{run.path.name}, seed {seed}: {number} actions were not finite.")
        for member in run.summary.get("members") or []:
            if isinstance(member, dict) and member.get("diverged"):
                lines.append(f"{run.path.name}, seed {member['seed']}: training diverged.")
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
    salts = iter(range(10**6))

    def drawing(figure: Any, label: str) -> Any:
        return markupsafe.Markup(charts.svg(figure, label, f"f{next(salts)}"))

    def html_table(content: tuple[list[str], list[list[Any]]]) -> Any:
        return markupsafe.Markup(table(*content, style="html"))

    environment.globals |= {"svg": drawing, "table": html_table}
    out.mkdir(parents=True, exist_ok=True)
    path = out / "report.html"
    path.write_text(environment.get_template("report.html.j2").render(content).rstrip() + "\n")
    return path
