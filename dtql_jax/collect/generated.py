"""Datasets collected here: a behaviour policy in the real simulator, recorded by Minari.

The result is an ordinary local Minari dataset in Minari's own store, with a name of its
own ("dtql_jax/pointmaze/umaze-v0"). It is there whole or not at all, collected once
however many processes ask for it (see `datasets.store`), and on all cores; a collection
that was killed goes on where it stopped (see `datasets.collection`).

Where a policy file plays, the first eight digits of its sha256 are part of the name, so
that data of different policies never mixes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import pathlib
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dtql_jax.collect import collection, policies, shards
from dtql_jax.collect.behaviours import DESCRIPTIONS, SHARD_EPISODES, make_behaviour
from dtql_jax.collect.collection import Plan
from dtql_jax.collect.policies import BehaviourPolicy
from dtql_jax.datasets import store
from dtql_jax.datasets.sources import GeneratedSource
from dtql_jax.errors import UserError

if TYPE_CHECKING:
    import gymnasium

Report = Callable[[str], None]
Progress = Callable[[int, int], None]


def dataset_id(
    source: GeneratedSource,
    transitions: int,
    seed: int,
    behaviour: Sequence[BehaviourPolicy] = (),
) -> str:
    """Returns the Minari id of a collection; other sizes, seeds and policies have other names."""
    name = source.dataset_name
    if behaviour:
        name += f"-policy{policies.digest(behaviour)[:8]}"
    if (transitions, seed) != (source.transitions, 0):
        name += f"-n{transitions}-seed{seed}"
    return f"{name}-v0"


def behaviour_files(source: GeneratedSource, behaviour_policy: str | None) -> list[pathlib.Path]:
    """Returns the policy files that play; [] where the behaviour has no need of one.

    Raises:
      UserError: a policy is given where none is used.
    """
    if not source.policy:
        if behaviour_policy:
            raise UserError(
                f"{source.dataset_name} is collected by {DESCRIPTIONS[source.collector]}; "
                f"--behaviour_policy={behaviour_policy} has no use there"
            )
        return []
    return policies.policy_files(behaviour_policy, source.policy)


def ensure(
    source: GeneratedSource,
    *,
    transitions: int | None = None,
    seed: int = 0,
    behaviour_policy: str | None = None,
    processes: int | None = None,
    quiet: bool = False,
    progress: Progress | None = None,
    report: Report,
) -> str:
    """Returns the id of a collected dataset; collects it first if it is not there.

    Args:
      source: what to collect.
      transitions: how many; None: as many as the source says.
      seed: of starts, goals and noise. The same seed gives the same data.
      behaviour_policy: path of the policy that plays, or several separated by commas that
        play equal shares; None: the ones that come with the package.
      processes: how many play; None: one a core where that pays. The data is the same.
      quiet: no progress bar.
      progress: receives (transitions done, in all) in place of a progress bar.
      report: receives the cost before the work starts.

    Raises:
      UserError: `transitions` or `seed` is out of range, a policy is missing or does not
        fit, or the store cannot be written.
    """
    transitions = source.transitions if transitions is None else transitions
    if transitions < 1 or seed < 0:
        raise UserError(
            f"cannot collect {transitions} transitions with seed {seed}; expected at least one "
            "transition and a seed that is not negative"
        )
    files = behaviour_files(source, behaviour_policy)
    behaviour = [policies.read_policy(file) for file in files]
    if transitions < len(behaviour):
        raise UserError(f"{transitions} transitions cannot be shared by {len(behaviour)} policies")
    name = dataset_id(source, transitions, seed, behaviour)
    if store.is_local(name):
        return name
    job = _Job(
        name=name,
        source=source,
        behaviour=behaviour,
        plans=_plans(source, files, behaviour, transitions, seed),
        folder=store.episodes_folder(name),
        root=store.datasets_root(),
        report=report,
        note="" if behaviour_policy else policies.shipped_note(source.policy),
    )

    def write() -> None:
        try:
            _write(job, processes, quiet, progress)
        except OSError as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"collecting {name} failed: {reason}; what was played is kept in {job.folder}, "
                "collect again to go on with it"
            ) from error

    try:
        store.make(name, write, report)
    except KeyboardInterrupt:
        report(f"what was played of {name} is kept; collect again to go on with it")
        raise
    shutil.rmtree(job.folder, ignore_errors=True)
    return name


@dataclasses.dataclass(frozen=True)
class _Job:
    """A dataset to be collected: its name, what plays, and where the episodes go meanwhile."""

    name: str
    source: GeneratedSource
    behaviour: Sequence[BehaviourPolicy]
    plans: Sequence[Plan]
    folder: pathlib.Path
    root: pathlib.Path
    report: Report
    note: str

    @property
    def transitions(self) -> int:
        return sum(plan.transitions for plan in self.plans)

    @property
    def seed(self) -> int:
        return self.plans[0].seed


def _plans(
    source: GeneratedSource,
    files: Sequence[pathlib.Path],
    behaviour: Sequence[BehaviourPolicy],
    transitions: int,
    seed: int,
) -> list[Plan]:
    """Returns one plan a policy, with equal shares of the transitions."""
    parts = max(len(files), 1)
    shares = [transitions // parts + (part < transitions % parts) for part in range(parts)]
    return [
        Plan(
            env=source.recording_env(),
            behaviour=source.collector,
            settings=source.settings,
            policy=str(files[part]) if files else "",
            policy_sha256=behaviour[part].sha256 if files else "",
            seed=seed,
            part=part,
            transitions=share,
            shard_episodes=SHARD_EPISODES[source.collector],
        )
        for part, share in enumerate(shares)
    ]


def _write(job: _Job, processes: int | None, quiet: bool, progress: Progress | None = None) -> None:
    """Plays all episodes and writes them as a Minari dataset into Minari's present store."""
    from dtql_jax.envs.make import make_base_env

    source, total = job.source, job.transitions
    env, eval_env = make_base_env(source.recording_env()), make_base_env(source.env)
    try:
        for policy in job.behaviour or [None]:
            # a policy that does not fit is refused before anything is said of costs
            make_behaviour(source.collector, env, policy, source.settings)
        ready = collection.prepare(job.folder, job.plans)
        seconds = (total - ready) / source.transitions_per_second
        if processes is None:
            processes = collection.choose_processes(seconds)
        job.report(_cost(job, ready, seconds, processes))
        with _progress(total, ready, quiet, progress) as advance:
            collection.collect(job.folder, job.plans, processes, advance)
        _create(job, env, eval_env)
    finally:
        env.close()
        eval_env.close()


def _cost(job: _Job, ready: int, seconds: float, processes: int) -> str:
    """Returns the line that is said before the work starts."""
    cores = max(processes, 1)
    line = (
        f"collecting {job.transitions:,} transitions of {job.source.env.env_id} (seed {job.seed}): "
        f"about {_duration(seconds / cores)} on {'one core' if cores == 1 else f'{cores} cores'} "
        f"and {job.transitions * job.source.bytes_per_transition / 1e6:.0f} MB in {job.root}"
    )
    return line + (f"; {ready:,} are there from before" if ready else "")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def _create(job: _Job, env: gymnasium.Env, eval_env: gymnasium.Env) -> None:
    """Puts the shards of a finished collection together as one Minari dataset."""
    import h5py
    import minari

    algorithm = DESCRIPTIONS[job.source.collector]
    if job.behaviour:
        names = ", ".join(f"{policy.name} (sha256 {policy.sha256})" for policy in job.behaviour)
        algorithm += f": {names}"
    if job.note:
        algorithm += f"; {job.note}"
    with warnings.catch_warnings():
        # asks for an e-mail address and a link, which a collection on this machine has not
        warnings.filterwarnings("ignore", message=".*is set to None.*")
        # of a collector that has recorded nothing: the metadata, and no episode yet
        dataset = minari.DataCollector(env, data_format="hdf5").create_dataset(
            job.name,
            eval_env=eval_env.spec,
            algorithm_name=algorithm,
            author="dtql-jax",
            description=(
                f"{job.transitions} transitions of {job.source.env.env_id} collected by dtql-jax "
                f"with seed {job.seed}: {algorithm}. Not one of D4RL's datasets."
            ),
            requirements=[
                f"{package}=={importlib.metadata.version(package)}"
                for package in ("mujoco", "gymnasium", "gymnasium-robotics")
            ],
        )
    returns: dict[int, list[float]] = {plan.part: [] for plan in job.plans}
    data = dataset.storage.data_path / shards.DATA_FILE
    with h5py.File(data, "a", track_order=True) as file:
        for plan, path, lacking in collection.shards(job.folder, job.plans):
            returns[plan.part] += shards.append(file, path, lacking)
    facts = {
        "total_episodes": sum(map(len, returns.values())),
        "total_steps": job.transitions,
        "dtql_jax": [_account(plan, returns[plan.part]) for plan in job.plans],
    }
    dataset.storage.update_metadata(facts | {"dataset_size": dataset.storage.get_size()})


def _account(plan: Plan, returns: Sequence[float]) -> dict[str, Any]:
    """Returns what the metadata keep of one plan: what played, and the returns it had."""
    return {
        "policy": pathlib.Path(plan.policy).name,
        "policy_sha256": plan.policy_sha256,
        "behaviour": plan.behaviour,
        "settings": plan.settings,
        "seed": plan.seed,
        "transitions": plan.transitions,
        "episodes": len(returns),
        "return_mean": float(np.mean(returns)),
        "return_std": float(np.std(returns)),
    }


@contextlib.contextmanager
def _progress(
    total: int, ready: int, quiet: bool, progress: Progress | None
) -> Iterator[Callable[[int], None]]:
    """Shows a progress bar on stderr; yields the function that moves it on by some steps."""
    import rich.console
    import rich.progress

    bar = rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
        console=rich.console.Console(stderr=True),
        disable=quiet or progress is not None,
    )
    done = ready
    with bar:
        row = bar.add_task("transitions", total=total, completed=ready)
        if progress is not None:
            progress(ready, total)

        def advance(steps: int) -> None:
            nonlocal done
            done += steps
            # whole shards are played, so the last ones go beyond the total
            bar.update(row, completed=min(done, total))
            if progress is not None:
                progress(min(done, total), total)

        yield advance
        bar.update(row, completed=total)
