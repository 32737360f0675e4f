"""Replays stored runs of the reference programs and compares losses and parameters.

    python tests/replay_reference.py FILE.npz ...

Each file holds initial parameters, batches, every random draw, and what the reference computed from
them. One line a file says the largest errors found: losses relative, parameters absolute, action
choice (candidates, their Q, probabilities) absolute. Exit code 0 if all are within 1e-5, 1 if not,
2 if a file cannot be read.
"""

import dataclasses
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from dtql_jax.algorithms import dtql
from dtql_jax.algorithms.train_state import TrainState
from dtql_jax.types import Transition

LOSS_TOLERANCE = 1e-5  # relative
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
            error = abs(float(metrics[name]) - float(value)) / max(abs(float(value)), 1e-8)
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


def batch_of(step: Arrays) -> Transition:
    """The stored batch of a step."""
    return Transition(**{name: jnp.asarray(step[name]) for name in Transition._fields})


def stages(arrays: Arrays) -> dict[int, str]:
    """Which stored parameters belong after how many steps, pretraining included."""
    pretrain = int(arrays["config/pretrain_steps"])
    found = {pretrain: "pretrained"} if "pretrained" in prefixes(arrays) else {}
    for prefix in prefixes(arrays):
        if prefix.startswith("after_"):
            found[pretrain + int(prefix.removeprefix("after_"))] = prefix
    return found


def prefixes(arrays: Arrays) -> set[str]:
    """First parts of the keys."""
    return {k.split("/")[0] for k in arrays}


# ---------------------------------------------------------------------------------------- DTQL


def dtql_config(arrays: Arrays) -> dtql.DTQLConfig:
    """The settings of a stored DTQL run."""
    c = {k: v.item() for k, v in under(arrays, "config").items()}
    return dtql.DTQLConfig(
        learning_rate=c["lr"],
        critic_learning_rate=c["critic_lr"],
        lr_decay=bool(c["lr_decay"]),
        **{k: c[k] for k in ("alpha", "gamma", "expectile", "discount", "tau", "decay_steps")},
        **{k: c[k] for k in ("max_action", "hidden_dim", "time_dim")},
    )


def dtql_draws(step: Arrays) -> dtql.Draws:
    """The stored random numbers; pretraining steps have none for the policy."""
    denoising = step["denoising/noise"]
    zeros, ones = np.zeros_like(denoising), np.ones(len(denoising), np.float32)
    return dtql.Draws(
        jnp.asarray(step["denoising/sigma"]),
        jnp.asarray(denoising),
        jnp.asarray(step.get("policy/eps", zeros)),
        jnp.asarray(step.get("trust_region/sigma", ones)),
        jnp.asarray(step.get("trust_region/noise", zeros)),
    )


def replay_dtql(arrays: Arrays) -> Report:
    """Replays a stored DTQL run step by step."""
    config, report = dtql_config(arrays), Report()
    state = dtql.DTQLState(
        diffusion=TrainState.create(tree(arrays, "init/diffusion")),
        policy=TrainState.create(tree(arrays, "init/policy")),
        critics=TrainState.create(twin_tree(arrays, "init/critic")),
        target_critics=twin_tree(arrays, "init/target_critic"),
        value=TrainState.create(tree(arrays, "init/value")),
        hyper=dtql.hyperparameters(config),
    )
    pretrain = jax.jit(lambda *a: dtql.pretrain_update(config, *a))
    train = jax.jit(lambda *a: dtql.train_update(config, *a))
    stored, pretrain_steps = stages(arrays), int(arrays["config/pretrain_steps"])
    for i in range(pretrain_steps + int(arrays["config/train_steps"])):
        step = under(arrays, f"step_{i:02d}")
        update = pretrain if i < pretrain_steps else train
        state, metrics = update(state, batch_of(step), dtql_draws(step))
        report.add_losses(metrics, under(step, "metrics"))
        if i + 1 in stored:
            found = (
                flat(state.diffusion.params, "diffusion")
                | flat(state.policy.params, "policy")
                | flat_twins(state.critics.params, "critic")
                | flat_twins(state.target_critics, "target_critic")
                | flat(state.value.params, "value")
            )
            report.add_parameters(found, under(arrays, stored[i + 1]))
    act = under(arrays, "act")
    actions, q = dtql.candidates(config, state, act["observation"], act["eps"])
    report.add_actions(
        {"candidates": actions, "min_q": q, "probabilities": jax.nn.softmax(q)},
        {k: act[k] for k in ("candidates", "min_q", "probabilities")},
    )
    return report


# ------------------------------------------------------------------------------------ the command


def recognise(arrays: Arrays) -> Callable[[Arrays], Report]:
    """Tells from the keys which algorithm a file stores."""
    if any(k.startswith("init/diffusion/") for k in arrays) and "config/gamma" in arrays:
        return replay_dtql
    raise ValueError("the keys belong to no known algorithm")


def replay_file(path: str | Path) -> Report:
    """Replays one file; raises ValueError, KeyError or OSError where it cannot be read."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = {k: stored[k] for k in stored.files}
    # the reference computed in full float32; so must every matrix product here (GPUs, TPUs)
    with jax.default_matmul_precision("highest"):
        return recognise(arrays)(arrays)


def main(paths: list[str]) -> int:
    """Prints one line a file; returns the exit code."""
    if not paths or paths[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if paths else 2
    code = 0
    for path in paths:
        try:
            report = replay_file(path)
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            print(f"{path}: not a replayable file: {error}", file=sys.stderr)
            code = 2
            continue
        actions = "none" if report.actions is None else f"{report.actions:.1e}"
        verdict = "" if report.passed else "  ABOVE THE TOLERANCE"
        print(
            f"{path} losses={report.losses:.1e} parameters={report.parameters:.1e} "
            f"actions={actions}{verdict}"
        )
        if not report.passed:
            code = max(code, 1)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
