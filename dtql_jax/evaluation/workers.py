"""Worker processes that step environments, and their supervision.

Workers are fresh interpreters started by `subprocess`, not `multiprocessing` processes: a
fork would copy jax's threads and locks, and a spawn would run the caller's main script
again, which imports jax. A worker imports numpy and the simulator, nothing else.
"""

import contextlib
import json
import mmap
import os
import subprocess
import sys
import tempfile
import threading
import time
import warnings
import weakref
from multiprocessing.connection import Connection, Pipe

import numpy as np

from dtql_jax.envs.spec import EnvSpec
from dtql_jax.evaluation.simulator import (
    HEARTBEAT,
    Simulator,
    SimulatorError,
    StepResult,
    describe_episode,
)

# Importing the simulator from a cold disk may take longer than any step.
_START_TIMEOUT = 120.0  # seconds

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from dtql_jax.evaluation.workers import serve; serve(*map(int, sys.argv[2:]))"
)

# One environment a core: more threads inside a worker only take cores from the other ones.
_THREADS = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "NUMEXPR_NUM_THREADS",
    ),
    "1",
)


class _Lost(Exception):
    """A worker crashed or hangs; the message says which."""


class _Worker:
    """One worker process: a pipe for messages and a page of shared memory for its heartbeat."""

    def __init__(self, spec: EnvSpec, member_seeds: np.ndarray, stride: int):
        self._connection, child_end = Pipe()
        with tempfile.TemporaryFile() as file:
            file.truncate(8 * HEARTBEAT)
            self.heartbeat = np.frombuffer(mmap.mmap(file.fileno(), 8 * HEARTBEAT), np.int64)
            descriptors = (child_end.fileno(), file.fileno())
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, json.dumps(sys.path)]
                + [str(number) for number in (*descriptors, os.getpid())],
                pass_fds=descriptors,
                env=os.environ | _THREADS,
                stdin=subprocess.DEVNULL,
                stdout=2,  # an environment that prints must not mix with the caller's output
                process_group=0,  # Ctrl-C reaches the caller alone, which then closes its workers
            )
        child_end.close()
        # Also at exit, and where an Evaluator is forgotten without close().
        self.close = weakref.finalize(self, _end, self._process, self._connection)
        self.send((spec, member_seeds, stride))

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: tuple) -> None:
        # A worker that is gone is told of by the next receive(), with its exit code.
        with contextlib.suppress(OSError):
            self._connection.send(message)

    def receive(self, timeout: float):
        """Returns the worker's answer; waits as long as its heartbeat goes on.

        Raises:
          _Lost: it died, or did not finish one operation within `timeout` seconds.
          SimulatorError: an environment raised an exception there.
        """
        beats = int(self.heartbeat[0])
        while not self._connection.poll(timeout if beats else max(timeout, _START_TIMEOUT)):
            if beats == self.heartbeat[0]:
                raise _Lost(f"made no progress for {timeout:g} s")
            beats = int(self.heartbeat[0])
        try:
            failure, answer = self._connection.recv()
        except (EOFError, OSError):
            try:
                code = self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                code = "unknown"
            raise _Lost(f"died (exit code {code})") from None
        if failure is not None:
            raise SimulatorError(failure)
        return answer

    def kill(self) -> None:
        self._process.kill()
        self.close()


def _end(process: subprocess.Popen, connection: Connection) -> None:
    """Ends a worker: it leaves at the end of its pipe, or is killed where it hangs."""
    connection.close()
    try:
        process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def serve(pipe: int, heartbeat: int, parent: int) -> None:
    """Runs in the worker: steps environments until the parent closes the pipe or dies.

    Args:
      pipe: file descriptor of this end of the pipe.
      heartbeat: file descriptor of the shared heartbeat.
      parent: process id of the parent.
    """
    threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True).start()
    connection = Connection(pipe)
    beats = np.frombuffer(mmap.mmap(heartbeat, 8 * HEARTBEAT), np.int64)
    try:
        simulator = Simulator(*connection.recv(), heartbeat=beats)
        beats[0] = 1
        while True:
            name, *arguments = connection.recv()
            try:
                answer = getattr(simulator, name)(*arguments)
            except SimulatorError as error:
                connection.send((str(error), None))
            else:
                connection.send((None, answer))
    except (EOFError, OSError):
        pass  # the parent closed its end, or died


def _exit_with_parent(parent: int) -> None:
    """Ends this process soon after its parent, even out of a step that never returns."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


class WorkerPool:
    """Slots spread over worker processes; the same two calls as `Simulator`.

    Processes start with the first run and live until `close`. Slot k belongs to worker
    k % workers, so that the slots still active stay spread evenly.

    A worker that dies, or hangs for longer than the timeout, is replaced once a run, with a
    warning: the episodes it was playing begin again from their seeds. At its second loss the
    run ends with a SimulatorError that names the episode it was lost in.
    """

    def __init__(
        self, spec: EnvSpec, member_seeds: np.ndarray, stride: int, workers: int, timeout: float
    ):
        """Prepares the pool; `timeout` is in seconds for one make, reset or step."""
        self._spec = spec
        self._member_seeds = member_seeds
        self._stride = stride
        self._timeout = timeout
        self._workers: list[_Worker | None] = [None] * workers
        self._replaced: set[int] = set()
        self._rows: list[np.ndarray] = []
        self._active = 0
        self._total = 0

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that run."""
        return [worker.pid for worker in self._workers if worker is not None]

    def start(self, slots: np.ndarray, episodes: np.ndarray, total: int) -> np.ndarray:
        """As `Simulator.start`."""
        self._replaced.clear()
        self._total = total
        self._active = -1
        rows = self._split(slots)
        for index in self._busy(rows):
            if self._workers[index] is None:
                self._workers[index] = self._new(index)
            self._send_start(index, slots[rows[index]], episodes[rows[index]])
        parts = {}
        for index in self._busy(rows):
            try:
                parts[index] = self._workers[index].receive(self._timeout)
            except _Lost as lost:
                parts[index] = self._replace(index, lost, slots[rows[index]], episodes[rows[index]])
        return self._join(rows, parts, len(slots))

    def step(self, actions: np.ndarray, slots: np.ndarray, episodes: np.ndarray) -> StepResult:
        """As `Simulator.step`, for the active `slots` [n] and the `episodes` [n] they play."""
        rows = self._split(slots)
        for index in self._busy(rows):
            self._workers[index].send(("step", actions[rows[index]]))
        parts = {}
        for index in self._busy(rows):
            try:
                parts[index] = self._workers[index].receive(self._timeout)
            except _Lost as lost:
                parts[index] = _restarted(
                    self._replace(index, lost, slots[rows[index]], episodes[rows[index]])
                )
        fields = [
            self._join(rows, {index: part[field] for index, part in parts.items()}, len(slots))
            for field in (0, 1, 2, 4)
        ]
        observations, rewards, ended, restarted = fields
        last = np.empty((int(ended.sum()), observations.shape[1]), np.float32)
        place = np.cumsum(ended) - 1
        for index, part in parts.items():
            last[place[rows[index][part.ended]]] = part.last_observations
        return StepResult(observations, rewards, ended, last, restarted)

    def close(self) -> None:
        """Ends the workers; a later `start` begins new ones."""
        for worker in self._workers:
            if worker is not None:
                worker.close()
        self._workers = [None] * len(self._workers)

    def kill(self) -> None:
        """Ends the workers at once, whatever they are at."""
        for worker in self._workers:
            if worker is not None:
                worker.kill()
        self._workers = [None] * len(self._workers)

    def _new(self, index: int) -> _Worker:
        return _Worker(self._spec, self._member_seeds[index :: len(self._workers)], self._stride)

    def _send_start(self, index: int, slots: np.ndarray, episodes: np.ndarray) -> None:
        self._workers[index].send(("start", slots // len(self._workers), episodes, self._total))

    def _split(self, slots: np.ndarray) -> list[np.ndarray]:
        """Returns each worker's rows of `slots`. In a run slots only leave: the size names them."""
        if len(slots) != self._active:
            owner = slots % len(self._workers)
            self._rows = [np.flatnonzero(owner == index) for index in range(len(self._workers))]
            self._active = len(slots)
        return self._rows

    def _busy(self, rows: list[np.ndarray]) -> list[int]:
        return [index for index, own in enumerate(rows) if own.size]

    def _join(self, rows: list[np.ndarray], parts: dict[int, np.ndarray], n: int) -> np.ndarray:
        first = next(iter(parts.values()))
        joined = np.empty((n, *first.shape[1:]), first.dtype)
        for index, part in parts.items():
            joined[rows[index]] = part
        return joined

    def _replace(
        self, index: int, lost: _Lost, slots: np.ndarray, episodes: np.ndarray
    ) -> np.ndarray:
        """Starts a new worker in place of a lost one; returns its first observations."""
        beats, slot, episode = (int(number) for number in self._workers[index].heartbeat)
        if beats > 1:
            seed = int(self._member_seeds[slot * len(self._workers) + index])
            place = f"at {describe_episode(self._spec, seed, episode)}"
        else:
            place = "while it started"
        self._workers[index].kill()
        self._workers[index] = None
        if index in self._replaced:
            raise SimulatorError(f"evaluation worker {index} {lost} again, {place}")
        self._replaced.add(index)
        warnings.warn(
            f"evaluation worker {index} {lost} {place}; "
            f"starting it again, with its {len(slots)} episodes from their seeds",
            RuntimeWarning,
            stacklevel=4,
        )
        self._workers[index] = self._new(index)
        self._send_start(index, slots, episodes)
        try:
            return self._workers[index].receive(self._timeout)
        except _Lost as again:
            return self._replace(index, again, slots, episodes)


def _restarted(observations: np.ndarray) -> StepResult:
    """Returns the step of a replaced worker: its episodes stand at their start again."""
    n, size = observations.shape
    return StepResult(
        observations,
        np.zeros(n),
        np.zeros(n, bool),
        np.zeros((0, size), np.float32),
        np.ones(n, bool),
    )
