"""Collecting episodes in several processes, into files, so that a killed collection goes on.

A plan's episodes are numbered; episode k draws from random numbers of its own. Processes
play them in shards of a few (episodes 0 to n - 1, n to 2n - 1, ...) and each shard is a
file as soon as it is played. The collection is the episodes in order, up to the plan's
number of transitions: whoever played them, and however often it was interrupted, it is the
same.

Processes are fresh interpreters, as in `evaluation.workers`: a fork would copy jax's threads
and locks. They import neither jax nor Minari, and end with their parent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

from dtql_jax.datasets.policies import read_policy
from dtql_jax.datasets.recording import (
    Episode,
    cut,
    play,
    read_episodes,
    read_lengths,
    write_episodes,
)
from dtql_jax.envs.spec import EnvSpec
from dtql_jax.errors import UserError

# Shorter collections are played in this process: another takes this long to start.
_WORTH_PROCESSES = 10.0  # seconds

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from dtql_jax.datasets.collection import serve; serve(*map(int, sys.argv[2:]))"
)

# one process a core: more threads inside it only take cores from the other ones
_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

Advance = Callable[[int], None]


class CollectionError(RuntimeError):
    """An episode could not be played; the message is the traceback in the other process."""


# what a worker's answers other than "steps" and "done" raise here
_ERRORS = {"UserError": UserError, "OSError": OSError, "failed": CollectionError}


@dataclasses.dataclass(frozen=True)
class Plan:
    """Episodes of one behaviour with one policy.

    Attributes:
      env: what they are played in; its time limit cuts them.
      behaviour: name in `datasets.behaviours`.
      settings: of the behaviour.
      policy: path of its policy, "" where it has none.
      policy_sha256: of that file, "" where there is none.
      seed: of the collection.
      part: number of this plan in the collection.
      transitions: how many are wanted.
      shard_episodes: episodes in one file.
    """

    env: EnvSpec
    behaviour: str
    settings: dict[str, Any]
    policy: str
    policy_sha256: str
    seed: int
    part: int
    transitions: int
    shard_episodes: int

    def identity(self) -> dict[str, Any]:
        """Returns, JSON-able, all that the episodes depend on."""
        fields = dataclasses.asdict(self) | {"env": self.env.to_dict()}
        return {key: value for key, value in fields.items() if key != "policy"}


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
    player = _Player(folder)
    try:
        while (job := _next_job(parts)) is not None:
            part, shard, needed = job
            part.add(shard, player.play(part.plan, shard, needed, advance))
    finally:
        player.close()


def episodes(folder: pathlib.Path, plans: Sequence[Plan]) -> Iterator[tuple[Plan, Episode]]:
    """Yields the episodes of a whole collection in order, each with the plan it belongs to.

    Raises:
      UserError: a file is damaged; it is removed, so that the next attempt plays it anew.
    """
    for plan in plans:
        shard = done = 0
        while done < plan.transitions:
            path = _shard_path(folder, plan, shard)
            try:
                played = read_episodes(path)
            except ValueError as error:
                path.unlink(missing_ok=True)
                raise UserError(f"{error}; it was removed, collect again") from error
            for episode in played:
                steps = min(len(episode.rewards), plan.transitions - done)
                yield plan, cut(episode, steps)
                done += steps
                if done == plan.transitions:
                    break
            shard += 1


def _key(plans: Sequence[Plan]) -> str:
    """Returns a line that is the same only for the same episodes."""
    versions = {
        name: importlib.metadata.version(name)
        for name in ("mujoco", "gymnasium", "gymnasium-robotics", "numpy")
    }
    text = json.dumps([[plan.identity() for plan in plans], versions], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _shard_path(folder: pathlib.Path, plan: Plan, shard: int) -> pathlib.Path:
    return folder / f"part{plan.part}-{shard:06d}.npz"


class _Part:
    """What is there of one plan: the steps of each shard that was played."""

    def __init__(self, folder: pathlib.Path, plan: Plan):
        self.plan = plan
        self._steps: dict[int, int] = {}
        self._playing: set[int] = set()
        for path in folder.glob(f"part{plan.part}-*.npz"):
            with contextlib.suppress(ValueError):  # damaged: played anew
                self._steps[int(path.stem.partition("-")[2])] = int(read_lengths(path).sum())

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


class _Player:
    """Plays shards; keeps the environment of the plan that it played last."""

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._plan: Plan | None = None
        self._env = self._behaviour = None

    def play(self, plan: Plan, shard: int, needed: int, advance: Advance) -> int:
        """Plays a shard, or less of it if that has all that is needed; returns its steps."""
        if plan != self._plan:
            self._make(plan)
        played: list[Episode] = []
        steps = 0
        first = shard * plan.shard_episodes
        for number in range(first, first + plan.shard_episodes):
            episode = play(self._env, self._behaviour, (plan.seed, number, plan.part))
            played.append(episode)
            steps += len(episode.rewards)
            advance(len(episode.rewards))
            if steps >= needed:
                break
        write_episodes(_shard_path(self._folder, plan, shard), played)
        return steps

    def close(self) -> None:
        if self._env is not None:
            self._env.close()

    def _make(self, plan: Plan) -> None:
        # late: the simulators take a second
        from dtql_jax.datasets.behaviours import make_behaviour
        from dtql_jax.envs.make import make_base_env

        self.close()
        self._env = make_base_env(plan.env)
        policy = read_policy(plan.policy) if plan.policy else None
        if policy is not None and policy.sha256 != plan.policy_sha256:
            raise UserError(f"{plan.policy} has changed while it was used")
        self._behaviour = make_behaviour(plan.behaviour, self._env, policy, plan.settings)
        self._plan = plan


class _Worker:
    """A process that plays shards, one at a time."""

    def __init__(self, folder: pathlib.Path, advance: Advance):
        self._advance = advance
        self.connection, child_end = Pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, json.dumps(sys.path)]
            + [str(number) for number in (child_end.fileno(), os.getpid())],
            pass_fds=[child_end.fileno()],
            env=os.environ | _THREADS,
            stdin=subprocess.DEVNULL,
            stdout=2,  # a simulator that prints must not mix with the caller's output
            process_group=0,  # Ctrl-C reaches the caller alone, which then ends its workers
        )
        child_end.close()
        self.part: _Part | None = None
        self.shard = 0
        self.close = weakref.finalize(self, _end, self._process, self.connection)
        self._send(str(folder))

    def start(self, part: _Part, shard: int, needed: int) -> None:
        self.part, self.shard = part, shard
        self._send((part.plan, shard, needed))

    def receive(self) -> int | None:
        """Returns the steps of the shard when it is played; None: some steps were told of."""
        try:
            kind, value = self.connection.recv()
        except (EOFError, OSError):
            code = self._process.wait()
            raise UserError(
                f"a process of the collection died (exit code {code}); what was played is kept, "
                "collect again to go on with it"
            ) from None
        if kind == "steps":
            self._advance(value)
            return None
        if kind == "done":
            return value
        raise _ERRORS[kind](value)

    def _send(self, message: Any) -> None:
        # a process that is gone is told of by the next receive()
        with contextlib.suppress(OSError):
            self.connection.send(message)


def _end(process: subprocess.Popen, connection: Connection) -> None:
    """Ends a worker at once: the shard that it is at is not needed, or it is played anew."""
    connection.close()
    process.kill()
    process.wait()


def _collect_apart(
    folder: pathlib.Path, parts: Sequence[_Part], processes: int, advance: Advance
) -> None:
    workers: dict[Connection, _Worker] = {}
    idle: list[_Worker] = []
    try:
        for _ in range(processes):
            worker = _Worker(folder, advance)
            workers[worker.connection] = worker
            idle.append(worker)
        while not all(part.finished for part in parts):
            while idle and (job := _next_job(parts)) is not None:
                idle.pop().start(*job)
            for connection in wait(workers):
                worker = workers[connection]
                steps = worker.receive()
                if steps is not None:
                    worker.part.add(worker.shard, steps)
                    idle.append(worker)
    finally:
        for worker in workers.values():
            worker.close()


def serve(pipe: int, parent: int) -> None:
    """Runs in a worker: plays shards until the parent ends it or dies.

    Args:
      pipe: file descriptor of this end of the pipe.
      parent: process id of the parent.
    """
    threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True).start()
    connection = Connection(pipe)
    try:
        player = _Player(pathlib.Path(connection.recv()))
        while True:
            plan, shard, needed = connection.recv()
            try:
                steps = player.play(
                    plan, shard, needed, lambda count: connection.send(("steps", count))
                )
            except ConnectionError:
                raise
            except (UserError, OSError) as error:
                kind = "UserError" if isinstance(error, UserError) else "OSError"
                connection.send((kind, str(error)))
            except Exception:
                connection.send(("failed", traceback.format_exc()))
            else:
                connection.send(("done", steps))
    except (EOFError, OSError):
        pass  # the parent closed its end, or died


def _exit_with_parent(parent: int) -> None:
    """Ends this process soon after its parent."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
