"""Minari's store on this machine: its folders, and how a new dataset is added as a whole.

A dataset is collected or downloaded in a hidden staging folder inside the store and then renamed.
A lock file makes sure that two processes that want the same dataset make it once. The parts of an
unfinished collection have a folder of their own there, which outlives the collecting process.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from dtql_jax.errors import UserError

METADATA_FILE = "metadata.json"

# Minari ignores hidden folders
_WORK = ".dtql_jax"


def datasets_root() -> pathlib.Path:
    """Returns $MINARI_DATASETS_PATH, or ~/.minari/datasets: Minari's own rule."""
    folder = os.environ.get("MINARI_DATASETS_PATH")
    return pathlib.Path(folder) if folder else pathlib.Path.home() / ".minari" / "datasets"


def data_folder(dataset_id: str) -> pathlib.Path:
    """Returns the folder of a dataset's data, whether it exists or not."""
    return datasets_root() / dataset_id / "data"


def is_local(dataset_id: str) -> bool:
    """Returns whether a dataset is in the store, without importing Minari."""
    return (data_folder(dataset_id) / METADATA_FILE).is_file()


def metadata(dataset_id: str) -> dict[str, Any]:
    """Returns the metadata of a local dataset."""
    return json.loads((data_folder(dataset_id) / METADATA_FILE).read_text())


def episodes_folder(dataset_id: str) -> pathlib.Path:
    """Returns the folder for the parts of an unfinished collection; does not make it."""
    return datasets_root() / _WORK / "episodes" / _slug(dataset_id)


def make(dataset_id: str, write: Callable[[], None], report: Callable[[str], None]) -> None:
    """Adds a dataset to the store unless it is there; never leaves an incomplete one.

    Args:
      dataset_id: Minari id.
      write: makes the dataset through Minari, whose store is the staging folder meanwhile (in
        all threads of this process).
      report: receives a line if this process has to wait for another one.

    Raises:
      UserError: the store cannot be written to, or another folder has the dataset's name.
    """
    with _lock(dataset_id, report):
        if is_local(dataset_id):
            return  # made by the process that held the lock before
        staging = pathlib.Path(tempfile.mkdtemp(prefix=f"{_slug(dataset_id)}.", dir=_work_folder()))
        try:
            with _store_at(staging):
                write()
            _move_datasets(staging)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _move_datasets(staging: pathlib.Path) -> None:
    """Renames all datasets in a staging folder to their places."""
    for namespace in staging.rglob("namespace_metadata.json"):
        place = datasets_root() / namespace.relative_to(staging)
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(namespace, place)
    for path in list(staging.rglob(f"data/{METADATA_FILE}")):
        dataset = path.parent.parent
        place = datasets_root() / dataset.relative_to(staging)
        if (place / "data" / METADATA_FILE).is_file():
            continue
        if place.exists():
            raise UserError(
                f"{place} is in the way of a new dataset and is none itself (it has no "
                f"data/{METADATA_FILE}); remove it"
            )
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(dataset, place)


def _work_folder() -> pathlib.Path:
    """Returns the folder of locks and staging; makes it if necessary."""
    folder = datasets_root() / _WORK
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to Minari's store {datasets_root()}: {error}") from error
    return folder


def _slug(dataset_id: str) -> str:
    return dataset_id.replace("/", "__")


@contextlib.contextmanager
def _lock(dataset_id: str, report: Callable[[str], None]) -> Iterator[None]:
    """Holds the lock of a dataset; the system frees it when its process ends in any way."""
    folder = _work_folder()
    with open(folder / f"{_slug(dataset_id)}.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"another process is making {dataset_id}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        # this process holds the lock, so a staging folder here was left by a killed process
        for left_over in folder.glob(f"{_slug(dataset_id)}.*"):
            if left_over.is_dir():
                shutil.rmtree(left_over, ignore_errors=True)
        yield


@contextlib.contextmanager
def _store_at(folder: pathlib.Path) -> Iterator[None]:
    """Redirects Minari's store by the environment variable, the only way that Minari offers."""
    before = os.environ.get("MINARI_DATASETS_PATH")
    os.environ["MINARI_DATASETS_PATH"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["MINARI_DATASETS_PATH"]
        else:
            os.environ["MINARI_DATASETS_PATH"] = before
