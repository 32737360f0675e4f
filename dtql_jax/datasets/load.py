"""A task's data from the first source that has it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from dtql_jax.datasets import store
from dtql_jax.datasets.info import DatasetInfo
from dtql_jax.datasets.registry import Task, get_task
from dtql_jax.envs.spec import EnvSpec
from dtql_jax.errors import UserError, near_matches
from dtql_jax.types import Transition

SOURCES = ("minari", "d4rl", "generated")

Report = Callable[[str], None]


def load(
    task: str,
    source: str = "auto",
    *,
    d4rl_dir: str | None = None,
    transitions: int | None = None,
    seed: int = 0,
    quiet: bool = False,
    report: Report | None = None,
) -> tuple[Transition, DatasetInfo]:
    """Loads the data of a task.

    Args:
      task: name in the registry, for example "pointmaze-umaze" or "hopper-medium-v2".
      source: "minari" (local, else downloaded), "d4rl" (an HDF5 file), "generated"
        (collected here), or "auto": the first of them, in this order, that has it.
      d4rl_dir: a folder with D4RL's files, looked into first.
      transitions: how many to collect; None: the task's usual number. A number asks
        for "generated", also where the source is "auto".
      seed: of a collection; other sources have nothing to draw.
      quiet: no lines and no progress bars on stderr.
      report: receives each line instead of stderr.

    Returns:
      (arrays, info): C-contiguous float32 numpy arrays of all N transitions.

    Raises:
      UserError: the task or source is unknown, nothing has the data (one line says what
        to do), or what was found is not valid.
    """
    if quiet:
        report = _nowhere
    elif report is None:
        report = _to_stderr
    entry = get_task(task)
    loaders = {
        "minari": lambda: _load_minari(entry, report),
        "d4rl": lambda: _load_d4rl(entry, d4rl_dir, report),
        "generated": lambda: _load_generated(entry, transitions, seed, quiet, report),
    }
    if source not in ("auto", *loaders):
        known = ("auto", *SOURCES)
        raise UserError(f"unknown source {source!r}: {near_matches(source, known)}")
    if transitions is not None and source not in ("auto", "generated"):
        raise UserError(
            f"transitions ({transitions}) is for source 'generated'; {source!r} has all there are"
        )
    if source == "auto":
        source = "generated" if transitions is not None else _first_source(entry, d4rl_dir, report)
    arrays, info = loaders[source]()
    report(
        f"{entry.name}: {info.transitions:,} transitions, {info.episodes:,} episodes from source "
        f"{info.source!r}, dataset {info.dataset_id} ({info.fingerprint[:19]})"
    )
    if info.clipped_actions:
        report(
            f"warning: {info.clipped_actions:,} of {arrays.actions.size:,} action entries of "
            f"{info.dataset_id} lay beyond the action space and were clipped to it"
        )
    return arrays, info


def _first_source(task: Task, d4rl_dir: str | None, report: Report) -> str:
    """Returns the first source that has the data; downloads it where that is possible.

    A dataset that is there but damaged counts as there, so that its error is seen.
    """
    absent = []
    if task.minari is not None:
        try:
            from dtql_jax.datasets import minari

            minari.fetch(task.minari.dataset_ids, report)
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


def _load_minari(task: Task, report: Report) -> tuple[Transition, DatasetInfo]:
    from dtql_jax.datasets import minari

    if task.minari is None:
        raise UserError(f"Minari has no data for {task.name!r}; its sources: {_sources_of(task)}")
    minari.fetch(task.minari.dataset_ids, report)
    names = task.minari.dataset_ids
    arrays, facts = minari.load(names, task.minari, report)
    return arrays, _minari_info(task, "minari", names, task.minari.env, arrays, facts)


def _load_generated(
    task: Task, transitions: int | None, seed: int, quiet: bool, report: Report
) -> tuple[Transition, DatasetInfo]:
    from dtql_jax.datasets import generated, minari

    if task.generated is None:
        raise UserError(
            f"data for {task.name!r} cannot be generated: {task.not_generated}; its sources: "
            f"{_sources_of(task)}"
        )
    name = generated.ensure(
        task.generated, transitions=transitions, seed=seed, quiet=quiet, report=report
    )
    arrays, facts = minari.load([name], task.generated, report)
    return arrays, _minari_info(task, "generated", [name], task.generated.env, arrays, facts)


def _minari_info(
    task: Task,
    source: str,
    dataset_ids: Sequence[str],
    env: EnvSpec,
    arrays: Transition,
    facts: dict[str, Any],
) -> DatasetInfo:
    root = store.datasets_root()
    return DatasetInfo(
        task=task.name,
        source=source,
        dataset_id="+".join(dataset_ids),
        version="+".join(sorted({re.search(r"v\d+$", name)[0] for name in dataset_ids})),
        path=str(root / dataset_ids[0] if len(dataset_ids) == 1 else root),
        fingerprint=facts["fingerprint"],
        episodes=facts["episodes"],
        transitions=len(arrays.rewards),
        observation_dim=arrays.observations.shape[1],
        action_dim=arrays.actions.shape[1],
        observation_layout=env.observation_keys or ("observation",),
        env=env,
        reference_scores=None,
        clipped_actions=facts["clipped_actions"],
    )


def _load_d4rl(task: Task, d4rl_dir: str | None, report: Report) -> tuple[Transition, DatasetInfo]:
    from dtql_jax.datasets import d4rl

    if not task.d4rl:
        raise UserError(f"D4RL has no data for {task.name!r}; its sources: {_sources_of(task)}")
    file = task.d4rl[0]
    path = d4rl.fetch(file, d4rl_dir, report)
    arrays, facts = d4rl.load(path, file, report)
    info = DatasetInfo(
        task=task.name,
        source="d4rl",
        dataset_id=file.file_name,
        version=file.version,
        path=str(path),
        fingerprint=facts["fingerprint"],
        episodes=facts["episodes"],
        transitions=len(arrays.rewards),
        observation_dim=arrays.observations.shape[1],
        action_dim=arrays.actions.shape[1],
        observation_layout=("observation",),
        env=file.env,
        reference_scores=file.reference_scores,
        clipped_actions=facts["clipped_actions"],
    )
    return arrays, info


def _sources_of(task: Task) -> str:
    return ", ".join(name for name in SOURCES if getattr(task, name))


def _nowhere(line: str) -> None:
    pass


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
