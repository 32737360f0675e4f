"""A trained policy as one file that runs with JAX and numpy alone.

The file is a zip archive:

    metadata.json    task, data, algorithm, sizes, action bounds, versions
    program.jax      `jax.export` of the action choice, for several platforms, any number of rows
    weights/*.npy    the arrays that the program takes, in the order of metadata's "weights"

It holds no code and no pickle. Reading it needs neither the algorithm nor its networks.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.errors import UserError

FORMAT, FORMAT_VERSION = "dtql_jax policy", 1
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
METADATA, PROGRAM, WEIGHTS = "metadata.json", "program.jax", "weights/"
SIZES = ("observation_dim", "action_dim", "action_low", "action_high")

_MEMORY = 256 << 20  # bytes that one call of the program may take for intermediate values
_MOST_ROWS = 4096
# fixed, so that the same policy gives the same bytes
_TIME = (1980, 1, 1, 0, 0, 0)

Act = Callable[[Any, Any, Any], Any]


# ---------------------------------------------------------------------------------------- writing


def export_policy(
    path: str | os.PathLike,
    act: Act,
    state: Any,
    *,
    observation_dim: int,
    action_low: np.ndarray,
    action_high: np.ndarray,
    metadata: Mapping[str, Any],
    platforms: tuple[str, ...] = PLATFORMS,
) -> dict[str, Any]:
    """Writes a policy to one file, whole or not at all.

    Args:
      path: the file.
      act: `Algorithm.act`: (state, observations [..., O], key) -> actions [..., A].
      state: state of one member, without a population axis.
      observation_dim: O.
      action_low: [A], lower bounds of the action space, to which actions are clipped.
      action_high: [A], upper bounds.
      metadata: JSON-able facts to keep in the file.
      platforms: platforms that the program can run on.

    Returns:
      the file's metadata: `metadata` with sizes, bounds, platforms and weights added.

    Raises:
      UserError: the file cannot be written.
    """
    low, high = (np.asarray(bound, np.float32) for bound in (action_low, action_high))
    leaves, tree = jax.tree.flatten(state)
    used = _used_leaves(act, state, observation_dim)
    weights = _named_leaves(state, used)

    def choose(given: list[Any], observation: Any, key_data: Any) -> Any:
        full = list(leaves)  # acting does not read the leaves that are not replaced
        for place, leaf in zip(used, given, strict=True):
            full[place] = leaf
        action = act(jax.tree.unflatten(tree, full), observation, wrap_key(key_data))
        return jnp.clip(action, low, high)

    shapes = [jax.ShapeDtypeStruct(w.shape, w.dtype) for w in weights.values()]
    (rows,) = jax.export.symbolic_shape("rows")
    of_rows = jax.jit(jax.vmap(choose, in_axes=(None, 0, 0)))
    # the paths of this machine's source files stay out of the program
    limit = jax.config.jax_traceback_in_locations_limit  # type: ignore[attr-defined]
    jax.config.update("jax_traceback_in_locations_limit", 0)
    try:
        exported = jax.export.export(of_rows, platforms=platforms)(
            shapes, *_inputs(observation_dim, rows)
        )
    finally:
        jax.config.update("jax_traceback_in_locations_limit", limit)
    content = dict(metadata) | {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "observation_dim": observation_dim,
        "action_dim": len(low),
        "action_low": low.tolist(),
        "action_high": high.tolist(),
        "platforms": list(exported.platforms),
        "rows_at_once": _rows_at_once(choose, shapes, observation_dim),
        "weights": list(weights),
    }
    members = {PROGRAM: bytes(exported.serialize())}
    for name, array in weights.items():
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        members[f"{WEIGHTS}{name}.npy"] = buffer.getvalue()
    content["sha256"] = _digest(members.values())
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name, member in ({METADATA: text.encode()} | members).items():
            file.writestr(zipfile.ZipInfo(name, _TIME), member, zipfile.ZIP_DEFLATED)
    _write(Path(path), archive.getvalue())
    return content


def export_weights(
    path: str | os.PathLike,
    act: Act,
    state: Any,
    *,
    observation_dim: int,
    metadata: Mapping[str, Any],
) -> None:
    """Writes the weights behind the actions as a plain .npz, for a reader without JAX.

    The entries are the leaves of the state that acting reads, named by their path without "params"
    ("target_critics/q/dense_0/kernel"), and "metadata": a JSON text. The arguments are those of
    `export_policy`.
    """
    weights = _named_leaves(state, _used_leaves(act, state, observation_dim))
    arrays: dict[str, Any] = {"metadata": np.array(json.dumps(dict(metadata))), **weights}
    archive = io.BytesIO()
    np.savez(archive, **arrays)
    _write(Path(path), archive.getvalue())


def wrap_key(key_data: Any) -> Any:
    """Returns the key of these words, whatever JAX's default kind of key is."""
    return jax.random.wrap_key_data(key_data, impl="threefry2x32")


def _inputs(observation_dim: int, *rows: Any) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """Shapes of the observations and of the keys' words."""
    return (
        jax.ShapeDtypeStruct((*rows, observation_dim), jnp.float32),
        jax.ShapeDtypeStruct((*rows, 2), jnp.uint32),
    )


def _used_leaves(act: Act, state: Any, observation_dim: int) -> list[int]:
    """Returns the indices of the leaves of a state that `act` reads."""
    leaves, tree = jax.tree.flatten(state)

    def flat(given: list[Any], observation: Any, key_data: Any) -> Any:
        return act(jax.tree.unflatten(tree, given), observation, wrap_key(key_data))

    shapes = [jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)) for x in leaves]
    exported = jax.export.export(jax.jit(flat))(shapes, *_inputs(observation_dim))
    return [i for i in exported.module_kept_var_idx if i < len(leaves)]


def _named_leaves(state: Any, indices: list[int]) -> dict[str, np.ndarray]:
    """Returns some leaves by name; "params" is left out where names still tell them apart."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    chosen = [leaves[i] for i in indices]
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in chosen]
    short = ["/".join(part for part in name.split("/") if part != "params") for name in names]
    names = short if len(set(short)) == len(short) else names
    return {name: np.asarray(leaf) for name, (_, leaf) in zip(names, chosen, strict=True)}


def _rows_at_once(choose: Act, shapes: list[Any], observation_dim: int) -> int:
    """Returns how many observations fit into a call, a power of two; candidates take memory."""
    lowered = jax.jit(choose).lower(shapes, *_inputs(observation_dim))
    analysis = lowered.compile().memory_analysis()
    # None where a backend does not count: few rows are always right
    of_one = max(analysis.temp_size_in_bytes, 1) if analysis is not None else _MEMORY // 8
    return 1 << int(math.log2(min(max(_MEMORY // of_one, 1), _MOST_ROWS)))


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written: {error.strerror}") from error


def _digest(contents: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(contents)).hexdigest()


# ---------------------------------------------------------------------------------------- reading


class LoadedPolicy:
    """A policy from a file: `policy(observation, seed) -> action`.

    Attributes:
      metadata: the file's metadata.
      observation_dim: O.
      action_dim: A.
    """

    def __init__(self, metadata: dict[str, Any], program: Any, weights: list[np.ndarray]) -> None:
        """Use `load_policy`."""
        self.metadata = metadata
        self.observation_dim = program.in_avals[-2].shape[-1]
        self.action_dim = program.out_avals[0].shape[-1]
        self._rows = max(int(metadata["rows_at_once"]), 1)
        self._weights = [jax.device_put(array) for array in weights]
        self._choose = jax.jit(program.call)

    def __call__(self, observation: Any, seed: Any = 0) -> np.ndarray:
        """Chooses an action for one observation, or one for each of a batch.

        Args:
          observation: [O] or [B, O], in the units of the environment.
          seed: an integer in [0, 2**32), or a JAX key. The same seed gives the same action. Row i
            of a batch draws from `fold_in(key(seed), i)`, or from seed[i] where seeds (or keys)
            are [B].

        Returns:
          float32 [A] or [B, A], within the action space.

        Raises:
          UserError: the observation is of another shape or not finite, or a seed is out of range.
        """
        rows, keys = rows_and_keys(observation, seed, self.observation_dim)
        actions = [np.zeros((0, self.action_dim), np.float32)]
        for first in range(0, len(rows), self._rows):
            part = slice(first, first + self._rows)
            actions.append(self._call(rows[part], keys[part]))
        return np.concatenate(actions).reshape(*np.shape(observation)[:-1], self.action_dim)

    def _call(self, rows: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Calls the program on a power of two of rows, because each size is compiled anew."""
        padding = (1 << (len(rows) - 1).bit_length()) - len(rows)
        padded = (np.pad(x, ((0, padding), (0, 0)), "edge") for x in (rows, keys))
        return np.asarray(self._choose(self._weights, *padded))[: len(rows)]


def rows_and_keys(observation: Any, seed: Any, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns observations [B, O] and the words of their keys, [B, 2].

    The arguments are those of a `LoadedPolicy`, and O; a single observation is a batch of one.

    Raises:
      UserError: the observation is of another shape or not finite, or a seed is out of range.
    """
    rows = np.asarray(observation, np.float32)
    if rows.ndim not in (1, 2) or rows.shape[-1] != size:
        raise UserError(f"observation is {rows.shape}; expected ({size},) or (batch, {size})")
    if not np.isfinite(rows).all():
        raise UserError("observation holds numbers that are not finite")
    words = _key_data(seed)
    if rows.ndim == 2 and words.ndim == 1:
        words = np.asarray(_fold_rows(words, np.arange(len(rows), dtype=np.uint32)))
    if words.shape[:-1] != rows.shape[:-1]:
        raise UserError(f"seeds are {words.shape[:-1]}; expected one, or one for each row")
    return np.atleast_2d(rows), np.atleast_2d(words)


def _key_data(seed: Any) -> np.ndarray:
    """Returns the words of `jax.random.key(seed)`: [2], or [B, 2] of several seeds or keys."""
    if isinstance(seed, jax.Array) and jnp.issubdtype(seed.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(seed))
    seeds = np.asarray(seed)
    whole = seeds.dtype.kind in "iu" and seeds.ndim <= 1
    if not whole or (seeds.size and not (seeds.min() >= 0 and seeds.max() < 1 << 32)):
        raise UserError(
            f"seed is {seed!r}; expected an integer in [0, 2**32), [B] of them or a key"
        )
    return np.stack([np.zeros_like(seeds, np.uint32), seeds.astype(np.uint32)], axis=-1)


@jax.jit
def _fold_rows(words: Any, rows: Any) -> Any:
    keys = jax.vmap(lambda row: jax.random.fold_in(wrap_key(words), row))(rows)
    return jax.random.key_data(keys)


def load_policy(path: str | os.PathLike) -> LoadedPolicy:
    """Loads a policy that `export_policy` (or `dtql-jax export`) wrote.

    It needs jax, numpy and flatbuffers, and no other dependency of this package. The program is
    compiled at the first call of each batch size.

    Returns:
      a function (observation [O] or [B, O], seed) -> action [A] or [B, A].

    Raises:
      UserError: the file is missing, damaged, no policy, or not for this platform.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            metadata = json.loads(archive.read(METADATA))
            _check_format(path, metadata)
            serialized = archive.read(PROGRAM)
            contents = [archive.read(f"{WEIGHTS}{name}.npy") for name in metadata["weights"]]
        if metadata["sha256"] != _digest([serialized, *contents]):
            raise UserError(f"{path} is damaged: it does not hold what was exported")
        program = jax.export.deserialize(bytearray(serialized))
        weights = [np.load(io.BytesIO(content), allow_pickle=False) for content in contents]
        policy = LoadedPolicy(metadata, program, weights)
    except FileNotFoundError:
        raise UserError(f"no file {path}; expected a policy from `dtql-jax export`") from None
    except ModuleNotFoundError as error:
        raise UserError(f"reading a policy needs {error.name}: pip install {error.name}") from error
    except UserError:
        raise
    except Exception as error:  # zip, JSON, numpy and JAX raise all kinds
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(
            f"{path} is damaged, no exported policy, or from a newer jax than {jax.__version__}: "
            f"{reason}"
        ) from error
    platform = jax.default_backend()
    names = {"gpu": ("cuda", "rocm")}.get(platform, (platform,))
    if not set(names) & set(program.platforms):
        raise UserError(
            f"{path} has programs for {', '.join(program.platforms)}; this process runs on "
            f"{platform} (JAX_PLATFORMS=cpu chooses the CPU)"
        )
    return policy


def _check_format(path: str | os.PathLike, metadata: Any) -> None:
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise UserError(f"{path} is no exported policy: its metadata has no format {FORMAT!r}")
    version = metadata.get("format_version")
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {version!r}; this version reads {FORMAT_VERSION}: export "
            "the run again, or use the version of dtql_jax that wrote it"
        )
