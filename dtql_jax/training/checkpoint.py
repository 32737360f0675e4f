"""Checkpoints by Orbax: asynchronous, the newest few kept, no half-written one taken for whole."""

import contextlib
import errno
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from dtql_jax.errors import UserError

_LOGGER = logging.getLogger("absl")
_CAUSES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EIO)


class SaveError(Exception):
    """A checkpoint could not be written; the ones before it are whole. The message is one line."""


class Checkpoints:
    """The checkpoints of one run, numbered by updates made (pretraining included).

    Use as a context manager, or call `close`: leaving the process before it loses the last save.
    """

    def __init__(self, folder: str | Path, keep: int = 2) -> None:
        """Opens `folder` (made if it does not exist) and keeps the newest `keep` checkpoints."""
        self.folder = Path(folder).resolve()
        # Orbax's threads log what fails with tracebacks; `save` and `wait` raise the same
        self._log_level = _LOGGER.level
        _LOGGER.setLevel(logging.CRITICAL)
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        self._manager = ocp.CheckpointManager(
            self.folder, options=options, item_names=("state", "meta")
        )

    def latest(self) -> int | None:
        """The number of the newest whole checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, update: int, state: Any, meta: dict[str, Any]) -> None:
        """Saves a pytree of arrays and a JSON-able dict; returns before the files are written.

        Raises:
          SaveError: this checkpoint or the one before it could not be written.
        """
        if update == self.latest():
            return
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
        with self._reporting():
            self._manager.save(update, args=items)

    def restore(self, like: Any, update: int | None = None) -> tuple[Any, dict[str, Any]]:
        """Returns (state, meta) of checkpoint `update`, by default the newest.

        Args:
          like: a pytree of arrays or `jax.ShapeDtypeStruct`s of the layout expected.
          update: its number.

        Raises:
          UserError: there is none, or it does not have the layout of `like`.
        """
        update = self.latest() if update is None else update
        if update is None:
            raise UserError(f"no checkpoint in {self.folder}; the run ended before its first one")
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract), meta=ocp.args.JsonRestore()
        )
        try:
            restored = self._manager.restore(update, args=items)
        except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(
                f"checkpoint {update} in {self.folder} does not fit this run's networks: {reason}"
            ) from error
        return restored.state, restored.meta

    def wait(self) -> None:
        """Blocks until the save under way is whole; SaveError if it could not be written."""
        with self._reporting():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the save under way and stops Orbax's threads; SaveError as in `wait`."""
        try:
            with self._reporting():
                self._manager.close()
        finally:
            _LOGGER.setLevel(self._log_level)

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        """Turns whatever Orbax raises on a failed write into one line, and clears what it left."""
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                self._manager.wait_until_finished()
            for path in self.folder.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(path, ignore_errors=True)
            reason = " ".join(str(error).split())
            raise SaveError(f"{self.folder} cannot be written: {_cause(reason)}") from error

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def _cause(reason: str) -> str:
    """The system's word within a long line of a library."""
    words = (os.strerror(number) for number in _CAUSES)
    return next((word for word in words if word in reason), reason[:200])
