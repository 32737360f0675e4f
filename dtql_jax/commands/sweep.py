"""Trains many members: seeds, settings and tasks, here or on a cluster; writes one table.

    dtql-jax sweep --env=pointmaze-umaze --sweep alpha=0.5,1,5 --sweep gamma=0,1 --out=runs/grid
    dtql-jax sweep --backend=ray --tasks=gym,antmaze --seeds=5 --out=runs/table
    dtql-jax sweep --out=runs/grid

Members of a task whose settings differ in traced hyperparameters (alpha, gamma, learning_rate, ...)
are one compiled program over all devices; other fields make jobs of their own. The last line
continues a sweep that was stopped.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import ml_collections
from absl import flags
from ml_collections import config_flags

from dtql_jax.commands import cli
from dtql_jax.errors import UserError

if TYPE_CHECKING:
    from dtql_jax.commands.sweeps.plan import Job

BACKENDS = ("local", "ray", "slurm")

EXTRAS = ("envs", "reports", "tensorboard")


def define(argv: list[str]) -> None:
    """Defines the flags of this command."""
    cli.define_config(argv)
    cli.define_run_fields()
    flags.DEFINE_multi_string("sweep", [], "FIELD=VALUE,VALUE,... of the configuration; repeat it.")
    flags.DEFINE_list("tasks", [], "Tasks or groups (gym, antmaze, adroit, kitchen, paper).")
    flags.DEFINE_string("out", None, "Folder of the sweep.")
    flags.DEFINE_enum("backend", "local", BACKENDS, "Where the jobs run.")
    flags.DEFINE_integer("max_members", 0, "Most members of a job; 0: what the memory holds.", 0)
    flags.DEFINE_integer("job", -1, "Run this one job of the sweep in --out, and no other.")
    flags.DEFINE_boolean("dry_run", False, "Only say what would be trained.")
    flags.DEFINE_string("address", "", "Address of a Ray cluster; by default one on this machine.")
    flags.DEFINE_float("job_cpus", 1, "CPU cores of a job on a cluster.")
    flags.DEFINE_float("job_gpus", 0, "GPUs of a job on a cluster.")
    flags.DEFINE_float("job_tpus", 0, "TPUs of a job on a cluster.")
    flags.DEFINE_integer("retries", 3, "Ray: retries of a job whose process or machine died.")
    flags.DEFINE_integer("at_once", 0, "Slurm: jobs at once; 0: no limit.")
    cli.define_display()


def run() -> int:
    """Runs the command."""
    values = flags.FLAGS
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
        from dtql_jax.training.device import use_cpu_cores

        use_cpu_cores()
        display.start("plan")
        path = out / backends.PLAN
        continues = path.exists() and not (values.sweep or values.tasks)
        jobs = plan.read(path) if continues else _plan()
        members = sum(len(job.members) for job in jobs)
        display.result(f"{members} members in {len(jobs)} job(s), in {out}")
        if values.dry_run:
            for job in jobs:
                print(f"{job.name}: {len(job.members)} members {job.settings or ''}")
            return 0
        plan.write(path, jobs)
        if values.backend == "slurm":
            cpus, gpus = max(1, round(values.job_cpus)), round(values.job_gpus)
            script = backends.slurm(out, jobs, cpus=cpus, gpus=gpus, at_once=values.at_once)
            print(f"sbatch {script}")
            return 0
        if values.backend == "ray":
            resources = {"CPU": values.job_cpus, "GPU": values.job_gpus, "TPU": values.job_tpus}
            options = {"address": values.address, "retries": values.retries}
            code = backends.ray(out, jobs, display, resources=resources, **options)
        else:
            with cli.stop_requested() as should_stop:
                code = backends.local(out, jobs, display, should_stop)
    print(results.write(out, jobs))
    return code


def _plan() -> "list[Job]":
    """The jobs that the command line asks for."""
    from dtql_jax.commands.sweeps import plan
    from dtql_jax.presets import parts

    configs = _configs()
    axes = [plan.parse_axis(text, configs[0]) for text in flags.FLAGS.sweep]
    traced, largest = {}, {}
    for config in configs:
        parts.trainer_config(config.to_dict())
        traced[config.task], largest[config.task] = _limits(config)
    jobs = plan.make_jobs(configs, axes, traced, largest)
    for job in jobs:
        parts.algorithm_of(job.config)
        parts.trainer_config(job.config)
    return jobs


def _configs() -> list[ml_collections.ConfigDict]:
    """One configuration a task, each with the changes of the command line."""
    from dtql_jax.commands.sweeps import plan
    from dtql_jax.presets import get_config

    values, configs = flags.FLAGS, [flags.FLAGS.config]
    if values.tasks:
        if cli.value_of(sys.argv, "config") is not None:
            raise UserError("--tasks and --config=FILE exclude each other: a file is one task's")
        tasks, rest = plan.expand_tasks(values.tasks), f"{values.preset},{values.algorithm}"
        configs = [get_config(f"{task},{rest}") for task in tasks]
    changes = config_flags.get_override_values(values["config"])
    for config in configs:
        config.update_from_flattened_dict(changes)
        cli.set_run_fields(config)
    return configs


def _limits(config: ml_collections.ConfigDict) -> tuple[list[str], int]:
    """Names of the algorithm's traced hyperparameters, and the most members of a job."""
    import jax

    from dtql_jax.algorithms.config import traced_names
    from dtql_jax.commands import restore
    from dtql_jax.datasets.registry import get_task
    from dtql_jax.presets import parts
    from dtql_jax.training import capacity

    algorithm, task = parts.algorithm_of(config.to_dict()), get_task(config.task)
    source = next(s for s in (task.generated, task.minari, *task.d4rl) if s is not None)
    sample = restore.sample_of(source.observation_dim, source.action_dim)
    state = jax.eval_shape(algorithm.init, jax.eval_shape(lambda: jax.random.key(0)), sample)
    data = 2_000_000 * sum(array.nbytes for array in sample)
    most = capacity.members_that_fit(algorithm, sample, config.batch_size, data)
    return traced_names(state.config), flags.FLAGS.max_members or most
