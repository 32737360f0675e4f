"""What a sweep trains: populations of members, one job each.

A setting that the algorithm traces (alpha, learning_rate, ...) may differ within a population, so
a sweep over it is one program. Any other field (batch_size, algorithm.policy, ...) makes jobs of
its own. Jobs share nothing: whoever runs them, and wherever, the results are the same.
"""

import copy
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections

from dtql_jax.commands.cli import field_names
from dtql_jax.commands.runner import Member
from dtql_jax.errors import UserError, near_matches
from dtql_jax.presets.parts import seeds_of

# tasks by the names of their domains; "paper" is table 1
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
    """One field of the configuration and the values that it takes in a sweep."""

    field: str  # "algorithm.alpha", "batch_size"
    values: tuple[Any, ...]


class Job(NamedTuple):
    """One population.

    Attributes:
      name: of its folder below the sweep's.
      config: of the run, as a plain dict.
      members: of the population, as `runner.Member`s.
      settings: {field: value} of the axes that are not traced.
    """

    name: str
    config: dict[str, Any]
    members: tuple[Member, ...]
    settings: dict[str, Any]


def expand_tasks(names: Sequence[str]) -> list[str]:
    """Task names, with the groups of GROUPS put in place of their names."""
    return list(dict.fromkeys(task for name in names for task in GROUPS.get(name, (name,))))


def parse_axis(text: str, config: ml_collections.ConfigDict) -> Axis:
    """The axis that "alpha=0.5,1,5" names; a field of the algorithm needs no "algorithm.".

    Raises:
      UserError: there is no such field, or a value is not of its type.
    """
    name, equals, values = text.partition("=")
    if not equals or not all(value.strip() for value in values.split(",")):
        raise UserError(f"--sweep {text!r}; expected FIELD=VALUE,VALUE,...")
    known = field_names(config)
    field = f"algorithm.{name}" if f"algorithm.{name}" in known else name
    if field not in known or field in ("task", "preset", "algorithm.name", "seed", "seeds"):
        short = [f.removeprefix("algorithm.") for f in known]
        raise UserError(f"--sweep {name}: no such axis; {near_matches(name, short)}")
    kind = type(_get(config, field))
    return Axis(field, tuple(_parse(text, v.strip(), kind) for v in values.split(",")))


def make_jobs(
    configs: Sequence[ml_collections.ConfigDict],
    axes: Sequence[Axis],
    traced: Mapping[str, Sequence[str]],
    largest: Mapping[str, int],
) -> list[Job]:
    """The jobs of a sweep.

    Args:
      configs: one for each task; their seeds are the seeds of every setting.
      axes: of the sweep, the same for all tasks.
      traced: task -> names of the algorithm's traced numbers.
      largest: task -> members that one job may have.
    """
    jobs = []
    for config in configs:
        inner = [a for a in axes if a.field.removeprefix("algorithm.") in traced[config.task]]
        inner = [a for a in inner if a.field.startswith("algorithm.")]
        outer = [a for a in axes if a not in inner]
        for values in itertools.product(*(a.values for a in outer)):
            settings = dict(zip((a.field for a in outer), values, strict=True))
            own = copy.deepcopy(config.to_dict())
            for field, value in settings.items():
                _set(own, field, value)
            for axis in inner:
                # a weight of 0 would leave its term out of everybody's program
                _set(own, axis.field, next((v for v in axis.values if v), axis.values[0]))
            members = [
                Member(seed, _names(dict(zip((a.field for a in inner), point, strict=True))))
                for point in itertools.product(*(a.values for a in inner))
                for seed in seeds_of(own)
            ]
            size = largest[config.task]
            for start in range(0, len(members), size):
                name = f"{len(jobs):03d}-{config.task}-{config.algorithm.name}"
                chunk = tuple(members[start : start + size])
                jobs.append(Job(name, own, chunk, settings))
    return jobs


def write(path: Path, jobs: Sequence[Job], about: Mapping[str, Any]) -> None:
    """Writes a sweep's plan; UserError where the folder holds another one."""
    content = dict(about) | {"jobs": [_plain(job) for job in jobs]}
    text = json.dumps(content, indent=1) + "\n"
    if path.exists():
        if path.read_text() != text:
            raise UserError(f"OUT {path.parent} holds another sweep; choose another OUT")
        return
    if path.parent.is_dir() and any(path.parent.iterdir()):
        raise UserError(f"OUT {path.parent} is not empty; expected a new or an empty folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def read(path: Path) -> list[Job]:
    """The jobs of a plan; UserError where there is none."""
    try:
        jobs = json.loads(path.read_text())["jobs"]
        return [
            Job(j["name"], j["config"], tuple(Member(**m) for m in j["members"]), j["settings"])
            for j in jobs
        ]
    except FileNotFoundError:
        raise UserError(f"{path.parent} holds no {path.name}; expected a sweep's folder") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a sweep's plan: {error}") from error


def _plain(job: Job) -> dict[str, Any]:
    return job._asdict() | {"members": [member._asdict() for member in job.members]}


def _names(settings: Mapping[str, Any]) -> dict[str, float]:
    return {field.removeprefix("algorithm."): float(v) for field, v in settings.items()}


def _get(config: Any, field: str) -> Any:
    for key in field.split("."):
        config = config[key]
    return config


def _set(config: dict[str, Any], field: str, value: Any) -> None:
    *path, last = field.split(".")
    for key in path:
        config = config[key]
    config[last] = value


def _parse(text: str, value: str, kind: type) -> Any:
    if kind is bool:
        if value.lower() not in ("true", "false"):
            raise UserError(f"--sweep {text!r}: {value!r}; expected true or false")
        return value.lower() == "true"
    try:
        return kind(value)
    except ValueError:
        raise UserError(f"--sweep {text!r}: {value!r}; expected {kind.__name__}") from None
