"""The paper's ablations as populations: one table for each of them, and one figure.

    python -m experiments.ablations --out=results/ablations
    python -m experiments.ablations --full         (the tasks' own budgets, for an accelerator)
    python -m experiments.ablations --tasks=pointmaze --config.seeds=3

Compares gamma, alpha, the policy's form, trust region and KL, the weights of EDM and the ELBO, the
value target, and acting by softmax or argmax over several numbers of candidates. Traced
hyperparameters are members of one population; others are jobs of their own in --runs, which is
the folder of a sweep (`dtql-jax sweep --out=RUNS --job=3` runs one of them alone). Finished jobs
and evaluations are not repeated, and an interrupted job resumes from its newest checkpoint. Writes
ablations.png, table.md, table.json and run.json.
"""

from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
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
    planned = points.plan(config, names)
    jobs = points.jobs(planned)
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
        plan.write(runs / backends.PLAN, jobs)
        failed: list[str] = []
        todo = [(runs / j.name, ml_collections.ConfigDict(j.config), j.members) for j in jobs]
        summaries = s.train_all(todo, failed)
        if failed:
            raise cli.StuckError(f"there is no table without {'; '.join(failed)}")
        rows = tables.trained(config, names, planned, summaries)
        for name in names:
            point = points.own_point(config, name)
            found = _evaluate(s, config, point, planned[point], runs)
            rows += tables.acted(name, found, planned[point].config["algorithm"])
        device = describe_device()
        lines = [
            *tables.setup(config, names, planned, summaries),
            f"- {members}; {s.seconds / 60:.0f} minutes of wall time on {device['cpu_cores']} "
            f"cores ({device['kind']}), evaluation included",
        ]
        text = (
            "# Ablations of DTQL\n\nOne setting is changed at a time. Means over seeds ± standard "
            "error over seeds; a task's own setting in bold. The data was collected here; it is "
            "not D4RL's.\n\n" + "\n".join(lines) + f"\n\n{tables.markdown(rows, names)}"
        )
        score_names = {
            name: summaries[planned[points.own_point(config, name)].name]["score_name"]
            for name in names
        }
        subtitle = (
            f"mean ± standard error of {config['seeds']} seeds (dots); filled: the task's own "
            "setting"
        )
        s.write(
            text,
            {"rows": rows},
            {"ablations.png": lambda path: figures.draw(rows, score_names, path, subtitle)},
        )


def _evaluate(
    s: study.Study, config: dict[str, Any], point: points.Point, job: plan.Job, runs: Path
) -> dict[tuple[str, int], np.ndarray]:
    """Returns the scores [P, episodes] of a point for each (selection, candidates)."""
    found, episodes = {}, config["acting_episodes"]
    for how in acting.variants(config):
        own = {"run": job.config, "selection": how[0], "candidates": how[1], "episodes": episodes}
        cell = s.cell(
            f"{job.name}-{how[0]}-{how[1]}",
            own,
            lambda how=how: acting.evaluate(
                runs / job.name, dict(point.traced), *how, episodes, s.display
            ),
        )
        found[how] = cell["scores"]
    return found


if __name__ == "__main__":
    cli.launch(run, __doc__, define)
