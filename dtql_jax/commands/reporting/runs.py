"""Reads the folders of runs for a report and puts what belongs together side by side."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from dtql_jax.envs.spec import EnvSpec
from dtql_jax.errors import UserError
from dtql_jax.evaluation import scores
from dtql_jax.training.logging import read_rows

# what does not change a member's course
_NOT_OF_A_VARIANT = ("seed", "seeds", "eval_envs", "eval_workers", "record_episodes", "d4rl_dir")


@dataclasses.dataclass(frozen=True)
class Run:
    """One run folder as it is on disk.

    Attributes:
      path: of the folder.
      content: run.json.
      summary: summary.json, or None where the run has not ended.
      evaluations: rows of evaluations.csv.
      metrics: rows of metrics.csv.
      episodes: rows of episodes.csv.
    """

    path: Path
    content: dict[str, Any]
    summary: dict[str, Any] | None
    evaluations: list[dict[str, str]]
    metrics: list[dict[str, str]]
    episodes: list[dict[str, str]]

    @property
    def config(self) -> dict[str, Any]:
        """The configuration."""
        return self.content["config"]

    @property
    def dataset(self) -> dict[str, Any]:
        """What is known of the data."""
        return self.content["dataset"]

    @property
    def members(self) -> list[tuple[int, dict[str, float]]]:
        """(seed, settings of its own) of each member."""
        if "members" in self.content:
            return [(m["seed"], m["settings"]) for m in self.content["members"]]
        return [(self.config["seed"] + i, {}) for i in range(self.config["seeds"])]

    def rows_of(self, rows: Iterable[dict[str, str]], member: int) -> list[dict[str, str]]:
        """The rows of one member; logs of earlier versions name its seed only."""
        seed = str(self.members[member][0])
        return [
            r for r in rows if r.get("member", str(member)) == str(member) and r["seed"] == seed
        ]


@dataclasses.dataclass
class Variant:
    """Members that differ in their seed only, of one run or of several.

    Attributes:
      label: short and unlike that of any other variant of its task.
      members: (run, index of the member).
      settings: the algorithm's settings that these members have of their own.
    """

    label: str
    members: list[tuple[Run, int]]
    settings: dict[str, float]

    @property
    def run(self) -> Run:
        """The first of its runs."""
        return self.members[0][0]

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.run.config["task"]

    @property
    def runs(self) -> list[Run]:
        """Its runs, each once."""
        return list({run.path: run for run, _ in self.members}.values())

    @property
    def seeds(self) -> list[int]:
        """The members' seeds."""
        return [run.members[member][0] for run, member in self.members]

    def episode_scores(self) -> tuple[str, list[np.ndarray]]:
        """(name of the score, its values of the last checkpoint, one array for each member).

        Empty arrays where a run has not ended.
        """
        spec = EnvSpec.from_dict(self.run.dataset["env"])
        reference = self.run.dataset["reference_scores"]
        name, values = "", []
        for run, member in self.members:
            rows = run.rows_of(run.episodes, member)
            returns = np.array([[float(row["return"]) for row in rows]])
            successes = np.array([[row["success"] == "1" for row in rows]])
            if not rows:
                values.append(np.zeros(0))
                continue
            name, own = scores.score(
                returns, successes, spec, tuple(reference) if reference else None
            )
            values.append(own[0])
        return name or score_name(self.run), values

    def curves(self, table: str, column: str) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Place among the members -> (updates [n], values [n]) of a column; empty cells are out."""
        found = {}
        for place, (run, member) in enumerate(self.members):
            points = {
                int(row["update"]): float(row[column])
                for row in run.rows_of(getattr(run, table), member)
                if row.get(column, "") not in ("", None)
            }
            if points:
                at = np.array(sorted(points))
                found[place] = at, np.array([points[update] for update in at])
        return found


def score_name(run: Run) -> str:
    """What a run's scores are called."""
    if run.dataset["reference_scores"]:
        return "normalised score"
    return "success rate" if run.dataset["env"]["success"] != "none" else "return"


def find_folders(words: Iterable[str]) -> list[Path]:
    """The run folders that are meant: a run's own, or all runs right below a folder.

    Raises:
      UserError: a folder is neither.
    """
    found: list[Path] = []
    for word in words:
        path = Path(word)
        if (path / "run.json").is_file():
            found.append(path)
            continue
        below = sorted(p.parent for p in path.glob("*/run.json"))
        if not below:
            raise UserError(
                f"RUN {word} holds no run.json; expected the folder of a run, or of runs"
            )
        found += below
    return list(dict.fromkeys(found))


def read_run(path: Path) -> Run:
    """Reads a run's folder, also one that is still being written.

    Raises:
      UserError: its JSON files cannot be read or lack something.
    """
    content = _read_json(path / "run.json")
    for key in ("config", "dataset"):
        if key not in content:
            raise UserError(f"{path / 'run.json'} lacks {key!r}; it is not this program's")
    summary = path / "summary.json"
    tables = (read_rows(path / f"{name}.csv") for name in ("evaluations", "metrics", "episodes"))
    return Run(path, content, _read_json(summary) if summary.is_file() else None, *tables)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def variants(runs: Iterable[Run]) -> list[Variant]:
    """Members that differ in their seed only, put together; in the order in which they came."""
    groups: dict[tuple[str, int], list[tuple[Run, int]]] = {}
    for run in runs:
        for i, (seed, settings) in enumerate(run.members):
            key, copy = _key(run, settings), 0
            while any(r.members[m][0] == seed for r, m in groups.get((key, copy), [])):
                copy += 1  # the same seed again: a repetition, not another draw
            groups.setdefault((key, copy), []).append((run, i))
    found = [Variant("", own, own[0][0].members[own[0][1]][1]) for own in groups.values()]
    for task in dict.fromkeys(v.task for v in found):
        _label([v for v in found if v.task == task])
    return found


def _key(run: Run, settings: dict[str, float]) -> str:
    config = {k: v for k, v in run.config.items() if k not in _NOT_OF_A_VARIANT}
    return json.dumps([config, settings, run.dataset["fingerprint"]], sort_keys=True)


def _label(own: list[Variant]) -> None:
    """Names the variants of one task: the algorithm, and what else tells them apart."""
    for variant in own:
        name = variant.run.config["algorithm"]["name"]
        alike = [v for v in own if v.run.config["algorithm"]["name"] == name]
        words = [name]
        for field in differing(alike):
            value = flat_settings(alike[alike.index(variant)]).get(field)
            words.append(f"{field.removeprefix('algorithm.')}={value}")
        variant.label = " ".join(words)
    labels = [variant.label for variant in own]
    for variant in own:
        if labels.count(variant.label) > 1:
            variant.label = f"{variant.label} ({variant.run.path.name})"


def flat_settings(variant: Variant) -> dict[str, Any]:
    """A variant's configuration as {"algorithm.alpha": 1.0, "batch_size": 256, ...}."""
    flat: dict[str, Any] = {}
    for key, value in variant.run.config.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{name}": entry for name, entry in value.items()}
        else:
            flat[key] = value
    return flat | {f"algorithm.{name}": value for name, value in variant.settings.items()}


def differing(own: list[Variant]) -> list[str]:
    """Names of the settings in which variants differ, without those that name the task."""
    flat = [flat_settings(variant) for variant in own]
    names = list(dict.fromkeys(name for settings in flat for name in settings))
    skipped = ("task", *_NOT_OF_A_VARIANT)
    return [
        name
        for name in names
        if name not in skipped and len({json.dumps(f.get(name)) for f in flat}) > 1
    ]
