"""Behaviour policies from .npz files, evaluated by numpy: no jax and no pickle.

A file holds a Gaussian policy with two hidden layers:
  dense_0, dense_1, mean, log_std: each /kernel (in, out) and /bias (out,);
  meta/activation: "relu" or "tanh", after each hidden layer;
  meta/squash: "tanh" (the action is the tanh of the Gaussian's draw) or "none";
  meta/frame: optional, "direction" for an ant's policy whose observations and actions are in
    the frame of `ant_frame`;
  meta/log_std_min: optional, lower bound of log_std (default -5; the upper bound is 2).
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from dtql_jax.errors import UserError, near_matches

_HIDDEN = ("dense_0", "dense_1")
_HEADS = ("mean", "log_std")
_LOG_STD_MIN, _LOG_STD_MAX = -5.0, 2.0


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0.0)


def _product(row: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Returns row @ matrix, [out], summed in a fixed order.

    The order in BLAS may depend on its number of threads, and a collection must be the same for
    any number of processes. This costs 10 us more for 256 x 256.
    """
    return np.einsum("i,ij->j", row, matrix)


_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"relu": _relu, "tanh": np.tanh}
_SQUASHES = ("tanh", "none")
_FRAMES = ("direction",)

# Files that come with the package, in the folder "behaviour": {name: files}. Sources in the
# registry refer to these names. The training settings and returns of each policy are in the .json
# files of the folder. `python -m experiments.train_behaviour` made them.
SHIPPED_FOLDER = pathlib.Path(__file__).parent / "behaviour"


def _levels(body: str) -> dict[str, tuple[str, ...]]:
    replay = tuple(f"{body}-replay-{part}.npz" for part in range(1, 5))
    return {
        f"{body}-simple": (f"{body}-simple.npz",),
        f"{body}-medium": (f"{body}-medium.npz",),
        f"{body}-medium-replay": (*replay, f"{body}-medium.npz"),
        f"{body}-medium-expert": (f"{body}-medium.npz", f"{body}-expert.npz"),
        f"{body}-expert": (f"{body}-expert.npz",),
    }


SHIPPED: dict[str, tuple[str, ...]] = {
    **_levels("halfcheetah"),
    **_levels("hopper"),
    **_levels("walker2d"),
    "antmaze-d4rl-ant": ("antmaze-d4rl-ant.npz",),
    "antmaze-gymnasium-ant": ("antmaze-gymnasium-ant.npz",),
    "pen-cloned": ("pen.npz",),
    "pen-expert": ("pen.npz",),
}

# remark in the metadata of a dataset, by the end of the name of its shipped policies
_NOTES = {
    "-simple": "the policy is between an untrained one and the medium one",
    "-medium": "the policy has about a third of the return of the training's best one",
    "-medium-replay": (
        "five snapshots of one training, from its start to the medium policy, in equal shares, "
        "stand for the replay buffer up to that policy"
    ),
    "-medium-expert": "half is from the medium policy and half from the best one of the training",
    "-expert": "the policy is the best one of the training",
    "-cloned": "the policy is trained, the same as for pen-expert, and not cloned from anybody",
    "-ant": "the policy walks in a given direction",
}


def shipped_note(name: str) -> str:
    """Returns a remark on the shipped policies of a name; "" for an unknown name."""
    if name not in SHIPPED:
        return ""
    ends = [end for end in _NOTES if name.endswith(end)]
    return _NOTES[max(ends, key=len)] if ends else ""


@dataclasses.dataclass(frozen=True)
class BehaviourPolicy:
    """A Gaussian policy, for one observation at a time.

    Attributes:
      name: the file's name.
      sha256: hexadecimal digest of the file.
      observation_dim: O.
      action_dim: A.
      frame: "direction" or "" (see the module).
    """

    name: str
    sha256: str
    observation_dim: int
    action_dim: int
    frame: str
    _layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    _heads: tuple[tuple[np.ndarray, np.ndarray], ...]
    _activation: str
    _squash: str
    _log_std_min: float

    def action(
        self, observation: np.ndarray, draws: np.random.Generator | None = None
    ) -> np.ndarray:
        """Returns an action, float32 [A] in [-1, 1].

        Args:
          observation: [O].
          draws: generator of the A normal numbers; None: return the mean action.
        """
        hidden = np.asarray(observation, np.float32)
        activation = _ACTIVATIONS[self._activation]
        for kernel, bias in self._layers:
            hidden = activation(_product(hidden, kernel) + bias)
        (kernel, bias), (std_kernel, std_bias) = self._heads
        drawn = _product(hidden, kernel) + bias
        if draws is not None:
            log_std = _product(hidden, std_kernel) + std_bias
            log_std = np.clip(log_std, self._log_std_min, _LOG_STD_MAX)
            drawn += np.exp(log_std) * draws.standard_normal(self.action_dim, np.float32)
        return np.tanh(drawn) if self._squash == "tanh" else np.clip(drawn, -1.0, 1.0)


def read_policy(path: str | os.PathLike) -> BehaviourPolicy:
    """Reads a policy.

    Raises:
      UserError: the file is missing or not an .npz file, a key is missing, or an array has a
        wrong shape or type, or holds NaN or infinity.
    """
    path = pathlib.Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"behaviour policy {path} cannot be read: {error.strerror}") from error
    arrays = _read_arrays(path)
    layers = tuple(_layer(arrays, name, path) for name in (*_HIDDEN, *_HEADS))
    _check_chain(layers, path)
    log_std_min = arrays.get("meta/log_std_min", np.array(_LOG_STD_MIN))
    if log_std_min.shape or log_std_min.dtype.kind not in "fiu" or not log_std_min < _LOG_STD_MAX:
        raise UserError(
            f"behaviour policy {path}: meta/log_std_min is {log_std_min.tolist()!r}; expected a "
            f"number below {_LOG_STD_MAX:g}"
        )
    return BehaviourPolicy(
        name=path.name,
        sha256=hashlib.sha256(content).hexdigest(),
        observation_dim=layers[0][0].shape[0],
        action_dim=layers[-1][0].shape[1],
        frame=_word(arrays, "meta/frame", _FRAMES, path) if "meta/frame" in arrays else "",
        _layers=layers[:2],
        _heads=layers[2:],
        _activation=_word(arrays, "meta/activation", tuple(_ACTIVATIONS), path),
        _squash=_word(arrays, "meta/squash", _SQUASHES, path),
        _log_std_min=float(log_std_min),
    )


def policy_files(given: str | None, shipped: str) -> list[pathlib.Path]:
    """Returns the files of a collection's policies.

    Args:
      given: the user's paths, separated by commas; None or "": the shipped files.
      shipped: key of `SHIPPED`.

    Raises:
      UserError: an empty path between commas.
    """
    if not given:
        return [SHIPPED_FOLDER / name for name in SHIPPED[shipped]]
    names = [name.strip() for name in given.split(",")]
    if not all(names):
        raise UserError(f"behaviour policy {given!r}; expected FILE.npz or FILE.npz,FILE.npz,...")
    return [pathlib.Path(name).expanduser().resolve() for name in names]


def digest(policies: Sequence[BehaviourPolicy]) -> str:
    """Returns one sha256 for a sequence of policies; for one policy, that of its file."""
    if len(policies) == 1:
        return policies[0].sha256
    return hashlib.sha256("+".join(policy.sha256 for policy in policies).encode()).hexdigest()


def _read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    keys = [f"{layer}/{part}" for layer in (*_HIDDEN, *_HEADS) for part in ("kernel", "bias")]
    keys += ["meta/activation", "meta/squash"]
    try:
        with np.load(path, allow_pickle=False) as file:
            absent = [key for key in keys if key not in file.files]
            if absent:
                raise UserError(
                    f"behaviour policy {path} lacks {', '.join(absent)}; found "
                    f"{', '.join(sorted(file.files)) or 'nothing'}"
                )
            optional = [key for key in ("meta/log_std_min", "meta/frame") if key in file.files]
            return {key: file[key] for key in (*keys, *optional)}
    except UserError:
        raise
    # damaged files lead to errors of many types, for example an attempt to load a pickle
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(f"behaviour policy {path} is no valid .npz file ({reason})") from error


def _layer(
    arrays: dict[str, np.ndarray], name: str, path: pathlib.Path
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (kernel [in, out], bias [out]) as float32, checked."""
    parts = []
    for part, ndim in (("kernel", 2), ("bias", 1)):
        array = arrays[f"{name}/{part}"]
        place = f"behaviour policy {path}: {name}/{part}"
        if array.dtype.kind not in "fiu":
            raise UserError(f"{place} is of type {array.dtype}; expected numbers")
        if array.ndim != ndim or 0 in array.shape:
            raise UserError(f"{place} has shape {array.shape}; expected {ndim} axes")
        if not np.isfinite(array).all():
            raise UserError(f"{place} has NaN or infinite entries; expected finite numbers")
        parts.append(np.ascontiguousarray(array, np.float32))
    kernel, bias = parts
    if kernel.shape[1:] != bias.shape:
        raise UserError(
            f"behaviour policy {path}: {name}/kernel has shape {kernel.shape} and {name}/bias "
            f"{bias.shape}; expected (in, out) and (out,)"
        )
    return kernel, bias


def _check_chain(layers: Sequence[tuple[np.ndarray, np.ndarray]], path: pathlib.Path) -> None:
    """Checks that the input size of each layer is the output size of the previous one."""
    first, second, mean, log_std = (kernel.shape for kernel, _ in layers)
    for name, shape, width in (
        ("dense_1", second, first[1]),
        ("mean", mean, second[1]),
        ("log_std", log_std, second[1]),
    ):
        if shape[0] != width:
            raise UserError(
                f"behaviour policy {path}: {name}/kernel has shape {shape}; expected {width} rows"
            )
    if mean != log_std:
        raise UserError(
            f"behaviour policy {path}: log_std/kernel has shape {log_std}; expected {mean}"
        )


def _word(arrays: dict[str, np.ndarray], key: str, known: Sequence[str], path: pathlib.Path) -> str:
    value = arrays[key]
    word = value.item() if value.ndim == 0 else value.tolist()
    word = word.decode(errors="replace") if isinstance(word, bytes) else word
    if word not in known:
        near = near_matches(str(word), known)
        raise UserError(f"behaviour policy {path}: {key} is {word!r}: {near}")
    return word
