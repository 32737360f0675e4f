"""Caches flattened datasets as plain .npy files, so that a second load is fast.

A cache entry is a folder with the five arrays of a `Transition`, `meta.json` and the facts that are
arrays (lengths of episodes). Its name contains a hash of the source files (path, size, time of
change) and of everything that decides how they are read. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dtql_jax.datasets.transitions import fingerprint
from dtql_jax.types import Transition

# Increase it whenever the arrays read from the same files change.
LAYOUT_VERSION = 2

# key in meta.json: {name of a fact that is an array: its digest}
_ARRAYS = "arrays"

# (arrays, facts: JSON-able values or numpy arrays)
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

    Args:
      name: readable part of the entry's name, for example a dataset id.
      files: the files that `build` reads.
      settings: everything else that the result depends on, JSON-able.
      build: reads the files and returns (arrays, facts).
      report: receives a line about problems with the cache.

    Returns:
      (arrays, facts), "fingerprint" added to the facts. A damaged entry is built again. If the
      cache cannot be written, `report` receives a line and nothing is kept.
    """
    slot, key = _name_of(name, files, settings)
    folder = cache_root() / f"{slot}-{key}"
    if folder.is_dir():
        try:
            return _read(folder)
        except Exception as error:  # damaged files lead to errors of many types
            reason = " ".join(str(error).split())
            report(f"cache entry {folder} is damaged ({reason}); it is built anew")
    transitions, facts = build()
    facts = facts | {"fingerprint": fingerprint(transitions)}
    try:
        _write(folder, transitions, facts)
        _remove_outdated(slot, keep=folder)
    except OSError as error:
        report(f"cannot keep {name} in the cache {cache_root()}: {error}")
    return transitions, facts


def _name_of(name: str, files: Sequence[pathlib.Path], settings: dict) -> tuple[str, str]:
    """Returns (slot, key); a new key in the same slot replaces the older entry."""
    paths = [str(pathlib.Path(file).resolve()) for file in files]
    states = [[stat.st_size, stat.st_mtime_ns] for stat in map(os.stat, paths)]
    slot = f"{re.sub(r'[^A-Za-z0-9_.]+', '-', name)}-{_digest([paths, settings])[:8]}"
    return slot, _digest([LAYOUT_VERSION, paths, states, settings])[:16]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _read(folder: pathlib.Path) -> Entry:
    """Reads an entry; ValueError where its arrays have changed."""
    facts = json.loads((folder / "meta.json").read_text())
    arrays = [np.load(folder / f"{field}.npy", allow_pickle=False) for field in Transition._fields]
    transitions = Transition(*arrays)
    found = fingerprint(transitions)
    if found != facts["fingerprint"]:
        raise ValueError(f"its fingerprint is {found}, expected {facts['fingerprint']}")
    for name, digest in facts.pop(_ARRAYS).items():
        facts[name] = np.load(folder / f"{name}.npy", allow_pickle=False)
        if _digest(facts[name].tolist()) != digest:
            raise ValueError(f"its {name} have changed")
    return transitions, facts


def _write(folder: pathlib.Path, transitions: Transition, facts: dict[str, Any]) -> None:
    """Writes an entry under a temporary name and renames it when it is complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent))
    try:
        more = {name: value for name, value in facts.items() if isinstance(value, np.ndarray)}
        for field, array in (transitions._asdict() | more).items():
            np.save(temporary / f"{field}.npy", array, allow_pickle=False)
        plain = {name: value for name, value in facts.items() if name not in more}
        plain[_ARRAYS] = {name: _digest(value.tolist()) for name, value in more.items()}
        (temporary / "meta.json").write_text(json.dumps(plain, indent=1, sort_keys=True))
        if folder.exists():
            # a damaged entry, or one of another process; a folder cannot be replaced in place
            os.replace(folder, temporary / "old")
        os.replace(temporary, folder)
        shutil.rmtree(folder / "old", ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_outdated(slot: str, keep: pathlib.Path) -> None:
    """Removes older entries of the same slot, whose source files have changed."""
    for entry in keep.parent.glob(f"{slot}-*"):
        if entry != keep:
            shutil.rmtree(entry, ignore_errors=True)
    for entry in keep.parent.glob(".writing-*"):
        # left by a killed process: no entry takes an hour to write
        if time.time() - entry.stat().st_mtime > 3600:
            shutil.rmtree(entry, ignore_errors=True)
