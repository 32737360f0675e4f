"""Compared settings, grouped into populations.

A point is one setting of the algorithm on one task. Points that differ only in traced
hyperparameters (alpha, gamma above 0) are members of one job. Every other difference (gamma 0,
another policy, weighting, value target or algorithm) needs its own program, and so its own job. A
point that several comparisons share is trained once.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dtql_jax.commands.runner import Member
from dtql_jax.commands.sweeps.plan import Job
from dtql_jax.errors import UserError, near_matches
from dtql_jax.presets import get_config
from experiments import study

BUDGETS = ("short", "full")


class Point(NamedTuple):
    """One setting.

    Attributes:
      task: name in the study's configuration ("hopper").
      algorithm: its name.
      static: ((field, value), ...) that differ from the task's own and make a program.
      traced: ((field, value), ...), the same fields for all points of an algorithm.
    """

    task: str
    algorithm: str
    static: tuple[tuple[str, Any], ...]
    traced: tuple[tuple[str, float], ...]

    @property
    def program(self) -> tuple[Any, ...]:
        """Identifies the compiled program; whether there is an NLL is static."""
        return self.task, self.algorithm, self.static, dict(self.traced).get("gamma", 0.0) != 0.0


def check(config: Mapping[str, Any]) -> None:
    """Raises UserError for the first setting that is out of range."""
    if config["budget"] not in BUDGETS:
        raise UserError(
            f"budget is {config['budget']!r}; {near_matches(config['budget'], BUDGETS)}"
        )
    study.check_least(config, seeds=1, acting_episodes=1)
    for name in ("gamma", "alpha_factors", "candidates"):
        if min(config[name]) < 0:
            raise UserError(f"{name} are {config[name]}; expected numbers >= 0")


def task_config(config: Mapping[str, Any], name: str, algorithm: str = "dtql") -> dict[str, Any]:
    """Returns the configuration of a run with the task's own settings."""
    own = config["settings"][name]
    budget = dict(own[config["budget"]])
    settings = budget.pop("algorithm", {})
    found: Any = get_config(f"{own['task']},{budget.pop('preset', 'auto')},{algorithm}")
    found.update(budget)
    for field, value in settings.items():
        if field in found.algorithm:
            found.algorithm[field] = value
    found.seeds, found.seed = config["seeds"], config["seed"]
    return found.to_dict()


def own_point(config: Mapping[str, Any], name: str, **changes: Any) -> Point:
    """Returns a task's own setting of DTQL, or of another `algorithm`, with some changes."""
    algorithm = changes.pop("algorithm", "dtql")
    settings = task_config(config, name, algorithm)["algorithm"]
    fields = [f for f in ("alpha", "gamma") if f in settings]
    traced = tuple((f, float(changes.pop(f, settings[f]))) for f in fields)
    # a field at its own value is no change
    static = tuple(sorted((f, v) for f, v in changes.items() if settings[f] != v))
    return Point(name, algorithm, static, traced)


def compared(config: Mapping[str, Any], name: str) -> list[tuple[str, str, Point]]:
    """Returns (comparison, value, point) of all comparisons on a task; points may repeat."""

    def point(**changes: Any) -> Point:
        return own_point(config, name, **changes)

    alpha = dict(point().traced)["alpha"]
    found = [("gamma", f"{g:g}", point(gamma=g)) for g in config["gamma"]]
    found += [("alpha", f"{alpha * f:g}", point(alpha=alpha * f)) for f in config["alpha_factors"]]
    found += [("policy", kind, point(policy=kind, gamma=0.0)) for kind in config["policy"]]
    for algorithm in config["objective"]:
        if algorithm == "dtql":
            implicit = point(policy="implicit", gamma=0.0)
            found.append(("objective", "trust region", point()))
            found.append(("objective", "trust region, implicit policy", implicit))
        else:
            other = point(algorithm=algorithm, alpha=config["kl_alpha"])
            found.append(("objective", "KL, implicit policy", other))
    for field in ("weighting", "value_target"):
        found += [(field, value, point(**{field: value})) for value in config[field]]
    return found


def plan(config: Mapping[str, Any], names: Sequence[str]) -> dict[Point, Job]:
    """Returns the job that trains each point; a job's members are its points times seeds."""
    programs: dict[tuple[Any, ...], list[Point]] = {}
    for name in names:
        for _, _, point in compared(config, name):
            points = programs.setdefault(point.program, [])
            if point not in points:
                points.append(point)
    found = {}
    for number, points in enumerate(programs.values()):
        job = _job(config, number, points)
        found |= dict.fromkeys(points, job)
    return found


def _job(config: Mapping[str, Any], number: int, points: Sequence[Point]) -> Job:
    task, algorithm, static, traced = points[0]
    own = task_config(config, task, algorithm)
    # gamma must be above 0 in the configuration of a population with an NLL
    own["algorithm"] |= dict(static) | dict(traced)
    seeds = [config["seed"] + i for i in range(config["seeds"])]
    members = tuple(Member(seed, dict(point.traced)) for point in points for seed in seeds)
    words = [algorithm, *(str(value) for _, value in static)]
    words += ["gamma0"] * (dict(traced).get("gamma") == 0.0)
    settings = {f"algorithm.{field}": value for field, value in static}
    return Job(f"{number:02d}-{task}-{'-'.join(words)}", own, members, settings)


def jobs(planned: Mapping[Point, Job]) -> list[Job]:
    """Returns the jobs of a plan, in order."""
    return list({job.name: job for job in planned.values()}.values())
