"""Trains many members: seeds, settings and tasks, here or on a cluster; draws up one table.

    dtql-jax sweep --env=pointmaze-umaze --sweep alpha=0.5,1,5 --sweep gamma=0,1 \
        --seeds=5 --out=runs/grid
    dtql-jax sweep --backend=ray --tasks=gym,antmaze --seeds=5 --out=runs/table
    dtql-jax sweep --out=runs/grid

Members of a task whose settings differ in traced numbers (alpha, gamma, learning_rate, ...) are
one compiled program over all devices; other fields make jobs of their own. The last line goes on
with a sweep that was stopped.
"""

import sys
from pathlib import Path

from absl import flags

from dtql_jax.commands import cli
from dtql_jax.errors import UserError

BACKENDS = ("local", "ray", "slurm")

EXTRAS = ("envs", "reports", "tensorboard")


def define(argv: list[str]) -> None:
    """The flags of this command."""
    cli.define_config(argv)
    flags.DEFINE_multi_string("sweep", [], "FIELD=VALUE,VALUE,... of the configuration; repeat it.")
    flags.DEFINE_list("tasks", [], "Tasks or groups (gym, antmaze, adroit, kitchen, paper).")
    flags.DEFINE_integer("seeds", None, "Seeds of each setting (config.seeds).")
    flags.DEFINE_integer("steps", None, "Training updates (config.train_steps).")
    flags.DEFINE_string("source", None, "Data: auto, minari, d4rl or generated (config.source).")
    flags.DEFINE_string("out", None, "Folder of the sweep.")
    flags.DEFINE_enum("backend", "local", BACKENDS, "Where the jobs run.")
    flags.DEFINE_integer("max_members", 0, "Members of one job; 0: what the memory holds.")
    flags.DEFINE_integer("job", -1, "Run this one job of the sweep in --out, and no other.")
    flags.DEFINE_boolean("dry_run", False, "Only say what would be trained.")
    flags.DEFINE_string("address", "", "Of a Ray cluster; by default one on this machine.")
    flags.DEFINE_float("job_cpus", 1, "CPU cores of a job on a cluster.")
    flags.DEFINE_float("job_gpus", 0, "GPUs of a job on a cluster.")
    flags.DEFINE_float("job_tpus", 0, "TPUs of a job on a cluster.")
    flags.DEFINE_integer("retries", 3, "Of a job whose process or machine died.")
    flags.DEFINE_integer("at_once", 0, "Slurm: jobs at once; 0: no limit.")
    cli.define_display()


def _configs(argv: list[str]) -> list:
    """One configuration a task, with what the command line changes in each of them."""
    from dtql_jax.commands.sweeps import plan
    from dtql_jax.presets import get_config

    values, config = flags.FLAGS, flags.FLAGS.config
    if not values.tasks:
        configs = [config]
    else:
        if cli.given(argv, "config"):
            raise UserError("--tasks and --config=FILE exclude each other: a file is one task's")
        fields = [w.lstrip("-").removeprefix("config.") for w in argv if "-config." in w]
        configs = []
        for task in plan.expand_tasks(values.tasks):
            own = get_config(f"{task},{values.preset},{values.algorithm}")
            for field in (f.split("=")[0] for f in fields):
                cli.copy_field(config, own, field)
            configs.append(own)
    for own in configs:
        for flag, field in (("seeds", "seeds"), ("steps", "train_steps"), ("source", "source")):
            if values[flag].value is not None:
                own[field] = values[flag].value
    return configs


def _plan(argv: list[str]) -> list:
    """The jobs that the command line asks for."""
    import jax
    import numpy as np

    from dtql_jax.algorithms.config import traced_names
    from dtql_jax.commands.sweeps import plan
    from dtql_jax.datasets.registry import get_task
    from dtql_jax.presets import parts
    from dtql_jax.training import capacity
    from dtql_jax.types import Transition

    values, configs = flags.FLAGS, _configs(argv)
    if values.max_members < 0:
        raise UserError(f"--max_members is {values.max_members}; expected at least 0")
    axes = [plan.parse_axis(text, configs[0]) for text in values.sweep]
    traced, largest = {}, {}
    for config in configs:
        plain = config.to_dict()
        parts.trainer_config(plain)
        algorithm = parts.algorithm_of(plain)
        task = get_task(config.task)
        source = next(s for s in (task.generated, task.minari, *task.d4rl) if s is not None)
        sizes = source.observation_dim, source.action_dim
        one = [np.zeros((1, n), np.float32) for n in (sizes[0], sizes[1], sizes[0])]
        sample = Transition(*one, np.zeros(1, np.float32), np.zeros(1, np.float32))
        key = jax.eval_shape(lambda: jax.random.key(0))
        state = jax.eval_shape(algorithm.init, key, sample)
        traced[config.task] = traced_names(state.config)
        data = 4 * 2_000_000 * (2 * sizes[0] + sizes[1] + 2)
        largest[config.task] = values.max_members or capacity.members_that_fit(
            algorithm, sample, config.batch_size, data
        )
    jobs = plan.make_jobs(configs, axes, traced, largest)
    for job in jobs:
        parts.algorithm_of(job.config)
        parts.trainer_config(job.config)
    return jobs


def run() -> int:
    """The command."""
    values, argv = flags.FLAGS, sys.argv
    if not values.out:
        raise UserError("--out is missing; expected the folder of the sweep")
    out = Path(values.out)
    if values.job >= 0:
        display = cli.open_display(f"job {values.job} of {out}")
        with display, cli.stop_requested() as should_stop:
            from dtql_jax.commands.sweeps import backends

            ended = backends.run_job(out, values.job, display, should_stop)
        return 0 if ended else cli.STOPPED
    with cli.open_display(f"sweep in {out}") as display:
        from dtql_jax.commands.sweeps import backends, plan, results

        display.start("plan")
        if (out / backends.PLAN).exists() and not (values.sweep or values.tasks):
            jobs = plan.read(out / backends.PLAN)
        else:
            jobs = _plan(argv)
    members = sum(len(job.members) for job in jobs)
    print(f"{members} members in {len(jobs)} job(s), in {out}", file=sys.stderr)
    if values.dry_run:
        for job in jobs:
            print(f"{job.name}: {len(job.members)} members {job.settings or ''}")
        return 0
    plan.write(out / backends.PLAN, jobs, {"backend": values.backend})
    if values.backend == "slurm":
        cpus, gpus = max(1, round(values.job_cpus)), round(values.job_gpus)
        path = backends.slurm(out, jobs, cpus=cpus, gpus=gpus, at_once=values.at_once)
        print(f"sbatch {path}")
        return 0
    if values.backend == "ray":
        watch = backends.Watch(out, jobs, values.quiet)
        try:
            code = backends.ray(
                out,
                jobs,
                address=values.address,
                cpus=values.job_cpus,
                gpus=values.job_gpus,
                tpus=values.job_tpus,
                retries=values.retries,
                watch=watch,
            )
        finally:
            watch.close()
    else:
        options = [f"--{name}" for name in ("quiet", "verbose") if values[name].value]
        code = backends.local(out, jobs, options)
    print(results.write(out, jobs))
    return code
