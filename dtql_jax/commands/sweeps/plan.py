"""The plan of a sweep: jobs, each one population of members.

Traced hyperparameters (alpha, learning_rate, ...) may differ within a population, so a sweep over
them is one program. Any other field (batch_size, algorithm.policy, ...) makes jobs of its own. Jobs
share nothing, so they can run in any order and on any machine.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections

from dtql_jax.commands.cli import fields
from dtql_jax.commands.runner import Member
from dtql_jax.errors import UserError, near_matches
from dtql_jax.presets.parts import seeds_of

# tasks by domain; "paper" is table 1
PAPER = {
    "gym": tuple(
        f"{body}-{kind}"
        for kind in ("medium", "medium-replay", "medium-expert")
        for body in ("halfcheetah", "hopper", "walker2d")
    ),
    "antmaze": (
        *("antmaze-umaze", "antmaze-umaze-diverse", "antmaze-medium-play"),
        *("antmaze-medium-diverse", "antmaze-large-play", "antmaze-large-diverse"),
    ),
    "adroit": ("pen-human", "pen-cloned"),
    "kitchen": ("kitchen-complete", "kitchen-partial", "kitchen-mixed"),
}
GROUPS = PAPER | {
    "paper": tuple(itertools.chain.from_iterable(PAPER.values())),
    "pointmaze": ("pointmaze-umaze", "pointmaze-medium", "pointmaze-large"),
}


class Axis(NamedTuple):
    """One field of the configuration ("batch_size", "algorithm.alpha") and its values."""

    field: str
    values: tuple[Any, ...]


class Job(NamedTuple):
    """One population.

    Attributes:
      name: name of its folder in the sweep's.
      config: configuration of the run, as a plain dict.
      members: members of the population.
      settings: {field: value} of the axes that are not traced.
    """

    name: str
    config: dict[str, Any]
    members: tuple[Member, ...]
    settings: dict[str, Any]


def expand_tasks(names: Sequence[str]) -> list[str]:
    """Replaces the names of GROUPS by their tasks."""
    return list(dict.fromkeys(task for name in names for task in GROUPS.get(name, (name,))))


def parse_axis(text: str, config: ml_collections.ConfigDict) -> Axis:
    """Parses "alpha=0.5,1,5"; fields of the algorithm need no "algorithm.".

    Raises:
      UserError: there is no such field, or a value is not of its type.
    """
    name, equals, values = text.partition("=")
    words = [word.strip() for word in values.split(",")]
    if not equals or not all(words):
        raise UserError(f"--sweep {text!r}; expected FIELD=VALUE,VALUE,...")
    known = fields(config)
    field = f"algorithm.{name}" if f"algorithm.{name}" in known else name
    if field not in known or field in ("task", "preset", "algorithm.name", "seed", "seeds"):
        short = [field.removeprefix("algorithm.") for field in known]
        raise UserError(f"--sweep {name}: no such axis; {near_matches(name, short)}")
    kind = type(known[field])
    parse = _parse_bool if kind is bool else kind
    try:
        return Axis(field, tuple(parse(word) for word in words))
    except ValueError as error:
        expected = "true or false" if kind is bool else kind.__name__
        raise UserError(f"--sweep {text!r}: {error}; expected {expected}") from None


def _parse_bool(word: str) -> bool:
    if word.lower() not in ("true", "false"):
        raise ValueError(repr(word))
    return word.lower() == "true"


def make_jobs(
    configs: Sequence[ml_collections.ConfigDict],
    axes: Sequence[Axis],
    traced: Mapping[str, Sequence[str]],
    largest: Mapping[str, int],
) -> list[Job]:
    """Returns the jobs of a sweep over all tasks (one of `configs` each), with all their seeds.

    Args:
      traced: {task: names of the algorithm's traced hyperparameters}.
      largest: {task: most members of a job}.
    """
    jobs: list[Job] = []
    for config in configs:
        may_differ = {f"algorithm.{name}" for name in traced[config.task]}
        inner = [axis for axis in axes if axis.field in may_differ]
        outer = [axis for axis in axes if axis.field not in may_differ]
        size = largest[config.task]
        for settings in _grid(outer):
            # a weight of 0 would remove its term from the program of all members
            shared = {axis.field: next(filter(None, axis.values), axis.values[0]) for axis in inner}
            own = ml_collections.ConfigDict(config.to_dict())
            own.update_from_flattened_dict(settings | shared)
            members = [
                Member(seed, {k.removeprefix("algorithm."): float(v) for k, v in point.items()})
                for point in _grid(inner)
                for seed in seeds_of(own.to_dict())
            ]
            for start in range(0, len(members), size):
                name = f"{len(jobs):03d}-{config.task}-{config.algorithm.name}"
                chunk = tuple(members[start : start + size])
                jobs.append(Job(name, own.to_dict(), chunk, settings))
    return jobs


def _grid(axes: Sequence[Axis]) -> list[dict[str, Any]]:
    """All combinations of values, as {field: value}."""
    points = itertools.product(*(axis.values for axis in axes))
    return [dict(zip((axis.field for axis in axes), point, strict=True)) for point in points]


def write(path: Path, jobs: Sequence[Job]) -> None:
    """Writes a plan; UserError where the folder holds another one, or other files."""
    plain = _plain(jobs)
    if path.exists():
        if _plain(read(path)) != json.loads(json.dumps(plain)):
            raise UserError(f"OUT {path.parent} holds another sweep; choose another OUT")
        return
    if path.parent.is_dir() and any(path.parent.iterdir()):
        raise UserError(f"OUT {path.parent} is not empty; expected a new or an empty folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"jobs": plain}, indent=1) + "\n")


def _plain(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    return [job._asdict() | {"members": [m._asdict() for m in job.members]} for job in jobs]


def read(path: Path) -> list[Job]:
    """Reads the jobs of a plan; UserError where there is none."""
    try:
        jobs = json.loads(path.read_text())["jobs"]
        members = [tuple(Member(**member) for member in job["members"]) for job in jobs]
        return [Job(**(job | {"members": own})) for job, own in zip(jobs, members, strict=True)]
    except FileNotFoundError:
        raise UserError(f"{path.parent} holds no {path.name}; expected a sweep's folder") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a sweep's plan: {error}") from error
