"""The paper's ablations as populations: one table for each of them, and one figure.

    python -m experiments.ablations --out=results/ablations
    python -m experiments.ablations --full         (the tasks' own budgets, for an accelerator)
    python -m experiments.ablations --tasks=pointmaze --config.seeds=3

gamma, alpha, the policy's form, trust region against KL, EDM against the ELBO's weights, the value
target, and how many candidates act by softmax or argmax. Settings that are traced numbers are
members of one population; others are jobs of their own, below --runs, which is the folder of a
sweep (experiments.sweep --out=RUNS --job=3 runs one of them alone). Each job and each evaluation is
kept as it ends and not repeated; a job that was killed goes on from its newest checkpoint. Writes
ablations.png, table.md, table.json and run.json.
"""

import sys
from pathlib import Path

from absl import flags

from dtql_jax.commands import cli
from dtql_jax.errors import UserError, near_matches
from experiments.ablations import settings as ablations_config


def define(argv: list[str]) -> None:
    """The flags of this command."""
    cli.define_own_config(argv, ablations_config.get_config)
    flags.DEFINE_string(
        "out", "", "Folder; by default results/ablations or results/ablations-full."
    )
    flags.DEFINE_string("runs", "", "Folder of the jobs; by default as --out, below runs.")
    flags.DEFINE_boolean("full", False, "The tasks' own budgets (config.budget=full).")
    flags.DEFINE_list("tasks", [], "Only these of the configuration's tasks.")
    flags.DEFINE_boolean("dry_run", False, "Only say what would be trained.")
    cli.define_display()


def run() -> int:
    """The command."""
    values = flags.FLAGS
    if values.full:
        values.config.budget = "full"
    config = values.config.to_dict()
    names = values.tasks or list(config["tasks"])
    for name in names:
        if name not in config["settings"]:
            raise UserError(f"--tasks: no task {name!r}; {near_matches(name, config['settings'])}")
    folder = "ablations-full" if config["budget"] == "full" else "ablations"
    out, runs = Path(values.out or f"results/{folder}"), Path(values.runs or f"runs/{folder}")
    from dtql_jax.commands.sweeps import backends, plan
    from dtql_jax.presets import parts
    from experiments.ablations import points

    points.check(config)
    jobs = points.jobs(config, names)
    for job in jobs:
        parts.algorithm_of(job.config)
        parts.trainer_config(job.config)
    members = sum(len(job.members) for job in jobs)
    print(f"{members} members in {len(jobs)} jobs, in {runs}", file=sys.stderr)
    if values.dry_run:
        for job in jobs:
            print(f"{job.name}: {len(job.members)} members")
        return 0
    plan.write(runs / backends.PLAN, jobs, {"backend": "local"})
    display = cli.open_display("ablations", f"{members} members")
    with display, cli.stop_requested() as should_stop:
        stuck = []
        for number, job in enumerate(jobs):
            display.say(f"job {number + 1} of {len(jobs)}: {job.name}")
            try:
                if not backends.run_job(runs, number, display, should_stop):
                    return cli.STOPPED
            except cli.StuckError as error:  # the others need nothing of it
                display.warn(f"{job.name}: {error}")
                stuck.append(job.name)
        if stuck:
            raise cli.StuckError(f"{', '.join(stuck)} did not end; there is no table")
        found = _evaluate(config, names, runs, jobs, display)
    _write(config, names, out, runs, jobs, found)
    return 0


def _evaluate(config: dict, names: list[str], runs: Path, jobs: list, display) -> dict[str, list]:
    """The evaluations of each task's own members in all ways to act."""
    from dtql_jax.training.device import use_cpu_cores
    from experiments.ablations import acting, points

    use_cpu_cores()
    found = {}
    for name in names:
        own = points.own_point(config, name)
        job = points.job_of(jobs, config, own)
        found[name] = acting.evaluate(
            runs / job.name,
            dict(own.traced),
            acting.variants(config),
            config["acting_episodes"],
            runs / "acting",
            display,
        )
    return found


def _write(
    config: dict, names: list[str], out: Path, runs: Path, jobs: list, acted: dict[str, list]
) -> None:
    """The figure, the tables and the record."""
    import json

    from dtql_jax.training.device import describe_device
    from dtql_jax.training.run_folder import commit, versions, write_json
    from experiments.ablations import figures, points, tables

    rows = tables.trained(runs, config, names, jobs)
    for name in names:
        own = points.task_config(config, name)["algorithm"]
        rows += tables.acted(name, acted[name], own)
    summaries = [json.loads((runs / job.name / "summary.json").read_text()) for job in jobs]
    seconds = {job.name: s["seconds"] for job, s in zip(jobs, summaries, strict=True)}
    spent = sum(sum(each.values()) for each in seconds.values())
    spent += sum(facts["seconds"] for each in acted.values() for facts in each)
    device = describe_device()
    members = sum(len(job.members) for job in jobs)
    head = [
        "# Ablations of DTQL",
        "",
        "One setting is changed at a time. Means over seeds ± standard error over seeds; a task's "
        "own setting in bold. Data are generated here, not D4RL's.",
        "",
        *tables.head(config, runs, names, jobs),
        f"- {members} members in {len(jobs)} programs; {spent / 60:.0f} minutes of wall time on "
        f"{device['cpu_cores']} cores ({device['kind']}), evaluation included",
    ]
    text = "\n".join(head) + "\n\n" + tables.markdown(rows, names) + "\n"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out={out} cannot be made: {error.strerror}") from error
    (out / "table.md").write_text(text)
    write_json(out / "table.json", {"rows": rows, "acting": acted})
    about = {"config": config, "tasks": names, "seconds": seconds, "device": device}
    write_json(out / "run.json", about | {"versions": versions(), "commit": commit()})
    score_names = {name: acted[name][0]["score_name"] for name in names}
    figures.figure(
        rows,
        names,
        score_names,
        out / "ablations.png",
        f"mean ± standard error of {config['seeds']} seeds (dots); filled: the task's own setting",
    )
    print(text)


if __name__ == "__main__":
    cli.launch(run, __doc__, define)
