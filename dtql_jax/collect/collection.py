"""Collecting episodes in several processes, in shards, so that a killed collection goes on.

A plan's episodes are numbered; episode k draws from random numbers of its own. Processes
play them in shards of a few (episodes 0 to n - 1, n to 2n - 1, ...) and each shard is a
folder of its own as soon as it is played. The collection is the episodes in order, up to the plan's
number of transitions: whoever played them, and however often it was interrupted, it is the
same.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait

from dtql_jax.collect.collection_workers import CollectionError, Worker
from dtql_jax.collect.shards import RECORDING, Advance, Plan, Player, check, read_steps, shard_path
from dtql_jax.errors import UserError

__all__ = ["CollectionError", "Plan", "choose_processes", "collect", "prepare", "shards"]

# Shorter collections are played in this process: another takes this long to start.
_WORTH_PROCESSES = 10.0  # seconds


def choose_processes(seconds: float) -> int:
    """Returns how many processes pay for a collection of so many seconds on one core; 0: none."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    # the processes' pipes are inherited file descriptors, which only POSIX has
    worth = os.name == "posix" and cores > 1 and seconds > _WORTH_PROCESSES
    return cores if worth else 0


def prepare(folder: pathlib.Path, plans: Sequence[Plan]) -> int:
    """Makes a folder ready for a collection; returns the transitions that it has already.

    What another collection left there (another policy, simulator or version of the plans)
    is removed.
    """
    key = _key(plans)
    mark = folder / "collection.json"
    if folder.is_dir() and not (mark.is_file() and mark.read_text() == key):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(key)
    for left_over in folder.glob(f"{RECORDING}*"):  # of a process that was killed
        shutil.rmtree(left_over, ignore_errors=True)
    return sum(_Part(folder, plan).kept for plan in plans)


def collect(folder: pathlib.Path, plans: Sequence[Plan], processes: int, advance: Advance) -> None:
    """Plays until all plans have their transitions in a folder that `prepare` made ready.

    Args:
      folder: of the files.
      plans: in order.
      processes: how many play; 0: this one.
      advance: told of steps as they are played.

    Raises:
      UserError: a process died.
      CollectionError: an episode could not be played in another process; in this one the
        exception is what it is.
      OSError: a file cannot be written.
    """
    parts = [_Part(folder, plan) for plan in plans]
    if processes and not all(part.finished for part in parts):
        _collect_apart(folder, parts, processes, advance)
        return
    player = Player(folder)
    try:
        while (job := _next_job(parts)) is not None:
            part, shard, needed = job
            part.add(shard, player.play(part.plan, shard, needed, advance))
    finally:
        player.close()


def shards(folder: pathlib.Path, plans: Sequence[Plan]) -> Iterator[tuple[Plan, pathlib.Path, int]]:
    """Yields the shards of a whole collection in order, with their plan and the steps it lacks.

    Raises:
      UserError: a shard is damaged; it is removed, so that the next attempt plays it anew.
    """
    for plan in plans:
        lacking, shard = plan.transitions, 0
        while lacking > 0:
            path = shard_path(folder, plan, shard)
            try:
                check(path)
                steps = read_steps(path)
            except ValueError as error:
                shutil.rmtree(path, ignore_errors=True)
                raise UserError(f"{error}; it was removed, collect again") from error
            yield plan, path, lacking
            lacking -= steps
            shard += 1


def _key(plans: Sequence[Plan]) -> str:
    """Returns a line that is the same only for the same episodes."""
    versions = {
        name: importlib.metadata.version(name)
        for name in ("mujoco", "gymnasium", "gymnasium-robotics", "numpy")
    }
    text = json.dumps([[plan.identity() for plan in plans], versions], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class _Part:
    """What is there of one plan: the steps of each shard that was played."""

    def __init__(self, folder: pathlib.Path, plan: Plan):
        self.plan = plan
        self._steps: dict[int, int] = {}
        self._playing: set[int] = set()
        for path in folder.glob(f"part{plan.part}-*"):
            with contextlib.suppress(ValueError):  # damaged: played anew
                self._steps[int(path.name.partition("-")[2])] = read_steps(path)

    @property
    def ready(self) -> int:
        """Transitions of the shards from the first up to the first that is missing."""
        steps = shard = 0
        while shard in self._steps:
            steps += self._steps[shard]
            shard += 1
        return min(steps, self.plan.transitions)

    @property
    def kept(self) -> int:
        """Transitions that need not be played any more, whether some before them are missing."""
        return min(sum(self._steps.values()), self.plan.transitions)

    @property
    def finished(self) -> bool:
        return self.ready == self.plan.transitions

    def add(self, shard: int, steps: int) -> None:
        self._steps[shard] = steps
        self._playing.discard(shard)

    def take(self) -> int | None:
        """Returns the first shard that nobody has played or is playing.

        None: all are there, or probably will be once those that are played now are.
        """
        played = sum(self._steps.values())
        expected = len(self._playing) * played / max(len(self._steps), 1)
        if self.finished or (self._playing and played + expected >= self.plan.transitions):
            return None
        shard = 0
        while shard in self._steps or shard in self._playing:
            shard += 1
        self._playing.add(shard)
        return shard


def _next_job(parts: Sequence[_Part]) -> tuple[_Part, int, int] | None:
    """Returns (part, shard, transitions that the part lacks) to play next; None: nothing now."""
    for part in parts:
        shard = part.take()
        if shard is not None:
            return part, shard, part.plan.transitions - part.ready
    return None


def _collect_apart(
    folder: pathlib.Path, parts: Sequence[_Part], processes: int, advance: Advance
) -> None:
    workers: dict[Connection, Worker] = {}
    playing: dict[Connection, tuple[_Part, int]] = {}
    try:
        for _ in range(processes):
            worker = Worker(folder, advance)
            workers[worker.connection] = worker
        while not all(part.finished for part in parts):
            for connection in workers.keys() - playing.keys():
                if (job := _next_job(parts)) is None:
                    break
                part, shard, needed = job
                workers[connection].start(part.plan, shard, needed)
                playing[connection] = part, shard
            for connection in wait(workers):
                steps = workers[connection].receive()
                if steps is not None:
                    part, shard = playing.pop(connection)
                    part.add(shard, steps)
    finally:
        for worker in workers.values():
            worker.close()
