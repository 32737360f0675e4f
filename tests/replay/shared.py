"""Stored runs: their arrays as parameters and batches, the replay of their steps, its errors."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from dtql_jax.types import Transition

LOSS_TOLERANCE = 1e-5  # relative to max(1, |reference|): a mean near 0 has no relative error
PARAMETER_TOLERANCE = 1e-5  # absolute
ACTION_TOLERANCE = 1e-5  # absolute

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass
class Report:
    """Largest errors of a replay, and how many numbers were compared."""

    losses: float = 0.0
    parameters: float = 0.0
    actions: float | None = None  # None: the file stores no action choice
    compared: int = 0

    @property
    def passed(self) -> bool:
        """Whether every error is within its tolerance (NaN is not)."""
        return (
            self.compared > 0
            and self.losses <= LOSS_TOLERANCE
            and self.parameters <= PARAMETER_TOLERANCE
            and (self.actions is None or self.actions <= ACTION_TOLERANCE)
        )

    def add_losses(self, metrics: dict[str, Any], expected: Arrays) -> None:
        """Compares the reported losses of one step."""
        for name, value in expected.items():
            error = abs(float(metrics[name]) - float(value)) / max(1.0, abs(float(value)))
            self.losses = float(np.maximum(self.losses, error))  # keeps NaN, as max() would not
            self.compared += 1

    def add_parameters(self, found: Arrays, expected: Arrays) -> None:
        """Compares every parameter of one stage."""
        missing = sorted(set(expected) ^ set(found))
        if missing:
            raise ValueError(f"parameters {missing[:3]} are on one side only")
        for name, value in expected.items():
            self.parameters = float(np.maximum(self.parameters, _distance(found[name], value)))
            self.compared += 1

    def add_actions(self, found: Arrays, expected: Arrays) -> None:
        """Compares what the action choice computed."""
        for name, value in expected.items():
            error = _distance(found[name], value)
            self.actions = float(np.maximum(self.actions or 0.0, error))
            self.compared += 1


def _distance(found: np.ndarray, expected: np.ndarray) -> float:
    if np.shape(found) != np.shape(expected):
        raise ValueError(f"shape {np.shape(found)} came, {np.shape(expected)} was expected")
    return float(np.max(np.abs(np.asarray(found, np.float64) - np.asarray(expected, np.float64))))


def under(arrays: Arrays, prefix: str) -> Arrays:
    """The entries below `prefix`/, without the prefix."""
    start = prefix + "/"
    return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}


def tree(arrays: Arrays, prefix: str) -> dict[str, Any]:
    """The parameters below `prefix`/ as a Flax variable dict."""
    nested = unflatten_dict(under(arrays, prefix), sep="/")
    return {"params": jax.tree.map(jnp.asarray, nested)}


def twin_tree(arrays: Arrays, prefix: str) -> dict[str, Any]:
    """The parameters of q1 and q2 below `prefix`/, stacked as `networks.DoubleCritic` has them."""
    q1, q2 = tree(arrays, f"{prefix}/q1"), tree(arrays, f"{prefix}/q2")
    return {"params": {"q": jax.tree.map(lambda a, b: jnp.stack([a, b]), q1, q2)["params"]}}


def flat(params: Any, prefix: str) -> Arrays:
    """Inverse of `tree`."""
    leaves = flatten_dict(params["params"], sep="/")
    return {f"{prefix}/{k}": np.asarray(v) for k, v in leaves.items()}


def flat_twins(params: Any, prefix: str) -> Arrays:
    """Inverse of `twin_tree`."""
    stacked = params["params"]["q"]
    halves = [{"params": jax.tree.map(lambda x, i=i: x[i], stacked)} for i in range(2)]
    return flat(halves[0], f"{prefix}/q1") | flat(halves[1], f"{prefix}/q2")


def action_dim(arrays: Arrays) -> int:
    """A of the stored batches."""
    return arrays["step_00/actions"].shape[-1]


def batch_of(step: Arrays) -> Transition:
    """The stored batch of a step."""
    return Transition(**{name: jnp.asarray(step[name]) for name in Transition._fields})


def stages(arrays: Arrays) -> dict[int, str]:
    """{number of steps, pretraining included: prefix of the parameters stored after them}."""
    pretrain = pretrain_steps(arrays)
    found = {pretrain: "pretrained"} if "pretrained" in prefixes(arrays) else {}
    for prefix in prefixes(arrays):
        if prefix.startswith("after_"):
            found[pretrain + int(prefix.removeprefix("after_"))] = prefix
    return found


def pretrain_steps(arrays: Arrays) -> int:
    """Number of stored pretraining steps."""
    return int(arrays.get("config/pretrain_steps", 0))


def prefixes(arrays: Arrays) -> set[str]:
    """First parts of the keys."""
    return {k.split("/")[0] for k in arrays}


def settings(arrays: Arrays) -> dict[str, Any]:
    """The stored configuration as Python numbers and lists."""
    return {k: v.tolist() for k, v in under(arrays, "config").items()}


def replay(
    arrays: Arrays,
    state: Any,
    pretrain: Callable[..., Any],
    train: Callable[..., Any],
    draws: Callable[[Arrays], Any],
    parameters: Callable[[Any], Arrays],
) -> tuple[Any, Report]:
    """Replays the stored steps one by one; returns the last state and the errors found.

    Args:
      arrays: the file.
      state: state before the first step.
      pretrain, train: (state, batch, draws) -> (state, metrics).
      draws: from a step's arrays to the random numbers of an update.
      parameters: from a state to arrays under the file's names.
    """
    report, stored, first = Report(), stages(arrays), pretrain_steps(arrays)
    pretrain, train = jax.jit(pretrain), jax.jit(train)
    for i in range(first + int(arrays["config/train_steps"])):
        step = under(arrays, f"step_{i:02d}")
        update = pretrain if i < first else train
        state, metrics = update(state, batch_of(step), draws(step))
        report.add_losses(metrics, under(step, "metrics"))
        if i + 1 in stored:
            report.add_parameters(parameters(state), under(arrays, stored[i + 1]))
    return state, report


def values_and_critics(state: Any) -> Arrays:
    """Critics, target critics and value of a DTQL-like state under the file's names."""
    return (
        flat_twins(state.critics.params, "critic")
        | flat_twins(state.target_critics, "target_critic")
        | flat(state.value.params, "value")
    )
