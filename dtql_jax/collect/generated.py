"""Collects datasets: a behaviour acts in the simulator and Minari stores the episodes.

The result is an ordinary local Minari dataset with a name of its own
("dtql_jax/pointmaze/umaze-v0"). It is complete or absent, and collected once however many
processes ask for it (see `datasets.store`). A killed collection resumes (see `collect.pool`).

Where a policy file acts, the first eight digits of its sha256 are part of the name, so that data
of different policies never mixes.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import pathlib
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from dtql_jax.collect import policies, pool
from dtql_jax.collect.behaviours import BEHAVIOURS, make_behaviour
from dtql_jax.collect.policies import BehaviourPolicy
from dtql_jax.collect.pool import Plan
from dtql_jax.datasets import store
from dtql_jax.datasets.sources import GeneratedSource
from dtql_jax.errors import UserError

Report = Callable[[str], None]
Progress = Callable[[int, int], None]


def dataset_id(
    source: GeneratedSource,
    transitions: int,
    seed: int,
    behaviour: Sequence[BehaviourPolicy] = (),
) -> str:
    """Returns the Minari id of a collection; it depends on size, seed and policies."""
    name = source.dataset_name
    if behaviour:
        name += f"-policy{policies.digest(behaviour)[:8]}"
    if (transitions, seed) != (source.transitions, 0):
        name += f"-n{transitions}-seed{seed}"
    return f"{name}-v0"


def behaviour_files(source: GeneratedSource, behaviour_policy: str | None) -> list[pathlib.Path]:
    """Returns the policy files of a collection; [] where the behaviour needs none.

    Raises:
      UserError: a policy is given for a behaviour that needs none.
    """
    if source.policy:
        return policies.policy_files(behaviour_policy, source.policy)
    if behaviour_policy:
        raise UserError(
            f"{source.dataset_name} is collected by {BEHAVIOURS[source.collector].description}; "
            f"--behaviour_policy={behaviour_policy} has no use there"
        )
    return []


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
    """Returns the id of a collected dataset; collects it first if it does not exist.

    Args:
      source: what to collect.
      transitions: how many; None: the source's usual number.
      seed: seed of starts, goals and noise. The same seed gives the same data.
      behaviour_policy: path of the acting policy, or several separated by commas that play equal
        shares; None: the ones that come with the package.
      processes: how many play; None: one per core where that pays off. The data is the same.
      quiet, progress: see `datasets.load_episodes`.
      report: receives the cost before the work starts.

    Raises:
      UserError: a number is out of range, a policy is missing or does not fit, or the store
        cannot be written.
    """
    transitions = source.transitions if transitions is None else transitions
    if transitions < 1 or seed < 0:
        raise UserError(
            f"cannot collect {transitions} transitions with seed {seed}; expected at least one "
            "transition and a seed >= 0"
        )
    files = behaviour_files(source, behaviour_policy)
    behaviour = [policies.read_policy(file) for file in files]
    if transitions < len(behaviour):
        raise UserError(f"{transitions} transitions cannot be shared by {len(behaviour)} policies")
    name = dataset_id(source, transitions, seed, behaviour)
    if store.is_local(name):
        return name
    if behaviour:
        _check_policies(source, behaviour)
    plans = make_plans(source, files, behaviour, transitions, seed)
    folder = store.episodes_folder(name)
    with store.lock(name, report):
        if store.is_local(name):
            return name  # made by the process that held the lock before
        try:
            finished = pool.prepare(folder, plans)
            ready = sum(
                min(sum(parts.values()), plan.transitions)
                for plan, parts in zip(plans, finished, strict=True)
            )
            seconds = (transitions - ready) / source.transitions_per_second
            processes = processes or pool.choose_processes(seconds)
            report(_cost(source, plans, ready, processes))
            with _progress(transitions, ready, quiet, progress) as advance:
                pool.collect(folder, plans, finished, processes, advance)
            with store.staging(name):
                _write(name, source, behaviour, plans, folder, shipped=not behaviour_policy)
        except OSError as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"collecting {name} failed: {reason}; finished parts are kept in {folder}, "
                "collect again to resume"
            ) from error
        except KeyboardInterrupt:
            report(f"finished parts of {name} are kept; collect again to resume")
            raise
        shutil.rmtree(folder, ignore_errors=True)
    return name


def make_plans(
    source: GeneratedSource,
    files: Sequence[pathlib.Path],
    behaviour: Sequence[BehaviourPolicy],
    transitions: int,
    seed: int,
) -> list[Plan]:
    """Returns one plan per policy, with equal shares of the transitions."""
    number = max(len(files), 1)
    return [
        Plan(
            env=source.recording_env(),
            behaviour=source.collector,
            settings=source.settings,
            policy=str(files[i]) if files else "",
            policy_sha256=behaviour[i].sha256 if files else "",
            seed=seed,
            index=i,
            transitions=transitions // number + (i < transitions % number),
            part_episodes=BEHAVIOURS[source.collector].part_episodes,
        )
        for i in range(number)
    ]


def _check_policies(source: GeneratedSource, behaviour: Sequence[BehaviourPolicy]) -> None:
    """Raises UserError if a policy does not fit the environment."""
    from dtql_jax.envs.make import make_base_env

    with contextlib.closing(make_base_env(source.env)) as env:
        for policy in behaviour:
            make_behaviour(source.collector, env, policy, source.settings)


def _cost(source: GeneratedSource, plans: Sequence[Plan], ready: int, processes: int) -> str:
    """Returns the line that is reported before the work starts."""
    transitions = sum(plan.transitions for plan in plans)
    seconds = (transitions - ready) / source.transitions_per_second / processes
    duration = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
    line = (
        f"collecting {transitions:,} transitions of {source.env.env_id} (seed {plans[0].seed}): "
        f"about {duration} on {'one core' if processes == 1 else f'{processes} cores'} and "
        f"{transitions * source.bytes_per_transition / 1e6:.0f} MB in {store.datasets_root()}"
    )
    return line + (f"; {ready:,} are there already" if ready else "")


def _write(
    name: str,
    source: GeneratedSource,
    behaviour: Sequence[BehaviourPolicy],
    plans: Sequence[Plan],
    folder: pathlib.Path,
    shipped: bool,
) -> None:
    """Writes the finished parts as one Minari dataset into Minari's current store."""
    import minari
    from minari.data_collector import EpisodeBuffer

    from dtql_jax.envs.make import make_base_env

    algorithm = BEHAVIOURS[source.collector].description
    if behaviour:
        files = (f"{policy.name} (sha256 {policy.sha256})" for policy in behaviour)
        algorithm += f": {', '.join(files)}"
        if shipped:
            algorithm += f"; {policies.SHIPPED[source.policy].note}"
    transitions, seed = sum(plan.transitions for plan in plans), plans[0].seed
    returns: list[list[float]] = [[] for _ in plans]
    statistics: list[dict] = []

    def buffers() -> Iterator[EpisodeBuffer]:
        for plan in plans:
            for episode in pool.episodes(folder, plan):
                fields = episode._asdict()
                returns[plan.index].append(float(episode.rewards.sum()))
                statistics.append(minari.EpisodeMetadataCallback()(fields))
                yield EpisodeBuffer(**fields)

    episodes: Any = buffers()  # Minari only iterates, so one part is in memory at a time
    with (
        contextlib.closing(make_base_env(source.recording_env())) as env,
        contextlib.closing(make_base_env(source.env)) as eval_env,
        warnings.catch_warnings(),
    ):
        # Minari asks for an e-mail address and a link, which a local collection has not
        warnings.filterwarnings("ignore", message=".*is set to None.*")
        dataset = minari.create_dataset_from_buffers(
            name,
            episodes,
            env=env,
            eval_env=eval_env.spec,
            algorithm_name=algorithm,
            author="dtql-jax",
            description=(
                f"{transitions} transitions of {source.env.env_id} collected by dtql-jax with "
                f"seed {seed}: {algorithm}. Not one of D4RL's datasets."
            ),
            requirements=[
                f"{package}=={importlib.metadata.version(package)}"
                for package in ("mujoco", "gymnasium", "gymnasium-robotics")
            ],
            data_format="hdf5",
        )
    dataset.storage.update_episode_metadata(statistics)
    records = [_record(plan, returns[plan.index]) for plan in plans]
    dataset.storage.update_metadata({"dtql_jax": records})


def _record(plan: Plan, returns: Sequence[float]) -> dict[str, Any]:
    """Returns the metadata of one plan: its behaviour, and the returns of its episodes."""
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
    """Shows a progress bar on stderr, or calls `progress`; yields a function that adds steps."""
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
    row, done = bar.add_task("transitions", total=total), 0

    def advance(steps: int) -> None:
        nonlocal done
        done = min(done + steps, total)  # parts may hold more transitions than are missing
        bar.update(row, completed=done)
        if progress is not None:
            progress(done, total)

    with bar:
        advance(ready)
        yield advance
