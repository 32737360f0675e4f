"""Where a sweep's jobs run: here one after the other, on a Ray cluster, or as a Slurm array.

Every backend does the same for a job: `run_job`, which begins it, goes on with it, or finds that
it has ended. So a job may be tried again by anybody at any time.
"""

import contextlib
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import ml_collections

from dtql_jax.commands import cli, runner
from dtql_jax.commands.sweeps import plan, results
from dtql_jax.commands.sweeps.plan import Job
from dtql_jax.errors import UserError
from dtql_jax.training.device import CORES
from dtql_jax.training.progress import Progress

PLAN = "sweep.json"


def run_job(
    out: Path, number: int, display: Progress, should_stop: Callable[[], bool] = lambda: False
) -> bool:
    """Runs one job of the plan in `out` to its end; False if it was stopped before.

    Raises:
      UserError: there is no such job, or its configuration or data are wrong.
      StuckError: it cannot go on; failed.txt in its folder says why, and it is not tried again.
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


def local(out: Path, jobs: Sequence[Job], options: Sequence[str] = ()) -> int:
    """One job after the other, each in a process of its own; returns an exit code.

    Args:
      out: of the sweep.
      jobs: of its plan.
      options: flags of each job's command.
    """
    code = 0
    for number, job in enumerate(jobs):
        if (out / job.name / "summary.json").exists():
            continue
        print(f"job {number + 1} of {len(jobs)}: {job.name}", file=sys.stderr)
        command = [*_command(out, number), *options]
        # Ctrl-C reaches the job as well, which saves a checkpoint before it ends
        with subprocess.Popen(command) as process, _patient():
            ended = process.wait()
        if ended in (cli.STOPPED, -2):
            return cli.STOPPED
        code = code or ended
    return code


def ray(
    out: Path,
    jobs: Sequence[Job],
    *,
    address: str,
    cpus: float,
    gpus: float,
    tpus: float,
    retries: int,
    watch: Callable[[], None],
) -> int:
    """All jobs on a Ray cluster, as many at once as its resources allow; returns an exit code.

    A job whose process or machine dies is tried again, and goes on from its newest checkpoint:
    `out` must be a folder that all machines share.

    Args:
      out: of the sweep.
      jobs: of its plan.
      address: of the cluster; "": one on this machine.
      cpus: of a job.
      gpus: of a job.
      tpus: of a job.
      retries: of a job that died.
      watch: called about once a second.

    Raises:
      UserError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("--backend=ray needs Ray: pip install 'dtql-jax[cluster]'") from error

    # the code as it lies here, for workers that started elsewhere
    root = str(Path(__file__).parents[3])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    ray.init(
        address=address or None,
        # Ray counts cores, but keeps no job to its own
        runtime_env={"env_vars": {"PYTHONPATH": path, CORES: str(max(1, round(cpus)))}},
        log_to_driver=False,
        include_dashboard=False if not address else None,
    )
    # a process of its own for each job: JAX's devices are chosen once in a process's life
    options = {"num_cpus": cpus, "num_gpus": gpus, "max_calls": 1, "max_retries": retries}
    if tpus:
        options["resources"] = {"TPU": tpus}
    remote = ray.remote(**options)(_ray_job)
    waiting = [k for k, job in enumerate(jobs) if not (out / job.name / "summary.json").exists()]
    pending = {remote.remote(str(out.resolve()), k): k for k in waiting}
    code = 0
    try:
        while pending:
            ended, _ = ray.wait(list(pending), timeout=1.0)
            for reference in ended:
                number = pending.pop(reference)
                try:
                    ray.get(reference)
                except ray.exceptions.RayError as error:
                    code = cli.STUCK
                    reason = str(getattr(error, "cause", None) or error).strip().splitlines()[-1]
                    print(f"error: {jobs[number].name}: {reason}", file=sys.stderr)
            watch()
    finally:
        ray.shutdown()
    return code


def _ray_job(out: str, number: int) -> None:
    run_job(Path(out), number, Progress(quiet=True))


def slurm(out: Path, jobs: Sequence[Job], *, cpus: int, gpus: int, at_once: int) -> Path:
    """Writes a Slurm array script, one element a job; returns its path.

    A requeued element goes on from its newest checkpoint.
    """
    lines = [
        "#!/usr/bin/env bash",
        "#SBATCH --job-name=dtql-sweep",
        f"#SBATCH --array=0-{len(jobs) - 1}" + (f"%{at_once}" if at_once else ""),
        f"#SBATCH --cpus-per-task={cpus}",
        *([f"#SBATCH --gpus-per-task={gpus}"] if gpus else []),
        "#SBATCH --requeue",
        f"#SBATCH --output={out.resolve()}/slurm-%a.log",
        f"# when all have ended: {shlex.join(_command(out, None))}",
        f"cd {shlex.quote(str(Path(__file__).parents[3]))}",
        f"exec {shlex.join(_command(out, None))} --quiet --job=$SLURM_ARRAY_TASK_ID",
    ]
    path = out / "sweep.sbatch"
    path.write_text("\n".join(lines) + "\n")
    return path


class Watch:
    """A table of all jobs: live in a terminal, lines of what changed elsewhere."""

    def __init__(self, out: Path, jobs: Sequence[Job], quiet: bool, every: float = 60.0):
        from rich.console import Console
        from rich.live import Live

        self._out, self._jobs, self._every = out, jobs, every
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._live = Live(console=self._console, auto_refresh=False)
        self._quiet, self._last, self._said = quiet, 0.0, ""
        if self._console.is_terminal and not quiet:
            self._live.start()

    def __call__(self) -> None:
        now = time.monotonic()
        live = self._live.is_started
        if self._quiet or now - self._last < (1.0 if live else self._every):
            return
        self._last = now
        states = [results.state(self._out, job) for job in self._jobs]
        if live:
            self._live.update(_table(states), refresh=True)
            return
        names = [s["state"] for s in states]
        text = ", ".join(f"{names.count(n)} {n}" for n in dict.fromkeys(names))
        done, total = sum(s["updates"] for s in states), sum(s["total"] for s in states)
        self._console.print(f"jobs: {text}; {done:,} of {total:,} updates")

    def close(self) -> None:
        """Shows the last state and leaves the terminal as it was."""
        self._last = 0.0
        self()
        if self._live.is_started:
            self._live.stop()


def _table(states: Sequence[dict]):
    from rich.table import Table

    table = Table("job", "members", "state", "updates", "score")
    for s in states:
        score = "" if s["score"] is None else f"{s['score']:.1f}"
        updates = f"{s['updates']:,} / {s['total']:,}"
        table.add_row(s["job"], str(s["members"]), s["state"], updates, score)
    return table


def _command(out: Path, number: int | None) -> list[str]:
    command = [sys.executable, "-m", "dtql_jax", "sweep", f"--out={out.resolve()}"]
    return command if number is None else [*command, f"--job={number}"]


@contextlib.contextmanager
def _patient():
    """Leaves Ctrl-C to the process that is waited for."""
    import signal

    earlier = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, earlier)
