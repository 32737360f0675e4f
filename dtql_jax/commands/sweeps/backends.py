"""Runs the jobs of a sweep: here one after the other, on a Ray cluster, or as a Slurm array.

Every backend calls `run_job`, which starts a job, resumes it, or finds it finished. So any job can
be tried again at any time.
"""

import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from dtql_jax.commands import cli, runner
from dtql_jax.commands.sweeps import plan, results
from dtql_jax.commands.sweeps.plan import Job
from dtql_jax.errors import UserError
from dtql_jax.extras import named
from dtql_jax.training.device import CORES
from dtql_jax.training.progress import Progress

PLAN = "sweep.json"
_ROOT = Path(__file__).parents[3]  # where the package is, for processes that start elsewhere
_Stop = Callable[[], bool]


def run_job(out: Path, number: int, display: Progress, should_stop: _Stop = lambda: False) -> bool:
    """Runs one job of the plan in `out` to its end; returns False if stopped before.

    Raises:
      UserError: there is no such job, or its configuration or data are wrong.
      StuckError: the job cannot continue; failed.txt in its folder has the reason.
    """
    jobs = plan.read(out / PLAN)
    if not 0 <= number < len(jobs):
        raise UserError(f"--job is {number}; {out} has jobs 0 to {len(jobs) - 1}")
    job = jobs[number]
    folder = out / job.name
    if (folder / "summary.json").exists():
        display.say(f"{job.name} has ended already")
        return True
    try:
        if (folder / "run.json").exists():
            return runner.resume(folder, display, should_stop)
        config = ml_collections.ConfigDict(job.config)
        return runner.start(config, folder, display, should_stop, job.members)
    except cli.StuckError as error:
        (folder / "failed.txt").write_text(f"{error}\n")
        raise


def local(out: Path, jobs: Sequence[Job], display: Progress, should_stop: _Stop) -> int:
    """Runs the unfinished jobs here; a job that fails does not stop the others.

    Returns:
      an exit code: 0, that of the first failure, or 130 if stopped.
    """
    code = 0
    for number, job in enumerate(jobs):
        if results.ended(out, job):
            continue
        display.say(f"job {number + 1} of {len(jobs)}: {job.name}")
        try:
            if not run_job(out, number, display, should_stop):
                return cli.STOPPED
        except Exception as error:
            failure = cli.explain(error)
            if failure is None:
                raise
            display.result(f"error: {job.name}: {failure[0]}")
            code = code or failure[1]
    return code


def ray(
    out: Path,
    jobs: Sequence[Job],
    display: Progress,
    *,
    address: str,
    resources: Mapping[str, float],
    retries: int,
) -> int:
    """Runs all jobs on a Ray cluster, as many at once as its resources allow.

    A job whose process or machine dies is tried again and resumes from its newest checkpoint, so
    all machines must share the folder `out`. Without an `address`, Ray starts on this machine.

    Args:
      resources: {"CPU", "GPU", "TPU": number} of a job.

    Returns:
      an exit code: 0, or 3 if a job failed.
    """
    with named():
        import ray
        from ray.exceptions import RayError

    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
    # Ray counts cores but does not restrict a job to its own
    cores = str(max(1, round(resources["CPU"])))
    ray.init(
        address=address or None,
        runtime_env={"env_vars": {"PYTHONPATH": path, CORES: cores}},
        log_to_driver=False,
        include_dashboard=None if address else False,
    )
    remote: Any = ray.remote(
        num_cpus=resources["CPU"],
        num_gpus=resources["GPU"],
        resources={"TPU": resources["TPU"]} if resources["TPU"] else {},
        max_calls=1,  # one process a job, because JAX chooses its devices once
        max_retries=retries,
    )(_ray_job)
    waiting = [number for number, job in enumerate(jobs) if not results.ended(out, job)]
    pending = {remote.remote(str(out.resolve()), number): number for number in waiting}
    code, shown = 0, {}
    display.start("sweep", sum(results.updates(job) for job in jobs))
    try:
        while pending:
            ended, _ = ray.wait(list(pending), timeout=1.0)
            for reference in ended:
                name = jobs[pending.pop(reference)].name
                try:
                    ray.get(reference)
                except RayError as error:
                    code = cli.STUCK
                    reason = str(getattr(error, "cause", None) or error).strip().splitlines()[-1]
                    display.result(f"error: {name}: {reason}")
            states = {job.name: results.state(out, job) for job in jobs}
            display.advance(sum(state.update for state in states.values()))
            for name, state in states.items():
                if shown.get(name) != state.name:
                    score = "" if state.score is None else f", score {state.score:.1f}"
                    display.say(f"{name}: {state.name}{score}")
                    shown[name] = state.name
    finally:
        ray.shutdown()
    return code


def _ray_job(out: str, number: int) -> None:
    run_job(Path(out), number, Progress(quiet=True))


def slurm(out: Path, jobs: Sequence[Job], *, cpus: int, gpus: int, at_once: int) -> Path:
    """Writes a Slurm array script with one element a job; returns its path.

    A requeued element resumes from its newest checkpoint.
    """
    command = shlex.join([sys.executable, "-m", "dtql_jax", "sweep", f"--out={out.resolve()}"])
    lines = [
        "#!/usr/bin/env bash",
        "#SBATCH --job-name=dtql-sweep",
        f"#SBATCH --array=0-{len(jobs) - 1}" + (f"%{at_once}" if at_once else ""),
        f"#SBATCH --cpus-per-task={cpus}",
        *([f"#SBATCH --gpus-per-task={gpus}"] if gpus else []),
        "#SBATCH --requeue",
        f"#SBATCH --output={out.resolve()}/slurm-%a.log",
        f"# when all have ended: {command}",
        f"cd {shlex.quote(str(_ROOT))}",
        f"exec {command} --quiet --job=$SLURM_ARRAY_TASK_ID",
    ]
    path = out / "sweep.sbatch"
    path.write_text("\n".join(lines) + "\n")
    return path
