"""Plays the episodes of a collection in several processes and keeps them in part files.

The episodes of a plan are numbered, and episode k draws from its own random numbers. Each task
plays a fixed group of consecutive episodes and writes them as one .npz file, the part. The
collection is the episodes in order, up to the plan's number of transitions, so it is the same for
any number of processes. A killed collection resumes with the parts that are finished.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import importlib.metadata
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

# receives the number of steps of each finished part
Advance = Callable[[int], None]

# Collections shorter than this are played in this process: starting others takes as long.
_WORTH_PROCESSES = 10.0  # seconds

_COLUMNS = ("actions", "rewards", "terminations", "truncations")


@dataclasses.dataclass(frozen=True)
class Plan:
    """The episodes of one behaviour with one policy.

    Attributes:
      env: the environment, with the time limit of the recording.
      behaviour: name in `collect.behaviours`.
      settings: keyword arguments of the behaviour.
      policy: path of its policy file, or "".
      policy_sha256: sha256 of that file, or "".
      seed: seed of the collection.
      index: number of this plan in the collection.
      transitions: how many are wanted.
      part_episodes: episodes in one part.
    """

    env: EnvSpec
    behaviour: str
    settings: dict[str, Any]
    policy: str
    policy_sha256: str
    seed: int
    index: int
    transitions: int
    part_episodes: int

    def identity(self) -> dict[str, Any]:
        """Returns everything that the episodes depend on, JSON-able."""
        fields = dataclasses.asdict(self) | {"env": self.env.to_dict()}
        return {key: value for key, value in fields.items() if key != "policy"}

    def part(self, folder: pathlib.Path, number: int) -> pathlib.Path:
        """Returns the file of a part."""
        return folder / f"part{self.index}-{number:06d}.npz"


def choose_processes(seconds: float) -> int:
    """Returns how many processes pay off for a collection that takes `seconds` on one core."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return cores if seconds > _WORTH_PROCESSES else 1


def prepare(folder: pathlib.Path, plans: Sequence[Plan]) -> int:
    """Makes the folder of a collection ready; returns the transitions that are there already.

    Parts of another collection (another policy, simulator or plan) are removed.
    """
    versions = {
        name: importlib.metadata.version(name)
        for name in ("mujoco", "gymnasium", "gymnasium-robotics", "numpy")
    }
    text = json.dumps([[plan.identity() for plan in plans], versions], sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()
    mark = folder / "collection.json"
    if folder.is_dir() and not (mark.is_file() and mark.read_text() == key):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(key)
    for unfinished in folder.glob("*.writing"):  # left by a killed process
        unfinished.unlink(missing_ok=True)
    return sum(_Parts(folder, plan).kept for plan in plans)


def collect(folder: pathlib.Path, plans: Sequence[Plan], processes: int, advance: Advance) -> None:
    """Plays until each plan has its transitions in a folder that `prepare` made ready.

    Args:
      folder: the folder of the parts.
      plans: in order.
      processes: how many play; 1: this one.
      advance: receives the steps of each part when it is finished.

    Raises:
      UserError: a process died.
      OSError: a part cannot be written.
      Exception: whatever an environment or a behaviour raised.
    """
    parts = [_Parts(folder, plan) for plan in plans]
    if processes > 1 and any(own.missing for own in parts):
        _collect_with_processes(folder, parts, processes, advance)
        return
    player = Player(folder)
    while (task := _take(parts)) is not None:
        own, number, limit = task
        steps = player.play(own.plan, number, limit)
        own.add(number, steps)
        advance(steps)
    player.close()


def episodes(folder: pathlib.Path, plan: Plan) -> Iterator[Episode]:
    """Yields the episodes of a finished plan in order; the last is cut at the plan's transitions.

    Raises:
      UserError: a part is damaged. It is removed, so that the next attempt plays it again.
    """
    missing, number = plan.transitions, 0
    while missing > 0:
        path = plan.part(folder, number)
        try:
            played = read_part(path)
        except ValueError as error:
            path.unlink(missing_ok=True)
            raise UserError(f"{error}; it was removed, collect again") from error
        for episode in played:
            if missing > 0:
                yield episode.first(missing)
                missing -= len(episode.rewards)
        number += 1


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
    """Reads the episodes of a part; the zip file's checksums show whether it is intact.

    Raises:
      ValueError: the part is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        ends = np.cumsum(arrays["lengths"])[:-1]
        columns = [np.split(arrays[name], ends) for name in _COLUMNS]
        # an episode of T steps has T + 1 observations
        ends = np.cumsum(arrays["lengths"] + 1)[:-1]
        parts = {
            name.partition("/")[2]: np.split(array, ends)
            for name, array in arrays.items()
            if name.startswith("observations/")
        }
        seeds = arrays["seeds"].tolist()
    except Exception as error:  # a damaged file leads to errors of many types
        raise ValueError(f"{path} is damaged: {error}") from error
    rows = [{key: part[k] for key, part in parts.items()} for k in range(len(seeds))]
    observations = [row.get("", row) for row in rows]
    return [Episode(*fields) for fields in zip(seeds, observations, *columns, strict=True)]


class Player:
    """Plays parts in this process; keeps the environment of the last plan."""

    def __init__(self, folder: pathlib.Path, stop: Callable[[], bool] = lambda: False):
        """Prepares for a folder.

        Args:
          folder: the folder of the parts.
          stop: asked before each episode; true: give the part up.
        """
        self._folder, self._stop = folder, stop
        self._plan: Plan | None = None
        self._env: Any = None
        self._behaviour: Any = None

    def play(self, plan: Plan, number: int, limit: int) -> int:
        """Plays a part, or its first episodes that have `limit` steps; returns its steps."""
        if plan != self._plan:
            self._make(plan)
        played: list[Episode] = []
        steps, first = 0, number * plan.part_episodes
        for k in range(first, first + plan.part_episodes):
            if self._stop():
                return 0
            played.append(play(self._env, self._behaviour, (plan.seed, k, plan.index)))
            steps += len(played[-1].rewards)
            if steps >= limit:
                break
        write_part(plan.part(self._folder, number), played)
        return steps

    def close(self) -> None:
        """Closes the environment."""
        if self._env is not None:
            self._env.close()

    def _make(self, plan: Plan) -> None:
        # imported late: the simulators take a second
        from dtql_jax.collect.behaviours import make_behaviour
        from dtql_jax.envs.make import make_base_env

        self.close()
        self._env = make_base_env(plan.env)
        policy = read_policy(plan.policy) if plan.policy else None
        if policy is not None and policy.sha256 != plan.policy_sha256:
            raise UserError(f"{plan.policy} has changed while it was used")
        self._behaviour = make_behaviour(plan.behaviour, self._env, policy, plan.settings)
        self._plan = plan


class _Parts:
    """The finished and running parts of one plan."""

    def __init__(self, folder: pathlib.Path, plan: Plan):
        self.plan = plan
        self._steps: dict[int, int] = {}
        self._running: set[int] = set()
        for path in folder.glob(f"part{plan.index}-*.npz"):
            # a damaged part is played again
            with contextlib.suppress(Exception), np.load(path, allow_pickle=False) as file:
                self._steps[int(path.stem.partition("-")[2])] = int(file["lengths"].sum())

    @property
    def kept(self) -> int:
        """Transitions that need not be played again."""
        return min(sum(self._steps.values()), self.plan.transitions)

    @property
    def missing(self) -> int:
        """Transitions wanted beyond the uninterrupted sequence of finished parts."""
        steps = number = 0
        while number in self._steps:
            steps += self._steps[number]
            number += 1
        return max(self.plan.transitions - steps, 0)

    def add(self, number: int, steps: int) -> None:
        self._steps[number] = steps
        self._running.discard(number)

    def take(self) -> int | None:
        """Returns the first part that is neither finished nor running.

        None: the plan is finished, or probably will be with the parts that are running.
        """
        played = sum(self._steps.values())
        expected = len(self._running) * played / max(len(self._steps), 1)
        enough = played + expected >= self.plan.transitions
        if not self.missing or (self._running and enough):
            return None
        number = 0
        while number in self._steps or number in self._running:
            number += 1
        self._running.add(number)
        return number


def _take(parts: Sequence[_Parts]) -> tuple[_Parts, int, int] | None:
    """Returns (parts of a plan, number of the part to play, most steps needed), or None."""
    for own in parts:
        missing = own.missing
        if missing and (number := own.take()) is not None:
            return own, number, missing
    return None


def _collect_with_processes(
    folder: pathlib.Path, parts: Sequence[_Parts], processes: int, advance: Advance
) -> None:
    context = multiprocessing.get_context("spawn")  # a fork would copy jax's threads and locks
    stop = context.Event()
    executor = concurrent.futures.ProcessPoolExecutor(
        processes, context, initializer=_start_process, initargs=(folder, stop)
    )
    running: dict[concurrent.futures.Future[int], tuple[_Parts, int]] = {}
    try:
        while any(own.missing for own in parts):
            while len(running) < processes and (task := _take(parts)) is not None:
                own, number, limit = task
                with _without_main_module():
                    future = executor.submit(_play, own.plan, number, limit)
                running[future] = own, number
            finished, _ = concurrent.futures.wait(running, return_when="FIRST_COMPLETED")
            for future in finished:
                own, number = running.pop(future)
                steps = future.result()
                own.add(number, steps)
                advance(steps)
    except concurrent.futures.process.BrokenProcessPool as error:
        raise UserError(
            "a process of the collection died; finished parts are kept, collect again to resume"
        ) from error
    finally:
        stop.set()
        executor.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _without_main_module() -> Iterator[None]:
    """Keeps a spawned process from running the caller's main script again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


# of a spawned process
_player: Player | None = None


def _start_process(folder: pathlib.Path, stop: Any) -> None:
    """Prepares a spawned process."""
    global _player
    _player = Player(folder, stop.is_set)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its processes itself
    os.dup2(2, 1)  # a simulator's prints must not mix with the caller's output
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _play(plan: Plan, number: int, limit: int) -> int:
    assert _player is not None
    return _player.play(plan, number, limit)
