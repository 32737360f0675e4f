"""Scalars in TensorBoard's event files, written by the run's own thread.

tensorboardX's SummaryWriter hands events to a thread of its own. A full disk ends that thread, and
the run then waits for it forever; so here only its formats are used. A record of the file
(TFRecord) is: length (uint64), its checksum (uint32), an Event message, its checksum (uint32).
"""

import socket
import struct
import time
from pathlib import Path
from typing import Any

from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import scalar

from dtql_jax.training.appended import Appended

_MESSAGES: Any = event_pb2  # whose classes are made when it is imported
_VERSION = "brain.Event:2"


class TensorBoardEvents:
    """One event file of a run; a run that goes on begins another one."""

    def __init__(self, folder: str | Path, resume_at: int | None = None) -> None:
        """Begins a file in `folder`, which is made if it does not exist.

        Args:
          folder: of all the run's event files.
          resume_at: TensorBoard hides earlier files' events of later updates than this.

        Raises:
          OSError: it cannot be made.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"
        self._file = Appended(folder / name)
        self._add(file_version=_VERSION)
        if resume_at is not None:
            self._add(
                step=resume_at + 1,
                session_log=_MESSAGES.SessionLog(status=_MESSAGES.SessionLog.START),
            )

    def add_scalar(self, name: str, value: float, update: int) -> None:
        """One scalar at an update."""
        self._add(step=update, summary=scalar(name, value))

    def _add(self, **content: Any) -> None:
        message = _MESSAGES.Event(wall_time=time.time(), **content).SerializeToString()
        length = struct.pack("<Q", len(message))
        checks = [struct.pack("<I", masked_crc32c(part)) for part in (length, message)]
        self._file.append(length + checks[0] + message + checks[1])

    @property
    def problem(self) -> str:
        """Why events are kept back; "" where all are written."""
        return self._file.problem

    def flush(self) -> None:
        """Tries again to write what is kept back."""
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
