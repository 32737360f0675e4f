"""Runs on several hosts: the processes of `jax.distributed`, which share a folder.

All hosts make the same calls in the same order, each with the members on its own devices. On one
host these functions return at once.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from dtql_jax.errors import LostError, UserError

T = TypeVar("T")
_TEXT = 500  # bytes of a text that hosts exchange


def join(coordinator: str, processes: int, process: int) -> None:
    """Makes this process one of the hosts; call it before anything is computed.

    Args:
      coordinator: HOST:PORT of process 0, or "auto" where the cluster knows it (Slurm, Cloud TPU).
      processes: number of hosts.
      process: number of this host, from 0.

    Raises:
      UserError: the numbers do not fit together, or the hosts do not find each other.
    """
    arguments: dict[str, Any] = {}
    if coordinator != "auto":
        name, _, port = coordinator.rpartition(":")
        if not name or not port.isdigit() or not 0 < int(port) < 2**16:
            raise UserError(f"--coordinator is {coordinator!r}; expected HOST:PORT or auto")
        if not 0 <= process < processes:
            text = f"--process is {process} of --processes={processes}; expected 0 to N - 1"
            raise UserError(text)
        arguments = {
            "coordinator_address": coordinator,
            "num_processes": processes,
            "process_id": process,
            # Slurm's detection would give this process only one GPU
            "cluster_detection_method": "deactivate",
        }
    try:
        jax.distributed.initialize(**arguments)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"--coordinator={coordinator}: {reason}") from error


def several() -> bool:
    """Whether there are other hosts."""
    return jax.process_count() > 1


def first() -> bool:
    """Whether this host writes the run's files."""
    return jax.process_index() == 0


def gather(array: Any, tiled: bool = False) -> np.ndarray:
    """Stacks an array of each host; or returns an array sharded over all hosts, whole (tiled)."""
    try:
        return multihost_utils.process_allgather(array, tiled=tiled)
    except (RuntimeError, ValueError) as error:  # the type depends on the network library
        reason = " ".join(str(error).split())[:200]
        raise LostError(f"another host is gone: {reason}") from error


def concatenate(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Concatenates the rows of all hosts, by name; each host may have another number of rows."""
    if not several():
        return arrays
    sizes = gather(np.array([len(array) for array in arrays.values()], np.int32))
    found = {}
    for (name, array), rows in zip(arrays.items(), sizes.T, strict=True):
        padded = np.zeros((rows.max(), *array.shape[1:]), array.dtype)
        padded[: len(array)] = array
        # as bytes, because JAX would round 64-bit numbers to 32 bits
        parts = gather(padded.reshape(-1).view(np.uint8))
        whole = (part.view(array.dtype).reshape(padded.shape) for part in parts)
        found[name] = np.concatenate([part[:n] for part, n in zip(whole, rows, strict=True)])
    return found


def texts(text: str) -> list[str]:
    """Returns the text of each host, cut to 500 bytes."""
    if not several():
        return [text]
    own = text.encode()[:_TEXT].ljust(_TEXT, b"\0")
    rows = gather(np.frombuffer(own, np.uint8))
    return [row.tobytes().rstrip(b"\0").decode(errors="replace") for row in rows]


def together(function: Callable[[], T]) -> T:
    """Calls a function on every host; an exception on one host ends the call on all of them.

    Raises:
      UserError: another host raised UserError.
      LostError: another host raised another exception, or does not answer.
    """
    if not several():
        return function()
    try:
        result = function()
    except LostError:
        raise
    except Exception as error:
        texts(f"{type(error).__name__}: {error}")
        raise
    for host, said in enumerate(texts("")):
        kind, _, message = said.partition(": ")
        if kind == "UserError":
            raise UserError(f"host {host}: {message}")
        if said:
            raise LostError(f"host {host} ended: {said}")
    return result


def on_first(function: Callable[[], T]) -> T | None:
    """Calls a function on the first host only; an exception there ends the call on all hosts."""
    return together(function if first() else lambda: None)


def agreed(question: Callable[[], bool]) -> Callable[[], bool]:
    """Returns a question with one answer for all hosts: asked now, true if one host says so."""
    if not several():
        return question
    answer = bool(gather(np.uint8(question())).any())
    return lambda: answer
