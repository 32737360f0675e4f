"""The processes of a collection.

They are fresh interpreters, as in `evaluation.pool`: a fork would copy jax's threads and
locks. They end with their parent.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
import traceback
import weakref
from multiprocessing.connection import Connection, Pipe
from typing import Any

from dtql_jax.collect.shards import Advance, Plan, Player
from dtql_jax.errors import UserError

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from dtql_jax.collect.collection_workers import serve; serve(*map(int, sys.argv[2:]))"
)

# one process a core: more threads inside it only take cores from the other ones
_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class CollectionError(RuntimeError):
    """An episode could not be played; the message is the traceback in the other process."""


# what a worker's answers other than "steps" and "done" raise here
_ERRORS = {"UserError": UserError, "OSError": OSError, "failed": CollectionError}


class Worker:
    """A process that plays shards, one at a time."""

    def __init__(self, folder: pathlib.Path, advance: Advance):
        """Starts the process.

        Args:
          folder: of the files.
          advance: told of steps as they are played.
        """
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
        # also at exit, and where a worker is forgotten
        self.close = weakref.finalize(self, _end, self._process, self.connection)
        self._send(str(folder))

    def start(self, plan: Plan, shard: int, needed: int) -> None:
        """Begins a shard; arguments as of `Player.play`."""
        self._send((plan, shard, needed))

    def receive(self) -> int | None:
        """Returns the steps of the shard when it is played; None: some steps were told of.

        Raises:
          UserError: the process died, or refused the plan.
          OSError: it cannot write its file.
          CollectionError: an episode could not be played there.
        """
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


def serve(pipe: int, parent: int) -> None:
    """Runs in a worker: plays shards until the parent ends it or dies.

    Args:
      pipe: file descriptor of this end of the pipe.
      parent: process id of the parent.
    """
    threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True).start()
    connection = Connection(pipe)
    try:
        player = Player(pathlib.Path(connection.recv()))
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
