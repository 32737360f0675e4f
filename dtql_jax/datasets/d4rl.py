"""D4RL's HDF5 files, read by h5py alone.

The reading rule is that of D4RL's `qlearning_dataset`, row by row:
  - The next observation of row i is the observation of row i + 1, even where the file has
    `next_observations`.
  - A row with a timeout is dropped (its successor belongs to another episode), even if it is a
    terminal too.
  - The last row of the file is dropped (it has no successor).
  - A terminal keeps its row with mask 0. Its next observation is the first of the following
    episode; the mask removes it from every target.
In files without `timeouts` (kitchen), rows are counted, and the row at which the count reaches the
time limit is a timeout. Kitchen's episodes end at terminals, so a demonstration longer than the
limit (280) only loses one row in its middle. Like the reference, the count restarts at 1, not at
0, after a terminal.

In AntMaze's files the rewards and terminals were written afterwards, for the evaluation goal, and
do not match `timeouts` (D4RL#77): an episode continues after its terminal. The rule above is
applied nevertheless, and `episodes` counts the stretches between ends.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import urllib.request
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from dtql_jax.datasets.cache import cached
from dtql_jax.datasets.sources import D4rlSource
from dtql_jax.datasets.transitions import check_array, check_flags, finish
from dtql_jax.errors import UserError
from dtql_jax.types import Transition

if TYPE_CHECKING:
    import h5py

_SILENCE_SECONDS = 30.0
_COLUMNS = {"observations": 2, "actions": 2, "rewards": 1, "terminals": 1}  # axes


def folders(d4rl_dir: str | None = None) -> list[pathlib.Path]:
    """Returns the folders to search: `d4rl_dir`, $D4RL_DATASET_DIR, ~/.d4rl/datasets."""
    named = [d4rl_dir, os.environ.get("D4RL_DATASET_DIR"), "~/.d4rl/datasets"]
    return [pathlib.Path(name).expanduser() for name in named if name]


def find(source: D4rlSource, d4rl_dir: str | None = None) -> pathlib.Path:
    """Returns the path of a source's file.

    Raises:
      UserError: no folder has the file; the line names the folders and the file.
    """
    places = folders(d4rl_dir)
    for folder in places:
        if (folder / source.file_name).is_file():
            return folder / source.file_name
    raise UserError(
        f"D4RL's file {source.file_name} is not in {', '.join(map(str, places))}; put it there, "
        "name its folder by --d4rl_dir or D4RL_DATASET_DIR, or set D4RL_BASE_URL to an address "
        "that has it"
    )


def fetch(source: D4rlSource, d4rl_dir: str | None, report: Callable[[str], None]) -> pathlib.Path:
    """Returns the path of a source's file; downloads it if $D4RL_BASE_URL names an address.

    `d4rl_dir` is searched first, and downloaded to. `report` receives a line before a download.

    Raises:
      UserError: the file is missing and cannot be downloaded.
    """
    try:
        return find(source, d4rl_dir)
    except UserError:
        if not os.environ.get("D4RL_BASE_URL"):
            raise
    url = f"{os.environ['D4RL_BASE_URL'].rstrip('/')}/{source.file_name}"
    target = folders(d4rl_dir)[0] / source.file_name
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(url, timeout=_SILENCE_SECONDS) as answer:
            report(f"downloading {url} to {target}")
            with open(part, "wb") as file:
                shutil.copyfileobj(answer, file)
            length = answer.headers.get("Content-Length")
        came = part.stat().st_size
        if length is not None and came != int(length):
            raise OSError(f"broke off: {came} of {length} bytes came")
        _open(part).close()
        os.replace(part, target)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"downloading {url} failed ({reason}); nothing was kept") from error
    finally:
        part.unlink(missing_ok=True)
    return target


def load(
    path: pathlib.Path, source: D4rlSource, report: Callable[[str], None]
) -> tuple[Transition, dict[str, Any]]:
    """Reads a file of a source's sizes and time limit, or takes it from the cache.

    Returns:
      (float32 arrays, facts): "episodes", "episode_lengths" [episodes] (rows that were
      kept of each stretch between ends), "clipped_actions" and "fingerprint".

    Raises:
      UserError: the file is cut off or damaged, lacks a key, has arrays of different
        lengths, wrong dimensions or types, NaN, no rows, or no ends of episodes.
    """
    limit, sizes = source.env.max_episode_steps, [source.observation_dim, source.action_dim]
    settings = {"reader": "d4rl", "limit": limit, "sizes": sizes}

    def read() -> tuple[Transition, dict[str, Any]]:
        return finish(*from_columns(read_columns(path), limit), source, path.name)

    return cached(path.name, [path], settings, read, report)


def from_columns(
    columns: dict[str, np.ndarray], max_episode_steps: int
) -> tuple[Transition, np.ndarray]:
    """Applies the rule in the module's docstring.

    Args:
      columns: observations [R, O], actions [R, A], rewards [R], terminals [R] (bool) and,
        where the file has them, timeouts [R] (bool).
      max_episode_steps: time limit for files without timeouts.

    Returns:
      (transitions [N, ...], rows kept of each stretch between ends [episodes], empty where no
      row is an end).
    """
    terminals, timeouts = columns["terminals"], columns.get("timeouts")
    marked = terminals.any() or (timeouts is not None and timeouts.any())
    if timeouts is None:
        timeouts = count_timeouts(terminals, max_episode_steps)
    keep = ~timeouts[:-1]
    ends = terminals | timeouts
    episodes = int(ends.sum()) + int(len(ends) > 0 and not ends[-1])
    episode_of_row = np.cumsum(ends) - ends
    lengths = np.bincount(episode_of_row[:-1][keep], minlength=episodes)
    observations = columns["observations"]
    transitions = Transition(
        observations=observations[:-1][keep],
        actions=columns["actions"][:-1][keep],
        next_observations=observations[1:][keep],
        rewards=columns["rewards"][:-1][keep],
        masks=(~terminals[:-1][keep]).astype(np.float32),
    )
    return transitions, lengths if marked else np.zeros(0, np.int64)


def count_timeouts(terminals: np.ndarray, max_episode_steps: int) -> np.ndarray:
    """Returns timeouts [R] from terminals [R] by counting rows, for a file that has none."""
    timeouts = np.zeros(len(terminals), bool)
    count = 0
    for row, terminal in enumerate(terminals.tolist()):
        if count == max_episode_steps - 1:
            timeouts[row] = True
            count = 0
        else:
            # the reference resets the count before it counts this row
            count = 1 if terminal else count + 1
    return timeouts


def _open(path: pathlib.Path) -> h5py.File:
    """Opens an HDF5 file; UserError where it is cut off or not HDF5."""
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not a whole HDF5 file ({reason}); download it anew") from error


def read_columns(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the arrays for `from_columns` as float32 and bool.

    Raises:
      UserError: the file is cut off or damaged, lacks a key, or its arrays do not fit together.
    """
    with _open(path) as file:
        try:
            return _read_columns(file, path.name)
        except UserError:
            raise
        # a damaged file leads to errors of many types, for example absurd sizes
        except Exception as error:
            reason = " ".join(f"{error}".split()) or type(error).__name__
            raise UserError(f"{path} is damaged ({reason}); download it anew") from error


def _read_columns(file: Any, name: str) -> dict[str, np.ndarray]:
    import h5py

    absent = [key for key in _COLUMNS if not isinstance(file.get(key), h5py.Dataset)]
    if absent:
        raise UserError(
            f"{name} lacks {', '.join(absent)}; expected {', '.join(_COLUMNS)}, found "
            f"{', '.join(sorted(file)) or 'nothing'}"
        )
    axes = _COLUMNS | ({"timeouts": 1} if "timeouts" in file else {})
    rows = len(file["observations"])
    if rows == 0:
        raise UserError(f"{name} is empty: expected at least one row")
    columns = {}
    for key, ndim in axes.items():
        if file[key].dtype.kind not in "fiub":
            raise UserError(f"{name}: {key} are of type {file[key].dtype}; expected numbers")
        array = file[key].astype(np.float32)[()]
        if ndim == 1 and array.shape == (rows, 1):
            array = array[:, 0]
        check_array(array, f"{name}: {key}", (rows, None)[:ndim])
        columns[key] = array
    for key in ("terminals", "timeouts"):
        if key in columns:
            check_flags(columns[key], f"{name}: {key}")
            columns[key] = columns[key].astype(bool)
    return columns
