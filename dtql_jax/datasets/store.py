"""Minari's store on this machine: where datasets lie, and how a new one gets there whole.

A dataset is made (collected or downloaded) in a hidden staging folder beside the others
and then renamed. A lock file lets two processes that want the same one make it once.
Episodes of a collection that is not finished have a folder of their own there, which
outlives the process that collects.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator

from dtql_jax.errors import UserError

METADATA_FILE = "metadata.json"

# Minari does not look into hidden folders
_WORK = ".dtql_jax"


def datasets_root() -> pathlib.Path:
    """Returns $MINARI_DATASETS_PATH, or ~/.minari/datasets: Minari's own rule."""
    folder = os.environ.get("MINARI_DATASETS_PATH")
    return pathlib.Path(folder) if folder else pathlib.Path.home() / ".minari" / "datasets"


def data_folder(dataset_id: str) -> pathlib.Path:
    """Returns the folder with the data of a dataset, whether it is there or not."""
    return datasets_root() / dataset_id / "data"


def is_local(dataset_id: str) -> bool:
    """Returns whether a dataset lies in the store; Minari itself is not asked, nor imported."""
    return (data_folder(dataset_id) / METADATA_FILE).is_file()


def episodes_folder(dataset_id: str) -> pathlib.Path:
    """Returns the folder for the episodes of a collection that is not finished; not made here."""
    return datasets_root() / _WORK / "episodes" / _slug(dataset_id)


def make(dataset_id: str, write: Callable[[], None], report: Callable[[str], None]) -> None:
    """Adds a dataset to the store unless it is there; never leaves a part of one.

    Args:
      dataset_id: Minari id.
      write: makes the dataset through Minari, which for that time has the staging
        folder as its store (all threads of this process see it so).
      report: receives a line if another process is at it and this one waits.

    Raises:
      UserError: the store cannot be written to, or something else is in its place.
    """
    with _lock(dataset_id, report):
        if is_local(dataset_id):
            return  # made by the process that held the lock before
        staging = pathlib.Path(tempfile.mkdtemp(prefix=f"{_slug(dataset_id)}.", dir=_work_folder()))
        try:
            with store_at(staging):
                write()
            _move_datasets(staging)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _move_datasets(staging: pathlib.Path) -> None:
    """Renames all datasets in a staging folder to their places."""
    for described in staging.rglob("namespace_metadata.json"):
        place = datasets_root() / described.relative_to(staging)
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(described, place)
    for metadata in list(staging.rglob(f"data/{METADATA_FILE}")):
        dataset = metadata.parent.parent
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
    """Returns the folder of locks and staging, made if need be."""
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
    """Holds the lock of a dataset; the system frees it when its process ends, however it ends."""
    folder = _work_folder()
    with open(folder / f"{_slug(dataset_id)}.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"another process is making {dataset_id}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        # with the lock in hand, what lies in staging was left by a process that was killed
        for left_over in folder.glob(f"{_slug(dataset_id)}.*"):
            if left_over.is_dir():
                shutil.rmtree(left_over, ignore_errors=True)
        yield


@contextlib.contextmanager
def store_at(folder: pathlib.Path) -> Iterator[None]:
    """Lets Minari use another folder as its store; it asks the environment alone."""
    before = os.environ.get("MINARI_DATASETS_PATH")
    os.environ["MINARI_DATASETS_PATH"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["MINARI_DATASETS_PATH"]
        else:
            os.environ["MINARI_DATASETS_PATH"] = before
