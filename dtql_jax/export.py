"""A trained policy as one file that runs with JAX and numpy alone.

The file is a zip archive:

    metadata.json    what the policy is: task, data, algorithm, sizes, action bounds, versions
    program.jax      `jax.export` of the action choice, for several platforms, any number of rows
    weights/*.npy    the arrays that the program takes, in the order of metadata's "weights"

No code and no pickle is in it, and reading it needs neither the algorithm nor its networks.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.errors import UserError

FORMAT, FORMAT_VERSION = "dtql_jax policy", 1
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
METADATA, PROGRAM, WEIGHTS = "metadata.json", "program.jax", "weights/"

_MEMORY = 256 << 20  # bytes that one call of the program may take for intermediate values
_MOST_ROWS = 4096
SIZES = ("observation_dim", "action_dim", "action_low", "action_high")
# fixed, so that the same policy gives the same bytes
_TIME = (1980, 1, 1, 0, 0, 0)

Act = Callable[[Any, Any, Any], Any]


# ---------------------------------------------------------------------------------------- writing


def acting_weights(act: Act, state: Any, observation_dim: int) -> dict[str, np.ndarray]:
    """The leaves of a state that choosing an action reads, by name.

    Args:
      act: `Algorithm.act`.
      state: of one member, without a population axis.
      observation_dim: O.

    Returns:
      name -> array, in the order of the state's leaves. Names are the way to the leaf,
      "target_critics/q/dense_0/kernel"; the word "params" in it is left out.
    """
    return _named_leaves(state, _used_leaves(act, state, observation_dim))


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
      path: of the file.
      act: `Algorithm.act`: (state, observations [..., O], key) -> actions [..., A].
      state: of one member, without a population axis.
      observation_dim: O.
      action_low: [A], the action space; what `act` returns is clipped to it, as an evaluation
        clips what it sends to the environment.
      action_high: [A].
      metadata: JSON-able facts to keep in the file.
      platforms: that the program is compiled for where it is loaded.

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
        # leaves that acting does not read are known by their shapes only
        full = [jnp.zeros(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]
        for place, leaf in zip(used, given, strict=True):
            full[place] = leaf
        key = jax.random.wrap_key_data(key_data, impl="threefry2x32")
        return jnp.clip(act(jax.tree.unflatten(tree, full), observation, key), low, high)

    shapes = [jax.ShapeDtypeStruct(w.shape, w.dtype) for w in weights.values()]
    (rows,) = jax.export.symbolic_shape("rows")
    of_rows = jax.jit(jax.vmap(choose, in_axes=(None, 0, 0)))
    with _no_source_locations():
        exported = jax.export.export(of_rows, platforms=platforms)(
            shapes,
            jax.ShapeDtypeStruct((rows, observation_dim), jnp.float32),
            jax.ShapeDtypeStruct((rows, 2), jnp.uint32),
        )
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
        np.lib.format.write_array(buffer, array, allow_pickle=False)
        members[f"{WEIGHTS}{name}.npy"] = buffer.getvalue()
    content["sha256"] = _digest(members.values())
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    members = {METADATA: text.encode()} | members
    _write(Path(path), lambda file: _write_zip(file, members))
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

    Entries are those of `acting_weights`, and "metadata": a JSON text. The arguments are those of
    `export_policy`; `numpy.load` reads the file without pickle.
    """
    weights = acting_weights(act, state, observation_dim)
    text = np.array(json.dumps(dict(metadata), allow_nan=False))
    arrays: dict[str, Any] = {"metadata": text, **weights}
    _write(Path(path), lambda file: np.savez(file, **arrays))


@contextlib.contextmanager
def _no_source_locations() -> Iterator[None]:
    """Keeps the paths of this machine's source files out of what is lowered."""
    name = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, name)
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)


def _named_leaves(state: Any, indices: list[int]) -> dict[str, np.ndarray]:
    """Some leaves by name; "params" is left out where names still tell them apart."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    chosen = [leaves[i] for i in indices]
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in chosen]
    short = ["/".join(part for part in name.split("/") if part != "params") for name in names]
    names = short if len(set(short)) == len(short) else names
    return {name: np.asarray(leaf) for name, (_, leaf) in zip(names, chosen, strict=True)}


def _used_leaves(act: Act, state: Any, observation_dim: int) -> list[int]:
    """Indices of the leaves of a state that `act` reads."""
    leaves, tree = jax.tree.flatten(state)

    def flat(given: list[Any], observation: Any, key_data: Any) -> Any:
        key = jax.random.wrap_key_data(key_data, impl="threefry2x32")
        return act(jax.tree.unflatten(tree, given), observation, key)

    shapes = [jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)) for x in leaves]
    exported = jax.export.export(jax.jit(flat))(
        shapes,
        jax.ShapeDtypeStruct((observation_dim,), jnp.float32),
        jax.ShapeDtypeStruct((2,), jnp.uint32),
    )
    return [i for i in exported.module_kept_var_idx if i < len(leaves)]


def _rows_at_once(choose: Act, shapes: list[Any], observation_dim: int) -> int:
    """How many observations a call may take, a power of two; many candidates take memory."""
    lowered = jax.jit(choose).lower(
        shapes,
        jax.ShapeDtypeStruct((observation_dim,), jnp.float32),
        jax.ShapeDtypeStruct((2,), jnp.uint32),
    )
    analysis = lowered.compile().memory_analysis()
    # None where a backend does not count: few rows are always right
    of_one = max(analysis.temp_size_in_bytes, 1) if analysis is not None else _MEMORY // 8
    return 1 << int(math.log2(min(max(_MEMORY // of_one, 1), _MOST_ROWS)))


def _write_zip(file: Any, members: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, _TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)


def _write(path: Path, write: Callable[[Any], None]) -> None:
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            write(file)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written: {error.strerror}") from error


# ---------------------------------------------------------------------------------------- reading


class LoadedPolicy:
    """A policy from a file: `policy(observation, seed) -> action`.

    Attributes:
      metadata: all that the file says of itself.
      observation_dim: O.
      action_dim: A.
    """

    def __init__(self, metadata: dict[str, Any], program: Any, weights: list[np.ndarray]) -> None:
        """Use `load_policy`."""
        self.metadata = metadata
        self.observation_dim = int(metadata["observation_dim"])
        self.action_dim = int(metadata["action_dim"])
        self._rows = int(metadata["rows_at_once"])
        self._weights = [jax.device_put(array) for array in weights]
        self._choose = jax.jit(program.call)

    def __call__(self, observation: Any, seed: Any = 0) -> np.ndarray:
        """Chooses an action for one observation, or one for each of a batch.

        Args:
          observation: [O] or [B, O], in the units of the environment.
          seed: what the draw comes from: an integer in [0, 2**32), or a JAX key. The same seed
            gives the same action. Rows of a batch draw apart: row i from
            `fold_in(key(seed), i)`, or from seed[i] where seeds (or keys) are [B].

        Returns:
          float32 [A] or [B, A], within the action space.

        Raises:
          UserError: the observation is of another shape or not finite, or a seed is out of range.
        """
        rows = np.asarray(observation, np.float32)
        if rows.ndim not in (1, 2) or rows.shape[-1] != self.observation_dim:
            size = self.observation_dim
            raise UserError(f"observation is {rows.shape}; expected ({size},) or (batch, {size})")
        if not np.isfinite(rows).all():
            raise UserError("observation holds numbers that are not finite")
        if rows.ndim == 1:
            keys = _key_data(seed)
            if keys.ndim != 1:
                raise UserError(f"{len(keys)} seeds for one observation; expected one")
            return self._call(rows[None], keys[None])[0]
        return self._batch(rows, _row_keys(seed, len(rows)))

    def _batch(self, rows: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Calls the program on few sizes only, the powers of two, as each is compiled anew."""
        parts = [np.zeros((0, self.action_dim), np.float32)]
        for first in range(0, len(rows), self._rows):
            own = slice(first, first + self._rows)
            size = len(rows[own])
            padding = (1 << (size - 1).bit_length()) - size
            padded = (np.pad(x[own], ((0, padding), (0, 0)), "edge") for x in (rows, keys))
            parts.append(self._call(*padded)[:size])
        return np.concatenate(parts)

    def _call(self, rows: np.ndarray, keys: np.ndarray) -> np.ndarray:
        return np.asarray(self._choose(self._weights, rows, keys))


def _key_data(seed: Any) -> np.ndarray:
    """The words of `jax.random.key(seed)`: [2], or [B, 2] of several seeds or keys."""
    if isinstance(seed, jax.Array) and jnp.issubdtype(seed.dtype, jax.dtypes.prng_key):
        words = np.asarray(jax.random.key_data(seed))
        if words.shape[-1] != 2 or words.ndim > 2:
            raise UserError(
                f"keys are {seed.dtype} {seed.shape}; expected threefry keys () or (B,)"
            )
        return words
    seeds = np.asarray(seed)
    whole = seeds.dtype.kind in "iu" and seeds.ndim <= 1
    if not whole or (seeds.size and not (seeds.min() >= 0 and seeds.max() < 1 << 32)):
        raise UserError(
            f"seed is {seed!r}; expected an integer in [0, 2**32), [B] of them or a key"
        )
    return np.stack([np.zeros_like(seeds, np.uint32), seeds.astype(np.uint32)], axis=-1)


def _row_keys(seed: Any, rows: int) -> np.ndarray:
    """One key for each row of a batch, [B, 2]."""
    words = _key_data(seed)
    if words.ndim == 1:
        return np.asarray(_fold_rows(words, np.arange(rows, dtype=np.uint32)))
    if len(words) != rows:
        raise UserError(f"{len(words)} seeds for {rows} observations; expected one, or one each")
    return words


@jax.jit
def _fold_rows(words: Any, rows: Any) -> Any:
    key = jax.random.wrap_key_data(words, impl="threefry2x32")
    return jax.random.key_data(jax.vmap(lambda row: jax.random.fold_in(key, row))(rows))


def load_policy(path: str | os.PathLike) -> LoadedPolicy:
    """Loads a policy that `export_policy` (or `make export`) wrote.

    It needs jax and flatbuffers (in which JAX writes programs), and no other part of this
    package's dependencies. The program is compiled at the first call of each batch size.

    Args:
      path: of the file.

    Returns:
      a function (observation [O] or [B, O], seed) -> action [A] or [B, A].

    Raises:
      UserError: the file is missing, damaged, no policy, or not for this platform.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            metadata = json.loads(archive.read(METADATA))
            _check_metadata(path, metadata)
            serialized = archive.read(PROGRAM)
            names = [f"{WEIGHTS}{name}.npy" for name in metadata["weights"]]
            contents = [archive.read(name) for name in names]
            digest = _digest([serialized, *contents])
            # files of earlier versions have none
            if metadata.get("sha256", digest) != digest:
                raise UserError(f"{path} is damaged: it does not hold what was exported")
            weights = [_read_array(content) for content in contents]
    except FileNotFoundError:
        raise UserError(f"no file {path}; expected a policy from `make export`") from None
    except UserError:
        raise
    except Exception as error:  # of zip, JSON and numpy, on bytes that are not theirs
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"{path} is damaged or no exported policy: {reason}") from error
    try:
        program = jax.export.deserialize(bytearray(serialized))
    except ModuleNotFoundError as error:
        raise UserError(
            f"{path} cannot be read without {error.name}: pip install {error.name}"
        ) from error
    except Exception as error:  # whatever JAX says of bytes that it does not know
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path} holds a program that jax {jax.__version__} cannot read: {reason}"
        ) from error
    expected = [(a.shape, a.dtype) for a in program.in_avals[: len(weights)]]
    if [(w.shape, w.dtype) for w in weights] != expected or len(program.in_avals) != len(
        weights
    ) + 2:
        raise UserError(f"{path} is damaged: its weights are not those that its program takes")
    platform = jax.default_backend()
    names = {"gpu": ("cuda", "rocm")}.get(platform, (platform,))
    if not set(names) & set(program.platforms):
        raise UserError(
            f"{path} has programs for {', '.join(program.platforms)}; this process runs on "
            f"{platform} (JAX_PLATFORMS=cpu chooses the CPU)"
        )
    return LoadedPolicy(metadata, program, weights)


def _check_metadata(path: str | os.PathLike, metadata: Any) -> None:
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise UserError(f"{path} is no exported policy: its metadata has no format {FORMAT!r}")
    version = metadata.get("format_version")
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {version!r}; this version reads {FORMAT_VERSION}: export "
            "the run again, or use the version of dtql_jax that wrote it"
        )
    for name in (*SIZES, "rows_at_once", "weights"):
        if name not in metadata:
            raise UserError(f"{path} is damaged: its metadata lacks {name!r}")
    for name in ("observation_dim", "action_dim", "rows_at_once"):
        value = metadata[name]
        if type(value) is not int or value < 1:
            raise UserError(f"{path} is damaged: {name} is {value!r}; expected an integer >= 1")
    names = metadata["weights"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path} is damaged: weights is {names!r}; expected a list of names")


def _digest(contents: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()


def _read_array(content: bytes) -> np.ndarray:
    return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
