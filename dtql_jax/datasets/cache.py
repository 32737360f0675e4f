"""Caches flattened datasets as .npz files, so that a second load is fast.

The name of an entry contains a hash of the source files (path, size, time of change) and of
everything that decides how they are read. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dtql_jax.datasets.transitions import fingerprint
from dtql_jax.types import Transition

# Increase it whenever the arrays read from the same files change.
LAYOUT_VERSION = 3

# (arrays, facts: numbers, strings or numpy arrays)
Entry = tuple[Transition, dict[str, Any]]


def cache_root() -> pathlib.Path:
    """Returns $DTQL_JAX_CACHE, or ~/.cache/dtql_jax."""
    folder = os.environ.get("DTQL_JAX_CACHE")
    return pathlib.Path(folder) if folder else pathlib.Path.home() / ".cache" / "dtql_jax"


def cached(
    name: str,
    files: Sequence[pathlib.Path],
    settings: dict[str, Any],
    build: Callable[[], Entry],
    report: Callable[[str], None],
) -> Entry:
    """Returns the result of `build`, from the cache if it was built before.

    A damaged entry is built again. If the cache cannot be written, nothing is kept. `report`
    receives a line about either.

    Args:
      name: readable part of the entry's name, for example a dataset id.
      files: the files that `build` reads.
      settings: everything else that the result depends on, JSON-able.
      build: reads the files and returns (arrays, facts).
      report: receives lines.

    Returns:
      (arrays, facts), "fingerprint" added to the facts.
    """
    paths = [str(pathlib.Path(file).resolve()) for file in files]
    states = [[stat.st_size, stat.st_mtime_ns] for stat in map(os.stat, paths)]
    # a new key in the same slot replaces the older entry
    slot = f"{re.sub(r'[^A-Za-z0-9_.]+', '-', name)}-{_digest([paths, settings])[:8]}"
    key = _digest([LAYOUT_VERSION, paths, states, settings])[:16]
    path = cache_root() / f"{slot}-{key}.npz"
    if path.exists():
        try:
            return _read(path)
        except Exception as error:  # damaged files lead to errors of many types
            reason = " ".join(str(error).split())
            report(f"cache entry {path} is damaged ({reason}); it is built anew")
    transitions, facts = build()
    facts = facts | {"fingerprint": fingerprint(transitions)}
    try:
        _write(path, transitions, facts)
        _remove_outdated(slot, keep=path)
    except OSError as error:
        report(f"cannot keep {name} in the cache {cache_root()}: {error}")
    return transitions, facts


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _read(path: pathlib.Path) -> Entry:
    """Reads an entry; the zip file's checksums show whether it is intact."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    transitions = Transition(*(arrays.pop(field) for field in Transition._fields))
    return transitions, {name: a if a.ndim else a.item() for name, a in arrays.items()}


def _write(path: pathlib.Path, transitions: Transition, facts: dict[str, Any]) -> None:
    """Writes an entry under a temporary name and renames it when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.writing")
    try:
        with open(temporary, "wb") as file:
            np.savez(file, **transitions._asdict(), **facts)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_outdated(slot: str, keep: pathlib.Path) -> None:
    """Removes entries of files that have changed, and of processes that were killed."""
    for entry in keep.parent.glob(f"{slot}-*"):
        # no entry takes an hour to write
        writing = entry.suffix == ".writing" and time.time() - entry.stat().st_mtime < 3600
        if entry.is_dir():  # of version 2
            shutil.rmtree(entry, ignore_errors=True)
        elif entry != keep and not writing:
            entry.unlink(missing_ok=True)
