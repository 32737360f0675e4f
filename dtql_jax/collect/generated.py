"""Collects datasets: a behaviour acts in the simulator and Minari stores the episodes.

The result is an ordinary local Minari dataset with a name of its own
("dtql_jax/pointmaze/umaze-v0"). It is complete or absent, and collected once however many
processes ask for it (see `datasets.store`). A killed collection resumes (see `collect.pool`).

Where a policy file acts, the first eight digits of its sha256 are part of the name, so that data
of different policies never mixes.
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

from dtql_jax.collect import policies, pool
from dtql_jax.collect.behaviours import DESCRIPTIONS, PART_EPISODES, make_behaviour
from dtql_jax.collect.policies import BehaviourPolicy
from dtql_jax.collect.pool import Plan
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
    """Returns the id of a collected dataset; collects it first if it does not exist.

    Args:
      source: what to collect.
      transitions: how many; None: the source's usual number.
      seed: seed of starts, goals and noise. The same seed gives the same data.
      behaviour_policy: path of the acting policy, or several separated by commas that play equal
        shares; None: the ones that come with the package.
      processes: how many play; None: one per core where that pays off. The data is the same.
      quiet: no progress bar.
      progress: receives (transitions done, in all) instead of a progress bar.
      report: receives the cost before the work starts.

    Raises:
      UserError: `transitions` or `seed` is out of range, a policy is missing or does not
        fit, or the store cannot be written.
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
    collection = _Collection(
        name,
        source,
        behaviour,
        plans=make_plans(source, files, behaviour, transitions, seed),
        folder=store.episodes_folder(name),
        note="" if behaviour_policy else policies.shipped_note(source.policy),
    )
    root = store.datasets_root()  # `store.make` redirects Minari's store meanwhile

    def write() -> None:
        try:
            collection.write(processes, _Bar(transitions, quiet, progress), report, root)
        except OSError as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"collecting {name} failed: {reason}; finished parts are kept in "
                f"{collection.folder}, collect again to resume"
            ) from error

    try:
        store.make(name, write, report)
    except KeyboardInterrupt:
        report(f"finished parts of {name} are kept; collect again to resume")
        raise
    shutil.rmtree(collection.folder, ignore_errors=True)
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
            part_episodes=PART_EPISODES[source.collector],
        )
        for i in range(number)
    ]


@dataclasses.dataclass(frozen=True)
class _Collection:
    """A dataset to be collected: its id, source, policies and plans, and the folder of its parts.

    `note` is a remark on the policies for the dataset's metadata.
    """

    name: str
    source: GeneratedSource
    behaviour: Sequence[BehaviourPolicy]
    plans: Sequence[Plan]
    folder: pathlib.Path
    note: str

    def write(self, processes: int | None, bar: _Bar, report: Report, root: pathlib.Path) -> None:
        """Plays all episodes and writes them as a Minari dataset into Minari's current store."""
        from dtql_jax.envs.make import make_base_env

        source = self.source
        env, eval_env = make_base_env(source.recording_env()), make_base_env(source.env)
        try:
            for policy in self.behaviour or [None]:
                # refuses a policy that does not fit before the cost is reported
                make_behaviour(source.collector, env, policy, source.settings)
            ready = pool.prepare(self.folder, self.plans)
            seconds = (bar.total - ready) / source.transitions_per_second
            processes = processes or pool.choose_processes(seconds)
            report(self._cost(ready, seconds, processes, root))
            with bar.shown(ready):
                pool.collect(self.folder, self.plans, processes, bar.advance)
            self.store(env, eval_env)
        finally:
            env.close()
            eval_env.close()

    def _cost(self, ready: int, seconds: float, processes: int, root: pathlib.Path) -> str:
        """Returns the line that is reported before the work starts."""
        transitions = sum(plan.transitions for plan in self.plans)
        seconds /= processes
        duration = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
        line = (
            f"collecting {transitions:,} transitions of {self.source.env.env_id} (seed "
            f"{self.plans[0].seed}): about {duration} on "
            f"{'one core' if processes == 1 else f'{processes} cores'} and "
            f"{transitions * self.source.bytes_per_transition / 1e6:.0f} MB in {root}"
        )
        return line + (f"; {ready:,} are there already" if ready else "")

    def store(self, env: gymnasium.Env, eval_env: gymnasium.Env) -> None:
        """Writes the finished parts as one Minari dataset."""
        import minari
        from minari.data_collector import EpisodeBuffer

        algorithm = DESCRIPTIONS[self.source.collector]
        if self.behaviour:
            files = (f"{policy.name} (sha256 {policy.sha256})" for policy in self.behaviour)
            algorithm += f": {', '.join(files)}"
        if self.note:
            algorithm += f"; {self.note}"
        transitions, seed = sum(plan.transitions for plan in self.plans), self.plans[0].seed
        returns: list[list[float]] = [[] for _ in self.plans]
        statistics: list[dict] = []

        def buffers() -> Iterator[EpisodeBuffer]:
            for plan in self.plans:
                for episode in pool.episodes(self.folder, plan):
                    fields = episode._asdict()
                    returns[plan.index].append(float(episode.rewards.sum()))
                    statistics.append(minari.EpisodeMetadataCallback()(fields))
                    yield EpisodeBuffer(**fields)

        episodes: Any = buffers()  # Minari only iterates, so one part is in memory at a time
        with warnings.catch_warnings():
            # Minari asks for an e-mail address and a link, which a local collection has not
            warnings.filterwarnings("ignore", message=".*is set to None.*")
            dataset = minari.create_dataset_from_buffers(
                self.name,
                episodes,
                env=env,
                eval_env=eval_env.spec,
                algorithm_name=algorithm,
                author="dtql-jax",
                description=(
                    f"{transitions} transitions of {self.source.env.env_id} collected by dtql-jax "
                    f"with seed {seed}: {algorithm}. Not one of D4RL's datasets."
                ),
                requirements=[
                    f"{package}=={importlib.metadata.version(package)}"
                    for package in ("mujoco", "gymnasium", "gymnasium-robotics")
                ],
                data_format="hdf5",
            )
        dataset.storage.update_episode_metadata(statistics)
        records = [_record(plan, returns[plan.index]) for plan in self.plans]
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


class _Bar:
    """A progress bar of transitions on stderr, or a function that receives them."""

    def __init__(self, total: int, quiet: bool, progress: Progress | None):
        import rich.console
        import rich.progress

        self.total, self._progress = total, progress
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeRemainingColumn(),
            console=rich.console.Console(stderr=True),
            disable=quiet or progress is not None,
        )
        self._row = self._bar.add_task("transitions", total=total)
        self._done = 0

    @contextlib.contextmanager
    def shown(self, ready: int) -> Iterator[None]:
        """Shows the bar, `ready` transitions of it done."""
        with self._bar:
            self.advance(ready)
            yield
            self._bar.update(self._row, completed=self.total)

    def advance(self, steps: int) -> None:
        """Adds finished transitions."""
        # parts may hold more transitions than are missing
        self._done = min(self._done + steps, self.total)
        self._bar.update(self._row, completed=self._done)
        if self._progress is not None:
            self._progress(self._done, self.total)
