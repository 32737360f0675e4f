"""Reads run folders for a report, and groups members that differ only in their seed."""

import collections
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict

from dtql_jax.commands.runner import members_of
from dtql_jax.errors import UserError
from dtql_jax.training.logging import read_rows
from dtql_jax.training.run_folder import RunFolder

LOGS = ("metrics", "evaluations", "episodes")
# settings that do not change how a member is trained
_NOT_TRAINING = ("seed", "seeds", "eval_envs", "eval_workers", "record_episodes", "d4rl_dir")


class Run(NamedTuple):
    """The content of one run folder.

    Attributes:
      path: path of the folder.
      record: run.json.
      summary: summary.json; None until the run has ended.
      logs: rows of the CSV files "metrics", "evaluations" and "episodes".
    """

    path: Path
    record: dict[str, Any]
    summary: dict[str, Any] | None
    logs: dict[str, list[dict[str, str]]]


class Member(NamedTuple):
    """One member of a run, with all its settings as {"algorithm.alpha": 1.0, ...}."""

    run: Run
    number: int
    seed: int
    settings: dict[str, Any]

    def rows(self, log: str) -> list[dict[str, str]]:
        """The member's rows of a log."""
        return [row for row in self.run.logs[log] if row["member"] == str(self.number)]

    def curve(self, log: str, column: str) -> tuple[np.ndarray, np.ndarray]:
        """A column of a log as (updates [n], values [n]), without empty cells."""
        points = {
            int(row["update"]): float(row[column]) for row in self.rows(log) if row.get(column)
        }
        return np.array(list(points)), np.array(list(points.values()))


class Variant(NamedTuple):
    """Members that differ only in their seed, of one or several runs."""

    label: str
    members: list[Member]

    @property
    def dataset(self) -> dict[str, Any]:
        """The record of the dataset."""
        return self.members[0].run.record["dataset"]

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the first member."""
        return self.members[0].settings


def read_runs(words: Iterable[str]) -> list[Run]:
    """Reads runs, given their folders or folders of several runs.

    Raises:
      UserError: a folder is neither, or its files cannot be read.
    """
    paths: dict[Path, None] = {}
    for word in words:
        files = [Path(word) / "run.json"]
        if not files[0].is_file():
            files = sorted(Path(word).glob("*/run.json"))
        if not files:
            raise UserError(
                f"RUN {word} holds no run.json; expected the folder of a run, or of runs"
            )
        paths |= {file.parent: None for file in files}
    return [_read(path) for path in paths]


def _read(path: Path) -> Run:
    summary = path / "summary.json"
    try:
        result = json.loads(summary.read_text()) if summary.is_file() else None
    except (OSError, ValueError) as error:
        raise UserError(f"{summary} cannot be read: {error}") from error
    logs = {
        name: read_rows(path / f"{name}.csv") for name in ("metrics", "evaluations", "episodes")
    }
    return Run(path, RunFolder.read(path), result, logs)


def members(run: Run) -> list[Member]:
    """Returns the members of a run."""
    shared = flatten_dict(run.record["config"], sep=".")
    return [
        Member(run, i, seed, shared | {f"algorithm.{name}": x for name, x in own.items()})
        for i, (seed, own) in enumerate(members_of(run.record))
    ]


def variants(runs: Iterable[Run]) -> list[Variant]:
    """Groups members that differ only in their seed, in the order of the runs."""
    groups: dict[tuple[str, int], list[Member]] = {}
    for member in (member for run in runs for member in members(run)):
        training = {k: v for k, v in member.settings.items() if k not in _NOT_TRAINING}
        fingerprint = member.run.record["dataset"]["fingerprint"]
        key = json.dumps([training, fingerprint], sort_keys=True)
        copy = 0
        while any(other.seed == member.seed for other in groups.get((key, copy), [])):
            copy += 1  # the same seed again is a repetition, not another draw
        groups.setdefault((key, copy), []).append(member)
    firsts = [group[0] for group in groups.values()]
    labels = [_label(first, firsts) for first in firsts]
    numbers = collections.Counter(
        (first.settings["task"], label) for first, label in zip(firsts, labels, strict=True)
    )
    found = []
    for group, label in zip(groups.values(), labels, strict=True):
        if numbers[group[0].settings["task"], label] > 1:
            label = f"{label} ({group[0].run.path.name})"
        found.append(Variant(label, group))
    return found


def _label(member: Member, others: Sequence[Member]) -> str:
    """The algorithm, and the settings that distinguish a member on its task."""
    name = member.settings["algorithm.name"]
    alike = [
        other.settings
        for other in others
        if (other.settings["task"], other.settings["algorithm.name"])
        == (member.settings["task"], name)
    ]
    words = [
        f"{field.removeprefix('algorithm.')}={member.settings.get(field)}"
        for field in differing(alike)
    ]
    return " ".join([name, *words])


def differing(settings: Sequence[dict[str, Any]]) -> list[str]:
    """Returns the names of the settings that are not the same everywhere, without the task's."""
    names = dict.fromkeys(name for own in settings for name in own)
    return [
        name
        for name in names
        if name not in ("task", *_NOT_TRAINING)
        and len({json.dumps(own.get(name)) for own in settings}) > 1
    ]
