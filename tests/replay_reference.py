"""Replays stored runs of the reference programs and compares losses and parameters.

    python tests/replay_reference.py FILE.npz ...

Each file holds initial parameters, batches, every random draw, and what the reference computed from
them. One line a file says the largest errors found: |difference| / max(1, |reference|) for losses,
|difference| for parameters and for the action choice (candidates, their Q, probabilities). Exit
code 0 if all are within 1e-5, 1 if not, 2 if a file cannot be read.
"""

import dataclasses
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from dtql_jax.algorithms import dql, dql_kl, dtql
from dtql_jax.algorithms.config import as_arrays
from dtql_jax.algorithms.train_state import TrainState
from dtql_jax.diffusion import ddpm
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


def dtql_config(arrays: Arrays) -> dtql.DTQLConfig:
    """The settings of a stored DTQL run."""
    c = settings(arrays)
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
    """Replays a stored DTQL run, its action choice included."""
    config = dtql_config(arrays)
    networks = dtql.make_networks(config)
    state = dtql.DTQLState(
        config=as_arrays(config),
        diffusion=TrainState.create(tree(arrays, "init/diffusion")),
        policy=TrainState.create(tree(arrays, "init/policy")),
        critics=TrainState.create(twin_tree(arrays, "init/critic")),
        target_critics=twin_tree(arrays, "init/target_critic"),
        value=TrainState.create(tree(arrays, "init/value")),
        action_dim=action_dim(arrays),
    )
    state, report = replay(
        arrays,
        state,
        partial(dtql.pretrain_update, networks, config),
        partial(dtql.train_update, networks, config),
        dtql_draws,
        lambda state: (
            flat(state.diffusion.params, "diffusion")
            | flat(state.policy.params, "policy")
            | values_and_critics(state)
        ),
    )
    act = under(arrays, "act")
    actions, q = dtql.candidates(networks, config, state, act["observation"], act["eps"])
    report.add_actions(
        {"candidates": actions, "min_q": q, "probabilities": jax.nn.softmax(q)},
        {k: act[k] for k in ("candidates", "min_q", "probabilities")},
    )
    return report


def dql_kl_draws(step: Arrays) -> dql_kl.Draws:
    """The stored random numbers."""
    names = ("denoising/sigma", "denoising/noise", "policy/noise")
    names += ("distillation/sigma", "distillation/noise", "fake_denoising/sigma")
    return dql_kl.Draws(*(jnp.asarray(step[k]) for k in (*names, "fake_denoising/noise")))


def replay_dql_kl(arrays: Arrays) -> Report:
    """Replays a stored DQL-KL run."""
    c = settings(arrays)
    config = dql_kl.DQLKLConfig(
        learning_rate=c["lr"],
        critic_learning_rate=c["critic_lr"],
        **{k: c[k] for k in ("alpha", "expectile", "discount", "tau", "generation_sigma")},
        **{k: c[k] for k in ("max_action", "hidden_dim", "time_dim")},
    )
    names = ("diffusion", "fake_diffusion", "policy")
    state = dql_kl.DQLKLState(
        config=as_arrays(config),
        **{name: TrainState.create(tree(arrays, f"init/{name}")) for name in names},
        critics=TrainState.create(twin_tree(arrays, "init/critic")),
        target_critics=twin_tree(arrays, "init/target_critic"),
        value=TrainState.create(tree(arrays, "init/value")),
        action_dim=action_dim(arrays),
    )

    def parameters(state: dql_kl.DQLKLState) -> Arrays:
        found = values_and_critics(state)
        for name in names:
            found |= flat(getattr(state, name).params, name)
        return found

    networks = dql_kl.make_networks(config)
    pretrain = partial(dql_kl.pretrain_update, networks, config)
    train = partial(dql_kl.train_update, networks, config)
    return replay(arrays, state, pretrain, train, dql_kl_draws, parameters)[1]


def dql_draws(step: Arrays) -> dql.Draws:
    """The stored random numbers; next actions, B * K rows there, are [B, K, ...] here."""
    rows = len(step["rewards"])
    initial, steps = step["next_action/initial_noise"], step["next_action/step_noise"]
    width = initial.shape[-1]
    return dql.Draws(
        ddpm.ChainNoise(
            jnp.asarray(initial.reshape(rows, -1, width)),
            jnp.moveaxis(steps.reshape(len(steps), rows, -1, width), 0, -2),
        ),
        jnp.asarray(step["bc/timestep"]),
        jnp.asarray(step["bc/noise"]),
        ddpm.ChainNoise(
            jnp.asarray(step["new_action/initial_noise"]),
            jnp.moveaxis(step["new_action/step_noise"], 0, -2),
        ),
        jnp.asarray(step["use_q1"]),
    )


def replay_dql(arrays: Arrays) -> Report:
    """Replays a stored DQL run; its noise schedule counts among the parameters."""
    c = settings(arrays)
    config = dql.DQLConfig(
        learning_rate=c["lr"],
        critic_learning_rate=c["critic_lr"],
        num_timesteps=c["n_timesteps"],
        **{k: c[k] for k in ("eta", "discount", "tau", "grad_norm", "max_action", "hidden_dim")},
        **{k: c[k] for k in ("ema_decay", "ema_start", "ema_every", "time_dim")},
        **{k: c[k] for k in ("max_q_backup", "backup_actions")},
    )
    state = dql.DQLState(
        config=as_arrays(config),
        actor=TrainState.create(tree(arrays, "init/actor")),
        ema_actor=tree(arrays, "init/ema_actor"),
        critics=TrainState.create(twin_tree(arrays, "init/critic")),
        target_critics=twin_tree(arrays, "init/target_critic"),
        action_dim=action_dim(arrays),
    )
    train = partial(dql.train_update, dql.make_networks(config), config)
    _, report = replay(
        arrays,
        state,
        train,
        train,
        dql_draws,
        lambda state: (
            flat(state.actor.params, "actor")
            | flat(state.ema_actor, "ema_actor")
            | flat_twins(state.critics.params, "critic")
            | flat_twins(state.target_critics, "target_critic")
        ),
    )
    betas = ddpm.vp_schedule(config.num_timesteps).betas
    report.add_parameters({"betas": betas}, {"betas": arrays["config/betas"]})
    return report


def recognise(arrays: Arrays) -> Callable[[Arrays], Report]:
    """Chooses the replay of a file's algorithm by its keys."""
    networks = {"/".join(k.split("/")[:2]) for k in arrays if k.startswith("init/")}
    if "init/fake_diffusion" in networks:
        return replay_dql_kl
    if "init/ema_actor" in networks:
        return replay_dql
    if "init/diffusion" in networks:
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
        except Exception as error:  # a damaged or foreign file may raise any
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"error: {path} is not a replayable file: {reason}", file=sys.stderr)
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
