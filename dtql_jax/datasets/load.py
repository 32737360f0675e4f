"""Loads a task's data from the first source that has it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dtql_jax.datasets import store
from dtql_jax.datasets.info import DatasetInfo
from dtql_jax.datasets.physics import mujoco_version
from dtql_jax.datasets.registry import get_task
from dtql_jax.datasets.sources import GeneratedSource, Source, Task
from dtql_jax.errors import UserError, near_matches

if TYPE_CHECKING:
    # the processes of a collection import this package, and do not need jax
    from dtql_jax.types import Transition

SOURCES = ("minari", "d4rl", "generated")

Report = Callable[[str], None]
Progress = Callable[[int, int], None]
# (arrays, info, transitions of each episode)
Loaded = tuple["Transition", DatasetInfo, np.ndarray]


def load(task: str, source: str = "auto", **options: Any) -> tuple[Transition, DatasetInfo]:
    """Loads the data of a task; arguments and errors as for `load_episodes`.

    Returns:
      (arrays, info): C-contiguous float32 numpy arrays of all N transitions.
    """
    return load_episodes(task, source, **options)[:2]


def load_episodes(
    task: str,
    source: str = "auto",
    *,
    d4rl_dir: str | None = None,
    transitions: int | None = None,
    seed: int = 0,
    behaviour_policy: str | None = None,
    quiet: bool = False,
    report: Report | None = None,
    progress: Progress | None = None,
) -> Loaded:
    """Loads the data of a task and the lengths of its episodes.

    Args:
      task: name in the registry, for example "pointmaze-umaze" or "hopper-medium-v2".
      source: "minari" (local, else downloaded), "d4rl" (an HDF5 file), "generated"
        (collected here), or "auto": the first of them, in this order, that has the data.
        "generated:VARIANT" is another collection of the same task ("gymnasium-ant").
      d4rl_dir: a folder with D4RL's files, searched first.
      transitions: how many to collect; None: the task's usual number. A number selects
        "generated" where the source is "auto".
      seed: seed of a collection; the other sources ignore it.
      behaviour_policy: path of an .npz policy that acts in a collection (layout in
        `collect.policies`), or several separated by commas. It selects "generated" too.
      quiet: no lines and no progress bars on stderr.
      report: receives each line instead of stderr.
      progress: receives (transitions done, in all) of a collection instead of a progress bar.

    Returns:
      (arrays, info, lengths [episodes] int): the first lengths[0] rows of the arrays are the
      first episode, and so on. D4RL's files have stretches between ends instead of episodes.

    Raises:
      UserError: the task or source is unknown, no source has the data (one line says how to get
        it), or the data found is not valid.
    """
    if quiet:
        report = _nowhere
    elif report is None:
        report = _to_stderr
    entry = get_task(task)
    kind, _, variant = source.partition(":")
    if kind not in ("auto", *SOURCES) or (variant and kind != "generated"):
        raise UserError(f"unknown source {source!r}: {near_matches(source, ('auto', *SOURCES))}")
    for name, value in (("transitions", transitions), ("behaviour_policy", behaviour_policy)):
        if value is not None and kind not in ("auto", "generated"):
            raise UserError(
                f"{name} ({value}) is for source 'generated'; {kind!r} is always loaded whole"
            )
        if value is not None:
            kind = "generated"
    if kind == "auto":
        kind = _first_source(entry, d4rl_dir, report)
    if kind == "d4rl":
        arrays, facts, found = _read_d4rl(entry, d4rl_dir, report)
    else:
        if kind == "minari":
            found, dataset_ids = _minari_source(entry, report)
        else:
            from dtql_jax.collect import generated  # the only use of `collect` in this package

            found = _generated_source(entry, variant)
            dataset_ids = (
                generated.ensure(
                    found,
                    transitions=transitions,
                    seed=seed,
                    behaviour_policy=behaviour_policy,
                    quiet=quiet,
                    progress=progress,
                    report=report,
                ),
            )
        arrays, facts = _read_minari(dataset_ids, found, report)
    lengths = facts.pop("episode_lengths")
    info = DatasetInfo(
        task=entry.name,
        source=kind,
        transitions=len(arrays.rewards),
        observation_dim=arrays.observations.shape[1],
        action_dim=arrays.actions.shape[1],
        observation_layout=found.env.observation_keys or ("observation",),
        env=found.env,
        **facts,
    )
    report(
        f"{entry.name}: {info.transitions:,} transitions, {info.episodes:,} episodes from source "
        f"{info.source!r}, dataset {info.dataset_id} ({info.fingerprint[:19]})"
    )
    if info.clipped_actions:
        report(
            f"warning: {info.clipped_actions:,} of {arrays.actions.size:,} action entries of "
            f"{info.dataset_id} were outside the action space and have been clipped to it"
        )
    return arrays, info, lengths


def _first_source(task: Task, d4rl_dir: str | None, report: Report) -> str:
    """Returns the first source that has the data; downloads it where that is possible.

    A damaged dataset counts as present, so that its error is seen.
    """
    absent = []
    if task.minari is not None:
        try:
            _minari_source(task, report)
            return "minari"
        except UserError as error:
            absent.append(f"minari: {error}")
    if task.d4rl:
        from dtql_jax.datasets import d4rl

        try:
            d4rl.fetch(task.d4rl[0], d4rl_dir, report)
            return "d4rl"
        except UserError as error:
            absent.append(f"d4rl: {error}")
    if task.generated is not None:
        return "generated"
    absent.append(f"generated: {task.not_generated}")
    raise UserError(f"no data for {task.name!r}; {'; '.join(absent)}")


def _minari_source(task: Task, report: Report) -> tuple[Source, tuple[str, ...]]:
    """Returns a task's published datasets and their ids; downloads those that are not local."""
    from dtql_jax.datasets import minari

    if task.minari is None:
        raise UserError(f"Minari has no data for {task.name!r}; its sources: {_sources(task)}")
    minari.fetch(task.minari.dataset_ids, report)
    return task.minari, task.minari.dataset_ids


def _generated_source(task: Task, variant: str) -> GeneratedSource:
    """Returns a task's collection; "" is the usual one."""
    known = {source.variant: source for source in task.generated_variants}
    if task.generated is not None:
        known = {"": task.generated, task.generated.variant: task.generated} | known
    if variant in known:
        return known[variant]
    if not variant or not known:
        raise UserError(
            f"data for {task.name!r} cannot be generated: {task.not_generated}; its sources: "
            f"{_sources(task)}"
        )
    names = [name for name in known if name]
    near = near_matches(variant, names) if names else "it has one collection only"
    raise UserError(f"{task.name!r} has no generated data {variant!r}: {near}")


def _read_minari(
    dataset_ids: Sequence[str], source: Source, report: Report
) -> tuple[Transition, dict[str, Any]]:
    """Reads local Minari datasets; returns arrays and fields of `DatasetInfo`."""
    from dtql_jax.datasets import minari

    arrays, facts = minari.load(dataset_ids, source, report)
    root = store.datasets_root()
    versions = {
        mujoco_version(store.metadata(name).get("requirements") or []) for name in dataset_ids
    }
    return arrays, facts | {
        "dataset_id": "+".join(dataset_ids),
        "version": "+".join(sorted({name.rpartition("-")[2] for name in dataset_ids})),
        "path": str(root / dataset_ids[0] if len(dataset_ids) == 1 else root),
        "reference_scores": None,
        "mujoco_version": versions.pop() if len(versions) == 1 else "",
    }


def _read_d4rl(
    task: Task, d4rl_dir: str | None, report: Report
) -> tuple[Transition, dict[str, Any], Source]:
    """Reads D4RL's file; returns arrays, fields of `DatasetInfo` and the source."""
    from dtql_jax.datasets import d4rl

    if not task.d4rl:
        raise UserError(f"D4RL has no data for {task.name!r}; its sources: {_sources(task)}")
    source = task.d4rl[0]
    path = d4rl.fetch(source, d4rl_dir, report)
    arrays, facts = d4rl.load(path, source, report)
    facts = facts | {
        "dataset_id": source.file_name,
        "version": source.version,
        "path": str(path),
        "reference_scores": source.reference_scores,
    }
    return arrays, facts, source


def _sources(task: Task) -> str:
    return ", ".join(name for name in SOURCES if getattr(task, name))


def _nowhere(line: str) -> None:
    pass


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
