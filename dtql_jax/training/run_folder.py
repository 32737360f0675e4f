"""The folder of one run: its lock, and its record of what was run.

run.json      configuration, dataset, command, versions and commit; written once, read by `resume`
summary.json  the result; written when the run ends
checkpoints/  by Orbax; metrics.csv, evaluations.csv, episodes.csv, tensorboard/, *.png
"""

import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import dtql_jax
from dtql_jax.errors import UserError, is_forbidden
from dtql_jax.training import hosts

# layout of run.json and of the checkpoints; folders of another one are refused
FORMAT = 2
_DIGEST = "sha256"  # entry of run.json: the digest of all other entries
_UNBORN = (".lock", "run.json.part")  # left by a run that was killed before it had a record
# entries of a dataset's record that other modules rely on
_DATASET = {"fingerprint": str, "dataset_id": str, "observation_dim": int, "action_dim": int}
PACKAGES = ("jax", "jaxlib", "flax", "optax", "chex", "orbax-checkpoint", "numpy", "minari")
SIMULATORS = ("gymnasium", "gymnasium-robotics", "mujoco")


def versions() -> dict[str, str]:
    """Versions of this package, Python and the libraries that numbers depend on."""
    found = {"python": platform.python_version(), "dtql-jax": dtql_jax.__version__}
    for name in (*PACKAGES, *SIMULATORS):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit() -> str:
    """The git commit of this package's source, "-dirty" if changed since; "unknown" elsewhere."""
    folder = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # an installed package may be inside another repository
        git("ls-files", "--error-unmatch", __file__)
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file atomically."""
    path = Path(path)
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    os.replace(partial, path)


class RunFolder:
    """The folder of a run, locked while this process works in it.

    Attributes:
      path: path of the folder.
      run: the content of run.json.
    """

    def __init__(self, path: Path, run: dict[str, Any], lock: int | None) -> None:
        """Use `create` or `open`."""
        self.path, self.run, self._lock = path, run, lock

    @classmethod
    def check_free(cls, path: str | Path) -> None:
        """Raises UserError if `path` cannot become the folder of a new run."""
        path = Path(path)
        if (path / "run.json").exists():
            raise UserError(
                f"OUT {path} holds another run already; continue it by `make resume RUN={path}` "
                "or choose another OUT"
            )
        if path.is_file() or (path.is_dir() and any(p.name not in _UNBORN for p in path.iterdir())):
            raise UserError(f"OUT {path} is not empty; expected a new or an empty folder")

    @classmethod
    def create(cls, path: str | Path, run: Mapping[str, Any]) -> Self:
        """Makes the folder of a new run; UserError if it is not free."""
        cls.check_free(path)
        path = Path(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"OUT {path} cannot be made: {error.strerror}") from error
        lock = _lock(path)
        try:
            cls.check_free(path)  # another process may have started a run here since
            content = dict(run) | {
                "format": FORMAT,
                "command": [sys.executable, *sys.argv],
                "versions": versions(),
                "commit": commit(),
            }
            write_json(path / "run.json", content | {_DIGEST: _digest(content)})
        except BaseException:
            os.close(lock)
            raise
        return cls(path, content, lock)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Opens the folder of an earlier run; UserError if there is none or it is being used."""
        return cls(Path(path), cls.read(path), _lock(Path(path)))

    @staticmethod
    def read(path: str | Path) -> dict[str, Any]:
        """The content of a folder's run.json; UserError if there is none."""
        path = Path(path) / "run.json"
        try:
            run = json.loads(path.read_text())
        except FileNotFoundError:
            raise UserError(
                f"RUN {path.parent} holds no run.json; expected the folder of a run"
            ) from None
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read: {error}") from error
        _check(path, run)
        return run

    @classmethod
    def shared(cls, path: str | Path, make: Callable[[], Self]) -> Self:
        """Returns the folder that `make` makes or opens; only the first host locks it."""
        folder = hosts.on_first(make)
        return hosts.together(lambda: folder or cls(Path(path), cls.read(path), None))

    def close(self) -> None:
        """Unlocks the folder."""
        if self._lock is not None:
            os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check(path: Path, run: Any) -> None:
    """Raises UserError unless `run`, read from `path`, is what `RunFolder.create` writes."""
    for name in ("config", "dataset"):
        if not isinstance(run, dict) or not isinstance(run.get(name), dict):
            raise UserError(f"{path} lacks {name!r}; it is not a record of this package")
    if run.get("format") != FORMAT:
        known = run.get("versions")
        version = known.get("dtql-jax", "unknown") if isinstance(known, dict) else "unknown"
        raise UserError(
            f"{path} was written by dtql-jax {version}, commit {str(run.get('commit'))[:12]}; this "
            f"is {dtql_jax.__version__}, which cannot read it: use that version for this run"
        )
    digest = run.pop(_DIGEST, None)
    if digest is not None and digest != _digest(run):
        raise UserError(
            f"{path} has changed since its run began; restore it, or remove its entry {_DIGEST!r} "
            "if the change is meant"
        )
    algorithm, members = run["config"].get("algorithm"), run.get("members", [])
    parts = {
        "config.algorithm": isinstance(algorithm, dict) and type(algorithm.get("name")) is str,
        "dataset": all(type(run["dataset"].get(name)) is kind for name, kind in _DATASET.items()),
        "members": isinstance(members, list) and all(map(_is_member, members)),
    }
    wrong = [name for name, good in parts.items() if not good]
    if wrong:
        raise UserError(f"{path}: {wrong[0]} is not as this package writes it; restore the file")


def _is_member(member: Any) -> bool:
    fields = isinstance(member, dict) and set(member) == {"seed", "settings"}
    return fields and type(member["seed"]) is int and isinstance(member["settings"], dict)


def _lock(path: Path) -> int:
    """Locks a folder for this process; the system unlocks it when the process ends."""
    try:
        descriptor = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        if not is_forbidden(error):
            raise
        raise UserError(
            f"{path} cannot be written: {error.strerror}; expected a folder of yours"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise UserError(f"{path} is in use by a run that is still alive") from None
    return descriptor
