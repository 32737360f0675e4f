"""Checkpoints by Orbax: asynchronous, the newest few kept, no half-written one taken for whole."""

import contextlib
import logging
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from dtql_jax.errors import UserError, disk_trouble
from dtql_jax.training import orbax_noise

_LOGGER = logging.getLogger("absl")
_PROBE = ".room"  # a file as large as the next checkpoint, there for a moment
_CHECKSUM = "crc32"  # entry of the stored dict that is not the caller's


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
        orbax_noise.silence()
        self._log_level = _LOGGER.level
        _LOGGER.setLevel(logging.CRITICAL)
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        try:
            self._manager = ocp.CheckpointManager(
                self.folder, options=options, item_names=("state", "meta")
            )
        except Exception as error:  # whatever Orbax says of a folder that is not its own
            _LOGGER.setLevel(self._log_level)
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"{self.folder} is no folder of checkpoints: {reason}") from error

    def latest(self) -> int | None:
        """The number of the newest checkpoint, the one that is being written included, or None."""
        return self._manager.latest_step()

    def whole(self) -> int | None:
        """The number of the newest checkpoint that is whole on the disk, or None."""
        try:
            names = [path.name for path in self.folder.iterdir()]
        except OSError:
            return None
        # one that is being written has another name
        return max((int(name) for name in names if name.isdigit()), default=None)

    def save(self, update: int, state: Any, meta: dict[str, Any]) -> None:
        """Saves a pytree of arrays and a JSON-able dict; returns before the files are written.

        Raises:
          SaveError: this checkpoint or the one before it could not be written.
        """
        if update == self.latest():
            return
        meta = meta | {_CHECKSUM: _checksum(state)}
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
        with self._reporting():
            self._manager.save(update, args=items)

    def check_room(self, update: int, state: Any) -> None:
        """Finds out whether `save` has room, so that one without is not begun: no half checkpoint.

        Raises:
          SaveError: there is none, or the folder cannot be written.
        """
        if update == self.latest() or not hasattr(os, "posix_fallocate"):
            return
        # the numbers alone, or all that the newest one takes
        needed = sum(getattr(leaf, "nbytes", 1) for leaf in jax.tree.leaves(state))
        newest = self.folder / str(self.whole())
        needed = max(needed, sum(p.stat().st_size for p in newest.rglob("*") if p.is_file()))
        probe = self.folder / _PROBE
        try:
            with probe.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, needed)
        except OSError as error:
            if disk_trouble(error):  # else the file system cannot tell
                raise SaveError(f"{self.folder} cannot be written: {error.strerror}") from error
        finally:
            with contextlib.suppress(OSError):
                probe.unlink()

    def restore(self, like: Any, update: int | None = None) -> tuple[Any, dict[str, Any]]:
        """Returns (state, meta) of checkpoint `update`, by default the newest.

        Args:
          like: a pytree of arrays or `jax.ShapeDtypeStruct`s of the layout expected.
          update: its number.

        Raises:
          UserError: there is none, it does not have the layout of `like`, or its numbers are not
            the ones that were saved.
        """
        update = self.latest() if update is None else update
        if update is None:
            raise UserError(f"no checkpoint in {self.folder}; the run ended before its first one")
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract), meta=ocp.args.JsonRestore()
        )
        try:
            restored: Any = self._manager.restore(update, args=items)
        except Exception as error:  # whatever Orbax says of what is missing, foreign or damaged
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise UserError(
                f"checkpoint {update} in {self.folder} is damaged or does not fit this run's "
                f"networks: {reason}{self._instead(update)}"
            ) from error
        state, meta = restored.state, restored.meta
        found = _checksum(state)
        # older checkpoints have no checksum
        given = meta.pop(_CHECKSUM, None) if isinstance(meta, dict) else 0
        if None not in (given, found) and given != found:
            raise UserError(
                f"checkpoint {update} in {self.folder} is damaged: its numbers are not those that "
                f"were saved{self._instead(update)}"
            )
        return state, meta

    def _instead(self, update: int) -> str:
        """What to do about a damaged checkpoint."""
        earlier = [step for step in self._manager.all_steps() if step < update]
        if not earlier:
            return ""
        return f"; remove {self.folder / str(update)} to go on from {max(earlier)}"

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
            reason = disk_trouble(error) or " ".join(str(error).split())[:200]
            raise SaveError(f"{self.folder} cannot be written: {reason}") from error

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        # what ends the run already is what its user is to hear of
        with contextlib.suppress(*([] if kind is None else [SaveError])):
            self.close()


def _checksum(tree: Any) -> int | None:
    """A number that changes with any bit of the arrays; None where this host lacks some of them."""
    value = 0
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.Array) and not (
            leaf.is_fully_addressable or leaf.is_fully_replicated
        ):
            return None
        value = zlib.crc32(np.asarray(leaf).tobytes(), value)
    return value
