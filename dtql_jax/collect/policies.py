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
import io
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from dtql_jax.errors import UserError, near_matches

_LAYERS = ("dense_0", "dense_1", "mean", "log_std")
_LOG_STD_MIN, _LOG_STD_MAX = -5.0, 2.0


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0.0)


_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"relu": _relu, "tanh": np.tanh}
_SQUASHES = ("tanh", "none")
_FRAMES = ("direction",)


class Shipped(NamedTuple):
    """Files that come with the package, and a remark for the metadata of their datasets."""

    files: tuple[str, ...]
    note: str


# The training settings and returns of each policy are in the .json files of this folder.
# `python -m experiments.train_behaviour` made them.
SHIPPED_FOLDER = pathlib.Path(__file__).parent / "behaviour"

_LEVELS = {
    "simple": (("simple",), "the policy is between an untrained one and the medium one"),
    "medium": (
        ("medium",),
        "the policy has about a third of the return of the training's best one",
    ),
    "medium-replay": (
        ("replay-1", "replay-2", "replay-3", "replay-4", "medium"),
        "five snapshots of one training, from its start to the medium policy, in equal shares, "
        "stand for the replay buffer up to that policy",
    ),
    "medium-expert": (
        ("medium", "expert"),
        "half is from the medium policy and half from the best one of the training",
    ),
    "expert": (("expert",), "the policy is the best one of the training"),
}
_ANT_NOTE = "the policy walks in a given direction"

# by the names that sources in the registry use
SHIPPED: dict[str, Shipped] = {
    f"{body}-{level}": Shipped(tuple(f"{body}-{part}.npz" for part in parts), note)
    for body in ("halfcheetah", "hopper", "walker2d")
    for level, (parts, note) in _LEVELS.items()
} | {
    "antmaze-d4rl-ant": Shipped(("antmaze-d4rl-ant.npz",), _ANT_NOTE),
    "antmaze-gymnasium-ant": Shipped(("antmaze-gymnasium-ant.npz",), _ANT_NOTE),
    "pen-cloned": Shipped(
        ("pen.npz",),
        "the policy is trained, the same as for pen-expert, and not cloned from anybody",
    ),
    "pen-expert": Shipped(("pen.npz",), _LEVELS["expert"][1]),
}


@dataclasses.dataclass(frozen=True)
class BehaviourPolicy:
    """A Gaussian policy, for one observation at a time.

    Attributes:
      name: the file's name.
      sha256: hexadecimal digest of the file.
      frame: "direction" or "" (see the module).
    """

    name: str
    sha256: str
    frame: str
    _arrays: dict[str, np.ndarray]
    _activation: str
    _squash: str
    _log_std_min: float

    @property
    def observation_dim(self) -> int:
        """O."""
        return len(self._arrays["dense_0/kernel"])

    @property
    def action_dim(self) -> int:
        """A."""
        return len(self._arrays["mean/bias"])

    def action(
        self, observation: np.ndarray, draws: np.random.Generator | None = None
    ) -> np.ndarray:
        """Returns an action, float32 [A] in [-1, 1].

        Args:
          observation: [O].
          draws: generator of the A normal numbers; None: return the mean action.
        """
        activation = _ACTIVATIONS[self._activation]
        hidden = np.asarray(observation, np.float32)
        for layer in ("dense_0", "dense_1"):
            hidden = activation(self._linear(layer, hidden))
        drawn = self._linear("mean", hidden)
        if draws is not None:
            log_std = np.clip(self._linear("log_std", hidden), self._log_std_min, _LOG_STD_MAX)
            drawn += np.exp(log_std) * draws.standard_normal(self.action_dim, np.float32)
        return np.tanh(drawn) if self._squash == "tanh" else np.clip(drawn, -1.0, 1.0)

    def _linear(self, layer: str, row: np.ndarray) -> np.ndarray:
        """Returns row @ kernel + bias, [out], summed in a fixed order.

        The order in BLAS may depend on its number of threads, and a collection must be the same
        for any number of processes. This costs 10 us more for 256 x 256.
        """
        product = np.einsum("i,ij->j", row, self._arrays[f"{layer}/kernel"])
        return product + self._arrays[f"{layer}/bias"]

    def check_sizes(self, observation_dim: int, action_dim: int) -> None:
        """Raises UserError if the policy has other sizes."""
        if (self.observation_dim, self.action_dim) != (observation_dim, action_dim):
            raise UserError(
                f"behaviour policy {self.name} has {self.observation_dim} inputs and "
                f"{self.action_dim} actions; expected {observation_dim} and {action_dim}"
            )


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
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            given = {key: file[key] for key in file.files}
    # damaged files lead to errors of many types, for example an attempt to load a pickle
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(f"behaviour policy {path} is no valid .npz file ({reason})") from error
    try:
        return BehaviourPolicy(
            name=path.name,
            sha256=hashlib.sha256(content).hexdigest(),
            _arrays=_layers(given),
            frame=_word(given, "meta/frame", _FRAMES) if "meta/frame" in given else "",
            _activation=_word(given, "meta/activation", tuple(_ACTIVATIONS)),
            _squash=_word(given, "meta/squash", _SQUASHES),
            _log_std_min=_bound(given.get("meta/log_std_min", np.array(_LOG_STD_MIN))),
        )
    except UserError as error:
        raise UserError(f"behaviour policy {path}: {error}") from None


def _layers(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the kernels and biases of all layers as float32, checked."""
    keys = [f"{layer}/{part}" for layer in _LAYERS for part in ("kernel", "bias")]
    absent = [key for key in (*keys, "meta/activation", "meta/squash") if key not in given]
    if absent:
        raise UserError(f"lacks {', '.join(absent)}; found {', '.join(sorted(given)) or 'nothing'}")
    try:
        inputs, first = given["dense_0/kernel"].shape
        second, actions = given["mean/kernel"].shape
    except ValueError:
        raise UserError("dense_0/kernel and mean/kernel must have two axes") from None
    shapes = [(inputs, first), (first, second), (second, actions), (second, actions)]
    for layer, shape in zip(_LAYERS, shapes, strict=True):
        for part, expected in (("kernel", shape), ("bias", shape[1:])):
            array = given[f"{layer}/{part}"]
            finite = array.dtype.kind in "fiu" and np.isfinite(array).all()
            if array.shape != expected or not finite:
                raise UserError(
                    f"{layer}/{part} has shape {array.shape} and type {array.dtype}; expected "
                    f"finite numbers of shape {expected}"
                )
    return {key: np.ascontiguousarray(given[key], np.float32) for key in keys}


def _bound(value: np.ndarray) -> float:
    if value.shape or value.dtype.kind not in "fiu" or not value < _LOG_STD_MAX:
        raise UserError(
            f"meta/log_std_min is {value.tolist()!r}; expected a number below {_LOG_STD_MAX:g}"
        )
    return float(value)


def _word(given: dict[str, np.ndarray], key: str, known: Sequence[str]) -> str:
    value: Any = given[key].tolist()
    value = value.decode(errors="replace") if isinstance(value, bytes) else value
    if value not in known:
        raise UserError(f"{key} is {value!r}: {near_matches(str(value), known)}")
    return value


def policy_files(given: str | None, shipped: str) -> list[pathlib.Path]:
    """Returns the files of a collection's policies.

    Args:
      given: the user's paths, separated by commas; None or "": the shipped files.
      shipped: key of `SHIPPED`.

    Raises:
      UserError: an empty path between commas.
    """
    if not given:
        return [SHIPPED_FOLDER / name for name in SHIPPED[shipped].files]
    names = [name.strip() for name in given.split(",")]
    if not all(names):
        raise UserError(f"behaviour policy {given!r}; expected FILE.npz or FILE.npz,FILE.npz,...")
    return [pathlib.Path(name).expanduser().resolve() for name in names]


def digest(policies: Sequence[BehaviourPolicy]) -> str:
    """Returns one sha256 for a sequence of policies; for one policy, that of its file."""
    if len(policies) == 1:
        return policies[0].sha256
    return hashlib.sha256("+".join(policy.sha256 for policy in policies).encode()).hexdigest()
