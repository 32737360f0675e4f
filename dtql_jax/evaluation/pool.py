"""Environments stepped in this process, or spread over worker processes, which import no jax.

This is own code because gymnasium.vector steps every environment until the last episode of
the batch has ended. With 50 episodes of Hopper-v5 in 50 environments on two shared cores,
SyncVectorEnv reached 44 % of this module's steps per second and AsyncVectorEnv 31 % of it with
two workers; with 20 episodes of D4RL's AntMaze in 10 environments, all of the same length, both
were equal to it within the noise.
"""

import contextlib
import json
import os
import subprocess
import sys
import traceback
import weakref
from multiprocessing.connection import Connection, Pipe
from typing import Any, NamedTuple

import numpy as np

from dtql_jax.envs.models import compiled_once
from dtql_jax.envs.spec import EnvSpec

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from dtql_jax.evaluation.pool import serve; serve(int(sys.argv[2]))"
)
# Longest wait for one answer in seconds; the first one includes making the environments.
_TIMEOUT = 600.0
# A worker steps one environment at a time; more threads would take cores from other workers.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class SimulatorError(RuntimeError):
    """An environment failed, or a worker process died or hangs."""


class Step(NamedTuple):
    """One step of n environments, k of whose episodes ended by it."""

    observations: np.ndarray  # [n, O] float32, where to act next, in the next episode if one ended
    rewards: np.ndarray  # [n] float64
    ended: np.ndarray  # [n] bool, by termination or time limit
    last_observations: np.ndarray  # [k, O] float32, the closing ones of the ended episodes


class Environments:
    """Numbered environments ("slots"), made at their first reset and kept until `close`.

    SimulatorError where an environment fails.
    """

    def __init__(self, spec: EnvSpec, first: Any = None):
        """Keeps `first`, an environment of `spec`, for slot 0; makes nothing yet."""
        self._spec = spec
        self._envs: dict[int, Any] = {} if first is None else {0: first}
        self._seeds: dict[int, int] = {}
        self._models: dict[Any, Any] = {}

    def reset(self, slots: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """Resets the slots [n] with the seeds [n]; returns observations [n, O] float32."""
        rows = [self._reset(int(k), int(s)) for k, s in zip(slots, seeds, strict=True)]
        return np.asarray(rows, np.float32)

    def step(self, slots: np.ndarray, actions: np.ndarray, next_seeds: np.ndarray) -> Step:
        """Steps the slots [n] and resets those whose episode ended and has a successor.

        `actions` are [n, A] float32; `next_seeds` [n] are negative where no episode follows.
        """
        observations, last = [], []
        rewards, ended = np.zeros(len(slots)), np.zeros(len(slots), bool)
        for row, slot in enumerate(map(int, slots)):
            with self._explained(slot, "step"):
                observation, reward, terminated, truncated, _ = self._envs[slot].step(actions[row])
            rewards[row], ended[row] = reward, terminated or truncated
            if ended[row]:
                last.append(observation)
                if next_seeds[row] >= 0:
                    observation = self._reset(slot, int(next_seeds[row]))
            observations.append(observation)
        observations = np.asarray(observations, np.float32)
        last = np.asarray(last, np.float32).reshape(-1, observations.shape[1])
        return Step(observations, rewards, ended, last)

    def close(self) -> None:
        """Closes the environments; a later `reset` makes new ones."""
        for env in self._envs.values():
            env.close()
        self._envs.clear()

    def _reset(self, slot: int, seed: int) -> np.ndarray:
        self._seeds[slot] = seed
        with self._explained(slot, "reset"):
            if slot not in self._envs:
                from dtql_jax.envs.make import make_env  # imports gymnasium, about a second

                with compiled_once(self._models):
                    self._envs[slot] = make_env(self._spec)
            return self._envs[slot].reset(seed=seed)[0]

    @contextlib.contextmanager
    def _explained(self, slot: int, action: str):
        try:
            yield
        except Exception as error:
            # The traceback becomes text because not every exception can be sent by a worker.
            raise SimulatorError(
                f"{action} of {self._spec.env_id} failed in the episode of "
                f"env.reset(seed={self._seeds[slot]}):\n{traceback.format_exc()}"
            ) from error


class WorkerPool:
    """`Environments` spread over worker processes; slot k belongs to worker k % workers.

    Workers are started by `subprocess`, not `multiprocessing`: a fork would copy jax's threads
    and locks, and a spawn would run the caller's main script again.
    """

    def __init__(self, spec: EnvSpec, workers: int):
        """Starts nothing yet: the first `reset` starts the workers."""
        self._spec, self._number = spec, workers
        self._workers: list[_Worker] = []

    @property
    def pids(self) -> list[int]:
        """Process ids of the running workers."""
        return [worker.pid for worker in self._workers]

    def reset(self, slots: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """As `Environments.reset`; SimulatorError also where a worker died."""
        if not self._workers:
            self._workers = [_Worker(self._spec, number) for number in range(self._number)]
        answers = self._ask("reset", slots, slots, seeds)
        observations = np.empty((len(slots), answers[0][1].shape[1]), np.float32)
        for rows, part in answers:
            observations[rows] = part
        return observations

    def step(self, slots: np.ndarray, actions: np.ndarray, next_seeds: np.ndarray) -> Step:
        """As `Environments.step`; SimulatorError also where a worker died."""
        answers = self._ask("step", slots, slots, actions, next_seeds)
        shape = len(slots), answers[0][1].observations.shape[1]
        observations, last = np.empty(shape, np.float32), np.empty(shape, np.float32)
        rewards, ended = np.zeros(len(slots)), np.zeros(len(slots), bool)
        for rows, part in answers:
            observations[rows], rewards[rows], ended[rows] = part[:3]
            last[rows[part.ended]] = part.last_observations
        return Step(observations, rewards, ended, last[ended])

    def close(self) -> None:
        """Ends the workers; a later `reset` starts new ones."""
        for worker in self._workers:
            worker.close()
        self._workers = []

    def _ask(self, name: str, slots: np.ndarray, *arrays: np.ndarray) -> list[tuple]:
        """Calls a method of each worker with its rows; returns (rows, answer) of each."""
        asked = []
        for number, worker in enumerate(self._workers):
            rows = np.flatnonzero(slots % self._number == number)
            if rows.size:
                worker.send((name, *(array[rows] for array in arrays)))
                asked.append((rows, worker))
        return [(rows, worker.receive()) for rows, worker in asked]


class _Worker:
    """A process that serves `Environments` over a pipe."""

    def __init__(self, spec: EnvSpec, number: int):
        self._number = number
        self._connection, child = Pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, json.dumps(sys.path), str(child.fileno())],
            pass_fds=(child.fileno(),),
            env=os.environ | _ONE_THREAD,
            stdin=subprocess.DEVNULL,
            stdout=2,  # output of an environment must not mix with the caller's
            process_group=0,  # Ctrl-C reaches the caller alone, which then ends its workers
        )
        child.close()
        # Also called at exit, and when the worker is garbage-collected.
        self.close = weakref.finalize(self, _end, self._process, self._connection)
        self.pid = self._process.pid
        self.send(spec)

    def send(self, message: Any) -> None:
        # `receive` reports a dead worker, with its exit code.
        with contextlib.suppress(OSError):
            self._connection.send(message)

    def receive(self) -> Any:
        try:
            if not self._connection.poll(_TIMEOUT):
                raise SimulatorError(
                    f"evaluation worker {self._number} gave no answer for {_TIMEOUT:g} s"
                )
            failure, answer = self._connection.recv()
        except (EOFError, OSError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=5)
            code = self._process.returncode
            raise SimulatorError(
                f"evaluation worker {self._number} died (exit code {code})"
            ) from None
        if failure is not None:
            raise SimulatorError(failure)
        return answer


def _end(process: subprocess.Popen, connection: Connection) -> None:
    connection.close()  # the worker ends when it finds its pipe closed
    try:
        process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def serve(descriptor: int) -> None:
    """Answers calls of `Environments` methods until the other end of the pipe closes."""
    connection = Connection(descriptor)
    with contextlib.suppress(EOFError, OSError):
        environments = Environments(connection.recv())
        while True:
            name, *arguments = connection.recv()
            try:
                answer = None, getattr(environments, name)(*arguments)
            except SimulatorError as error:
                answer = str(error), None
            connection.send(answer)
