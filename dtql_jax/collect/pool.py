"""Plays the episodes of a collection in several processes and keeps them in part files.

The episodes of a plan are numbered, and episode k draws from its own random numbers. A part is a
fixed group of consecutive episodes in one .npz file. The collection is the episodes in order, up
to the plan's number of transitions, so it is the same for any number of processes. A killed
collection resumes with the parts that are finished.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import importlib.metadata
import itertools
import json
import multiprocessing
import os
import pathlib
import shutil
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from dtql_jax.collect.policies import read_policy
from dtql_jax.collect.recording import Episode, play
from dtql_jax.envs.spec import EnvSpec
from dtql_jax.errors import UserError

# Collections shorter than this are played in this process: starting others takes as long.
_WORTH_PROCESSES = 10.0  # seconds

_COLUMNS = ("actions", "rewards", "terminations", "truncations")

# steps of the finished parts of a plan, by their numbers
Parts = dict[int, int]


@dataclasses.dataclass(frozen=True)
class Plan:
    """The episodes of one behaviour with one policy."""

    env: EnvSpec  # with the time limit of the recording
    behaviour: str  # name in `collect.behaviours`
    settings: dict[str, Any]  # keyword arguments of the behaviour
    policy: str  # path of its file, or ""
    policy_sha256: str
    seed: int  # of the collection
    index: int  # number of this plan in the collection
    transitions: int  # how many are wanted
    part_episodes: int

    def part(self, folder: pathlib.Path, number: int) -> pathlib.Path:
        """Returns the file of a part."""
        return folder / f"part{self.index}-{number:06d}.npz"


def choose_processes(seconds: float) -> int:
    """Returns how many processes pay off for a collection that takes `seconds` on one core."""
    if seconds <= _WORTH_PROCESSES:
        return 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def prepare(folder: pathlib.Path, plans: Sequence[Plan]) -> list[Parts]:
    """Makes the folder of a collection ready; returns the finished parts of each plan.

    Parts of another collection (another policy, simulator or plan) are removed.
    """
    identities = []
    for plan in plans:
        identity = dataclasses.asdict(plan) | {"env": plan.env.to_dict()}
        del identity["policy"]  # its sha256 counts, not its path
        identities.append(identity)
    versions = {
        name: importlib.metadata.version(name)
        for name in ("mujoco", "gymnasium", "gymnasium-robotics", "numpy")
    }
    text = json.dumps([identities, versions], sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()
    mark = folder / "collection.json"
    if folder.is_dir() and not (mark.is_file() and mark.read_text() == key):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(key)
    for unfinished in folder.glob("*.writing"):  # left by a killed process
        unfinished.unlink(missing_ok=True)
    return [_finished(folder, plan) for plan in plans]


def _finished(folder: pathlib.Path, plan: Plan) -> Parts:
    parts = {}
    for path in folder.glob(f"part{plan.index}-*.npz"):
        with contextlib.suppress(Exception):  # a damaged part is played again
            number = int(path.stem.partition("-")[2])
            parts[number] = sum(len(episode.rewards) for episode in read_part(path))
    return parts


def collect(
    folder: pathlib.Path,
    plans: Sequence[Plan],
    finished: Sequence[Parts],
    processes: int,
    advance: Callable[[int], None],
) -> None:
    """Plays until each plan has its transitions.

    Args:
      folder: the folder of the parts.
      plans: in order.
      finished: result of `prepare`; new parts are added.
      processes: how many play; 1: this one.
      advance: receives the steps of each part when it is finished.

    Raises:
      UserError: a process died.
    """
    running: dict[concurrent.futures.Future[int], tuple[Plan, int]] = {}
    with _executor(folder, processes) as executor:
        for plan, parts in zip(plans, finished, strict=True):
            unplayed = (number for number in itertools.count() if number not in parts)
            while (missing := plan.transitions - _in_order(parts)) > 0:
                while len(running) < processes:
                    number = next(unplayed)
                    with _without_main_module():
                        future = executor.submit(_play, plan, number, missing)
                    running[future] = plan, number
                done, _ = concurrent.futures.wait(running, return_when="FIRST_COMPLETED")
                for future in done:
                    own, number = running.pop(future)
                    if own is plan:  # a finished plan needs no more of its parts
                        parts[number] = future.result()
                        advance(parts[number])


def _in_order(parts: Parts) -> int:
    """Returns the steps of parts 0, 1, 2, ... up to the first one that is not finished."""
    return sum(
        parts[number] for number in itertools.takewhile(parts.__contains__, itertools.count())
    )


def episodes(folder: pathlib.Path, plan: Plan) -> Iterator[Episode]:
    """Yields the episodes of a finished plan in order; the last is cut at `plan.transitions`."""
    missing = plan.transitions
    for number in itertools.count():
        for episode in read_part(plan.part(folder, number)):
            yield episode.first(missing)
            missing -= len(episode.rewards)
            if missing <= 0:
                return


def write_part(path: pathlib.Path, played: Sequence[Episode]) -> None:
    """Writes episodes under a temporary name and renames the file when it is complete."""
    observations = [
        e.observations if isinstance(e.observations, dict) else {"": e.observations} for e in played
    ]
    arrays: dict[str, Any] = {
        f"observations/{key}": np.concatenate([given[key] for given in observations])
        for key in observations[0]
    }
    arrays |= {name: np.concatenate([getattr(e, name) for e in played]) for name in _COLUMNS}
    arrays["lengths"] = np.array([len(episode.rewards) for episode in played])
    arrays["seeds"] = np.array([episode.seed for episode in played])
    temporary = path.with_name(f"{path.name}.{os.getpid()}.writing")
    with open(temporary, "wb") as file:
        np.savez(file, **arrays)
    os.replace(temporary, path)


def read_part(path: pathlib.Path) -> list[Episode]:
    """Reads the episodes of a part; the zip file's checksums show whether it is intact."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    lengths = arrays["lengths"]
    # an episode of T steps has T + 1 observations
    observations = {
        name.partition("/")[2]: np.split(array, np.cumsum(lengths + 1)[:-1])
        for name, array in arrays.items()
        if name.startswith("observations/")
    }
    rows = [{key: parts[k] for key, parts in observations.items()} for k in range(len(lengths))]
    columns = [np.split(arrays[name], np.cumsum(lengths)[:-1]) for name in _COLUMNS]
    fields = arrays["seeds"].tolist(), [row.get("", row) for row in rows], *columns
    return [Episode(*own) for own in zip(*fields, strict=True)]


class _Player:
    """Plays parts; keeps the environment of the last plan."""

    def __init__(self, folder: pathlib.Path, stop: Any):
        """Takes the folder of the parts, and an event: when it is set, no episode is begun."""
        self._folder, self._stop = folder, stop
        self._plan: Plan | None = None

    def play(self, plan: Plan, number: int, limit: int) -> int:
        """Plays a part, or its first episodes that have `limit` steps; returns its steps."""
        if self._stop.is_set():
            return 0
        if plan != self._plan:
            # imported late: the simulators take a second
            from dtql_jax.collect.behaviours import make_behaviour
            from dtql_jax.envs.make import make_base_env

            self._env = make_base_env(plan.env)
            policy = read_policy(plan.policy) if plan.policy else None
            self._behaviour = make_behaviour(plan.behaviour, self._env, policy, plan.settings)
            self._plan = plan
        played: list[Episode] = []
        steps, first = 0, number * plan.part_episodes
        for k in range(first, first + plan.part_episodes):
            if self._stop.is_set():
                return 0
            played.append(play(self._env, self._behaviour, (plan.seed, k, plan.index)))
            steps += len(played[-1].rewards)
            if steps >= limit:
                break
        write_part(plan.part(self._folder, number), played)
        return steps


# the player of each process or thread that plays
_own = threading.local()


def _start(folder: pathlib.Path, stop: Any) -> None:
    _own.player = _Player(folder, stop)


def _play(plan: Plan, number: int, limit: int) -> int:
    return _own.player.play(plan, number, limit)


@contextlib.contextmanager
def _executor(folder: pathlib.Path, processes: int) -> Iterator[concurrent.futures.Executor]:
    """Yields an executor whose processes play parts of a folder; 1: a thread of this process."""
    context = multiprocessing.get_context("spawn")  # a fork would copy jax's threads and locks
    stop = context.Event()
    if processes == 1:
        executor: Any = concurrent.futures.ThreadPoolExecutor(
            1, initializer=_start, initargs=(folder, stop)
        )
    else:
        executor = concurrent.futures.ProcessPoolExecutor(
            processes, context, initializer=_start_process, initargs=(folder, stop)
        )
    try:
        yield executor
    except concurrent.futures.BrokenExecutor as error:
        raise UserError(
            "a process of the collection died; finished parts are kept, collect again to resume"
        ) from error
    finally:
        stop.set()
        executor.shutdown(cancel_futures=True)


def _start_process(folder: pathlib.Path, stop: Any) -> None:
    """Prepares a spawned process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its processes itself
    os.dup2(2, 1)  # a simulator's prints must not mix with the caller's output
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    _start(folder, stop)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _without_main_module() -> Iterator[None]:
    """Keeps a spawned process from running the caller's main script again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
