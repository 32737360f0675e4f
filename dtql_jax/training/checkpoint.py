"""Checkpoints by Orbax: saved in the background, the newest few kept, each whole or absent."""

import contextlib
import logging
import shutil
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from dtql_jax.errors import UserError, disk_trouble

_CHECKSUM = "crc32"  # entry of the stored meta that `restore` does not return
# loggers on which a failed background write repeats what `save` and `wait` raise
_LOGGERS = ("absl", "asyncio")


class SaveError(Exception):
    """A checkpoint could not be written; earlier ones are whole. The message is one line."""


class Checkpoints:
    """The checkpoints of one run, numbered by updates made (pretraining included).

    Use it as a context manager, or call `close`; otherwise the last save may be lost.
    """

    def __init__(self, folder: str | Path, keep: int = 2) -> None:
        """Opens `folder` (made if it does not exist) and keeps the newest `keep` checkpoints."""
        self.folder = Path(folder).resolve()
        self._levels = {name: logging.getLogger(name).level for name in _LOGGERS}
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        sys.unraisablehook = _report_unraisable
        handlers: Any = {
            "state": ocp.StandardCheckpointHandler(),
            "meta": ocp.JsonCheckpointHandler(),
        }
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        try:
            self._manager = ocp.CheckpointManager(
                self.folder, options=options, item_names=tuple(handlers), item_handlers=handlers
            )
        except Exception as error:  # Orbax has no type of its own for a foreign folder
            self._restore_loggers()
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"{self.folder} is no folder of checkpoints: {reason}") from error

    def latest(self) -> int | None:
        """The number of the newest checkpoint, including one that is being written; or None."""
        return self._manager.latest_step()

    def save(self, update: int, state: Any, meta: dict[str, Any]) -> None:
        """Saves a pytree of arrays and a dict for JSON; returns before the files are written.

        SaveError if this checkpoint or the one before it could not be written.
        """
        if update == self.latest():
            return
        meta = meta | {_CHECKSUM: _checksum(state)}
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
        with self._reporting():
            self._manager.save(update, args=items)

    def restore(self, like: Any, update: int | None = None) -> tuple[Any, dict[str, Any]]:
        """Returns (state, meta) of checkpoint `update`, by default the newest.

        `like` is a pytree of arrays or `jax.ShapeDtypeStruct`s with the expected layout.

        Raises:
          UserError: there is none, its layout is not that of `like` (the message names the first
            difference), or its numbers are not those that were saved.
        """
        update = self.latest() if update is None else update
        if update is None:
            raise UserError(f"no checkpoint in {self.folder}; the run ended before its first one")
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract), meta=ocp.args.JsonRestore()
        )
        try:
            self._check_layout(update, abstract)
            restored: Any = self._manager.restore(update, args=items)
        except UserError:
            raise
        except Exception as error:  # whatever Orbax raises for missing or damaged files
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise self._damaged(update, reason) from error
        state, meta = restored.state, restored.meta
        given = meta.pop(_CHECKSUM, None) if isinstance(meta, dict) else 0
        if None not in (given, found := _checksum(state)) and given != found:
            raise self._damaged(update, "its numbers are not those that were saved")
        return state, meta

    def _check_layout(self, update: int, expected: Any) -> None:
        """Raises UserError naming the first array that is missing, new or of another shape."""
        metadata: Any = self._manager.item_metadata(update)
        stored, wanted = _layout(metadata["state"].tree), _layout(expected)
        for name in sorted(stored.keys() | wanted.keys()):
            has, needs = stored.get(name, "no such array"), wanted.get(name, "no such array")
            if has != needs:
                raise UserError(
                    f"checkpoint {update} in {self.folder} does not fit this run's networks: it "
                    f"has {has} for {name}; expected {needs}"
                )

    def _damaged(self, update: int, reason: str) -> UserError:
        text = f"checkpoint {update} in {self.folder} is damaged: {reason}"
        earlier = [step for step in self._manager.all_steps() if step < update]
        if earlier:
            text += f"; remove {self.folder / str(update)} to resume from {max(earlier)}"
        return UserError(text)

    def wait(self) -> None:
        """Waits for the save in progress; SaveError if it could not be written."""
        with self._reporting():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the save in progress and stops Orbax's threads; SaveError as in `wait`."""
        try:
            with self._reporting():
                self._manager.close()
        finally:
            self._restore_loggers()

    def _restore_loggers(self) -> None:
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        """Turns any exception of a failed write into SaveError, and removes its partial files."""
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
        # a failed save must not mask the original exception
        with contextlib.suppress(*([] if kind is None else [SaveError])):
            self.close()


def _report_unraisable(unraisable: Any) -> None:
    """Drops the messages of writes that Orbax abandoned after a failed one."""
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def _layout(tree: Any) -> dict[str, str]:
    """Shape and type of each array, by its path."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in leaves
    }


def _checksum(tree: Any) -> int | None:
    """A number that changes with any bit of the arrays; None if other hosts have some of them."""
    value = 0
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.Array) and not (
            leaf.is_fully_addressable or leaf.is_fully_replicated
        ):
            return None
        value = zlib.crc32(np.asarray(leaf).tobytes(), value)
    return value
