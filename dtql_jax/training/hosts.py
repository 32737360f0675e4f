"""Several hosts in one run: the processes of `jax.distributed`, which share a folder.

All hosts make the same calls in the same order, each with the members that lie on its devices.
What they say to each other are small things, at boundaries. On one host nothing here costs
anything.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np

from dtql_jax.errors import LostError, UserError
from dtql_jax.training import messages

T = TypeVar("T")


def join(coordinator: str, processes: int, process: int) -> None:
    """Makes this process one of the hosts; to be called before anything is computed.

    Args:
      coordinator: HOST:PORT of process 0, or "auto" where the cluster says all (Slurm, Cloud TPU).
      processes: how many there are.
      process: the number of this one, from 0.

    Raises:
      UserError: the numbers do not fit together, or the hosts do not find each other.
    """
    arguments: dict[str, Any] = {}
    if coordinator != "auto":
        name, _, port = coordinator.rpartition(":")
        if not name or not port.isdigit() or not 0 < int(port) < 2**16:
            raise UserError(f"--coordinator is {coordinator!r}; expected HOST:PORT or auto")
        if not 0 <= process < processes:
            raise UserError(
                f"--process is {process} of --processes={processes}; expected 0 to N - 1"
            )
        arguments = {
            "coordinator_address": coordinator,
            "num_processes": processes,
            "process_id": process,
            # else Slurm would give this process one GPU
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
    """Whether this host is the one that writes the run's files."""
    return jax.process_index() == 0


def everyone(value: T) -> list[T]:
    """What each host passes, by host: small values that `messages` encodes."""
    if not several():
        return [value]
    own = np.frombuffer(messages.encode(value), np.uint8)
    sizes = gather(np.int32(own.size))
    # a power of two: few programs
    padded = np.zeros(1 << int(sizes.max() - 1).bit_length(), np.uint8)
    padded[: own.size] = own
    rows = gather(padded)
    return [messages.decode(row[:n].tobytes()) for row, n in zip(rows, sizes, strict=True)]


def gather(array: Any, tiled: bool = False) -> np.ndarray:
    """An array of every host, stacked; or one that lies on all hosts' devices, whole (tiled).

    Raises:
      LostError: a host does not answer.
    """
    from jax.experimental import multihost_utils

    try:
        return multihost_utils.process_allgather(array, tiled=tiled)
    except (RuntimeError, ValueError) as error:  # which of them is the network library's choice
        reason = " ".join(str(error).split())[:200]
        raise LostError(f"another host is gone: {reason}") from error


def together(function: Callable[[], T]) -> T:
    """Calls a function on every host; what it raises on one of them, it raises on all."""
    if not several():
        return function()
    try:
        result = function()
    except LostError:
        raise
    except Exception as error:
        everyone(error)
        raise
    for host, error in enumerate(everyone(None)):
        if error is not None:
            raise _named(host, error)
    return result


def on_first(function: Callable[[], T]) -> T | None:
    """Calls a function on the first host alone; what it raises there, it raises on all."""
    return together(function if first() else lambda: None)


def agreed(question: Callable[[], bool]) -> Callable[[], bool]:
    """A question with one answer for all hosts: yes where one of them says so, asked now."""
    if not several():
        return question
    answer = bool(gather(np.uint8(question())).any())
    return lambda: answer


def _named(host: int, error: Exception) -> Exception:
    if len(error.args) == 1:
        error.args = (f"host {host}: {error}",)
    return error
