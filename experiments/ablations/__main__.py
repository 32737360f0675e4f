"""The paper's ablations as populations: one table for each of them, and one figure.

    python -m experiments.ablations --out=results/ablations
    python -m experiments.ablations --full         (the tasks' own budgets, for an accelerator)
    python -m experiments.ablations --tasks=pointmaze --config.seeds=3

Compared are gamma, alpha, the policy's form, trust region and KL, the weights of EDM and the ELBO,
the value target, and acting by softmax or argmax over several numbers of candidates. Traced
hyperparameters are members of one population; others are jobs of their own in --runs, which is
the folder of a sweep (`dtql-jax sweep --out=RUNS --job=3` runs one of them alone). Finished jobs
and evaluations are not repeated, an interrupted job resumes from its newest checkpoint. Writes
ablations.png, table.md, table.json and run.json.
"""

from pathlib import Path
from typing import Any

import ml_collections
from absl import flags

from dtql_jax.commands import cli
from dtql_jax.commands.sweeps import backends, plan
from dtql_jax.errors import UserError, near_matches
from dtql_jax.presets import parts
from dtql_jax.training.device import describe_device
from experiments import study
from experiments.ablations import acting, figures, points, tables
from experiments.ablations.settings import get_config


def define(argv: list[str]) -> None:
    """Defines the flags of this command."""
    study.define(argv, get_config, "")
    flags.DEFINE_string("runs", "", "Folder of the jobs; by default runs/ablations[-full].")
    flags.DEFINE_boolean("full", False, "The tasks' own budgets (config.budget=full).")
    flags.DEFINE_list("tasks", [], "Only these of the configuration's tasks.")
    flags.DEFINE_boolean("dry_run", False, "Only say what would be trained.")


def run() -> None:
    """Trains all jobs, evaluates the ways to act, and writes the results."""
    values = flags.FLAGS
    if values.full:
        values.config.budget = "full"
    config = study.settings()
    names = values.tasks or list(config["tasks"])
    for name in names:
        if name not in config["settings"]:
            raise UserError(f"--tasks: no task {name!r}; {near_matches(name, config['settings'])}")
    points.check(config)
    jobs = points.jobs(config, names)
    for job in jobs:
        parts.algorithm_of(job.config)
        parts.trainer_config(job.config)
    members = f"{sum(len(job.members) for job in jobs)} members in {len(jobs)} jobs"
    if values.dry_run:
        print("\n".join([members, *(f"{job.name}: {len(job.members)} members" for job in jobs)]))
        return
    folder = "ablations-full" if config["budget"] == "full" else "ablations"
    runs = Path(values.runs or f"runs/{folder}")
    about = {"settings": config, "tasks": names}
    with study.Study("ablations", about, members, out=values.out or f"results/{folder}") as s:
        plan.write(runs / backends.PLAN, jobs, {"backend": "local"})
        summaries = _train(s, runs, jobs)
        rows = tables.trained(config, names, jobs, summaries)
        score_names = {}
        for name in names:
            found = _evaluate(s, config, name, runs, jobs)
            score_names[name] = found.pop("score_name")
            own = points.task_config(config, name)["algorithm"]
            rows += tables.acted(name, found, own)
        device = describe_device()
        lines = [
            *tables.setup(config, names, jobs, summaries),
            f"- {members}; {s.seconds / 60:.0f} minutes of wall time on {device['cpu_cores']} "
            f"cores ({device['kind']}), evaluation included",
        ]
        subtitle = (
            f"mean ± standard error of {config['seeds']} seeds (dots); filled: the task's own "
            "setting"
        )
        text = (
            "# Ablations of DTQL\n\nOne setting is changed at a time. Means over seeds ± standard "
            "error over seeds; a task's own setting in bold. The data was collected here; it is "
            "not D4RL's.\n\n" + "\n".join(lines) + f"\n\n{tables.markdown(rows, names)}"
        )
        s.write(
            text,
            {"rows": rows},
            {"ablations.png": lambda path: figures.draw(rows, names, score_names, path, subtitle)},
        )


def _train(s: study.Study, runs: Path, jobs: list[plan.Job]) -> dict[str, Any]:
    """Trains all jobs; returns their summaries by name. A failed job does not stop the others."""
    summaries, failed = {}, []
    for number, job in enumerate(jobs):
        s.display.say(f"job {number + 1} of {len(jobs)}: {job.name}")
        config = ml_collections.ConfigDict(job.config)
        try:
            summaries[job.name] = s.train(runs / job.name, config, job.members)
        except cli.StuckError as error:
            s.display.warn(f"{job.name}: {error}")
            failed.append(job.name)
    if failed:
        raise cli.StuckError(f"{', '.join(failed)} could not be finished; there is no table")
    return summaries


def _evaluate(
    s: study.Study, config: dict[str, Any], name: str, runs: Path, jobs: list[plan.Job]
) -> dict[Any, Any]:
    """Evaluates a task's own setting in all ways to act.

    Returns:
      {(selection, candidates): scores [P, episodes]}, and "score_name".
    """
    point = points.own_point(config, name)
    job, episodes = points.job_of(jobs, config, point), config["acting_episodes"]
    found: dict[Any, Any] = {}
    for selection, number in acting.variants(config):
        settings = {"run": job.config, "selection": selection, "candidates": number}
        cell = s.cell(
            f"{job.name}-{selection}-{number}",
            settings | {"episodes": episodes},
            lambda how=(selection, number): acting.evaluate(
                runs / job.name, dict(point.traced), *how, episodes, s.display
            ),
        )
        found[selection, number] = cell["scores"]
        found["score_name"] = str(cell["score_name"])
    return found


if __name__ == "__main__":
    cli.launch(run, __doc__, define)
