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


@contextlib.contextmanager
def lock(dataset_id: str, report: Callable[[str], None]) -> Iterator[None]:
    """Holds the lock of a dataset; the system frees it when its process ends in any way.

    `report` receives a line if this process has to wait for another one.

    Raises:
      UserError: the store cannot be written to.
    """
    folder = datasets_root() / _WORK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / f"{_slug(dataset_id)}.lock", "w")  # noqa: SIM115
    except OSError as error:
        raise UserError(f"cannot write to Minari's store {datasets_root()}: {error}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"another process is making {dataset_id}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def staging(dataset_id: str) -> Iterator[None]:
    """Redirects Minari's store to a staging folder, and then moves the new dataset to its place.

    The caller holds the dataset's lock. Nothing is moved after an exception.

    Raises:
      UserError: another folder has the dataset's name.
    """
    root, before = datasets_root(), os.environ.get("MINARI_DATASETS_PATH")
    for left_over in (root / _WORK).glob(f"{_slug(dataset_id)}.*/"):  # of a killed process
        shutil.rmtree(left_over, ignore_errors=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{_slug(dataset_id)}.", dir=root / _WORK))
    os.environ["MINARI_DATASETS_PATH"] = str(folder)  # the only way that Minari offers
    try:
        yield
        for namespace in folder.rglob("namespace_metadata.json"):
            if not (place := root / namespace.relative_to(folder)).exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(namespace, place)
        place = root / dataset_id
        if place.exists():
            raise UserError(f"{place} is in the way of a new dataset and is none itself; remove it")
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(folder / dataset_id, place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if before is None:
            del os.environ["MINARI_DATASETS_PATH"]
        else:
            os.environ["MINARI_DATASETS_PATH"] = before


def _slug(dataset_id: str) -> str:
    return dataset_id.replace("/", "__")
