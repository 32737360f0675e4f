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

import hashlib
import os
import pathlib
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from dtql_jax.datasets.cache import cached
from dtql_jax.datasets.registry import ACTION_HIGH, ACTION_LOW
from dtql_jax.datasets.sources import D4rlSource
from dtql_jax.datasets.transitions import check_array, clip_actions, validate
from dtql_jax.errors import UserError
from dtql_jax.types import Transition

if TYPE_CHECKING:
    import h5py

_SILENCE_SECONDS = 30.0
_BLOCK = 1 << 20


def folders(d4rl_dir: str | None = None) -> list[pathlib.Path]:
    """Returns the folders to search: `d4rl_dir`, $D4RL_DATASET_DIR, ~/.d4rl/datasets."""
    named = [d4rl_dir, os.environ.get("D4RL_DATASET_DIR")]
    return [pathlib.Path(name).expanduser() for name in named if name] + [
        pathlib.Path.home() / ".d4rl" / "datasets"
    ]


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


def fetch(
    source: D4rlSource,
    d4rl_dir: str | None,
    report: Callable[[str], None],
    base_url: str | None = None,
) -> pathlib.Path:
    """Returns the path of a source's file; downloads it if an address is given.

    Args:
      source: the file's description.
      d4rl_dir: folder to search first, and to download to.
      report: receives a line before a download.
      base_url: address of the folder of the file; None: $D4RL_BASE_URL. Nothing is downloaded
        without an address.

    Raises:
      UserError: the file is missing and cannot be downloaded.
    """
    base_url = base_url or os.environ.get("D4RL_BASE_URL")
    try:
        return find(source, d4rl_dir)
    except UserError:
        if not base_url:
            raise
    target = folders(d4rl_dir)[0] / source.file_name
    download(f"{base_url.rstrip('/')}/{source.file_name}", target, report)
    return target


def download(url: str, target: pathlib.Path, report: Callable[[str], None]) -> None:
    """Downloads a file to a temporary name, checks it and renames it.

    Its size must be the announced one and it must be a complete HDF5 file. Its sha256 is written
    to `target`.sha256 in the format of the command sha256sum.

    Raises:
      UserError: the address does not answer, or the file is cut off or not HDF5.
    """
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    digest = hashlib.sha256()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_old_parts(target)
        with urllib.request.urlopen(url, timeout=_SILENCE_SECONDS) as answer:
            length = answer.headers.get("Content-Length")
            size = f"{int(length) / 1e6:.0f} MB" if length else "size unknown"
            report(f"downloading {url} ({size}) to {target}")
            with open(part, "wb") as file:
                while block := answer.read(_BLOCK):
                    file.write(block)
                    digest.update(block)
        came = part.stat().st_size
        if length is not None and came != int(length):
            raise UserError(f"downloading {url} broke off: {came} of {length} bytes came")
        _open(part).close()
        target.with_name(f"{target.name}.sha256").write_text(
            f"{digest.hexdigest()}  {target.name}\n"
        )
        os.replace(part, target)
    except UserError as error:
        # name the target, not the temporary file
        line = str(error).replace(part.name, target.name)
        raise UserError(f"{line}; nothing was kept") from error
    except (OSError, ValueError, urllib.error.URLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"downloading {url} failed: {reason}; nothing was kept") from error
    finally:
        part.unlink(missing_ok=True)


def _remove_old_parts(target: pathlib.Path) -> None:
    """Removes files of killed downloads: those without a write for an hour."""
    for part in target.parent.glob(f"{target.name}.*.part"):
        if time.time() - part.stat().st_mtime > 3600:
            part.unlink(missing_ok=True)


def load(
    path: pathlib.Path, source: D4rlSource, report: Callable[[str], None]
) -> tuple[Transition, dict[str, Any]]:
    """Reads a file into transitions, or takes them from the cache.

    Args:
      path: the HDF5 file.
      source: its expected sizes and its time limit.
      report: receives lines about problems with the cache.

    Returns:
      (float32 arrays, facts): "episodes", "episode_lengths" [episodes] (rows that were
      kept of each stretch between ends), "clipped_actions" and "fingerprint".

    Raises:
      UserError: the file is cut off or damaged, lacks a key, has arrays of different
        lengths, wrong dimensions or types, NaN, no rows, or no ends of episodes.
    """
    settings = {
        "reader": "d4rl",
        "limit": source.env.max_episode_steps,
        "sizes": [source.observation_dim, source.action_dim],
    }
    return cached(path.name, [path], settings, lambda: _read_file(path, source), report)


def _read_file(path: pathlib.Path, source: D4rlSource) -> tuple[Transition, dict[str, Any]]:
    _check_sum(path)
    columns = read_columns(path)
    transitions, lengths = from_columns(columns, source.env.max_episode_steps)
    validate(
        transitions,
        name=path.name,
        episodes=len(lengths),
        observation_dim=source.observation_dim,
        action_dim=source.action_dim,
    )
    actions, clipped = clip_actions(np.asarray(transitions.actions), ACTION_LOW, ACTION_HIGH)
    facts = {
        "episodes": len(lengths),
        "episode_lengths": lengths,
        "clipped_actions": clipped,
    }
    return transitions._replace(actions=actions), facts


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
    """Returns timeouts [R] by counting rows, for a file that has none.

    Args:
      terminals: [R], bool.
      max_episode_steps: time limit.
    """
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


def _check_sum(path: pathlib.Path) -> None:
    """Compares a downloaded file with its sha256 at the download."""
    beside = path.with_name(f"{path.name}.sha256")
    if not beside.is_file():
        return
    expected = (beside.read_text().split() or [""])[0]
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise UserError(
            f"{path} has sha256 {found}, expected {expected} ({beside.name}); download it anew"
        )


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
    """Reads the needed arrays as float32 and bool and checks that they fit together."""
    import h5py

    needed = ("observations", "actions", "rewards", "terminals")
    absent = [key for key in needed if not isinstance(file.get(key), h5py.Dataset)]
    if absent:
        raise UserError(
            f"{name} lacks {', '.join(absent)}; expected {', '.join(needed)}, found "
            f"{', '.join(sorted(file)) or 'nothing'}"
        )
    keys = [*needed, "timeouts"] if "timeouts" in file else needed
    rows = file["observations"].shape[0] if file["observations"].ndim else 0
    if rows == 0:
        raise UserError(f"{name} is empty: expected at least one row")
    columns = {}
    for key in keys:
        flat = key not in ("observations", "actions")
        dataset = file[key]
        # text cannot be converted while reading; `check_array` refuses it
        numeric = dataset.dtype.kind in "fiub"
        array = dataset.astype(np.float32)[()] if numeric else np.asarray(dataset[()])
        if flat and array.shape == (rows, 1):
            array = array[:, 0]
        check_array(array, f"{name}: {key}", rows=rows, ndim=1 if flat else 2)
        columns[key] = array
    for key in ("terminals", "timeouts"):
        if key in columns:
            odd = ~np.isin(columns[key], (0.0, 1.0))
            if odd.any():
                raise UserError(
                    f"{name}: {key} must be true or false; row {odd.argmax()} has "
                    f"{columns[key][odd.argmax()]}"
                )
            columns[key] = columns[key].astype(bool)
    return columns
