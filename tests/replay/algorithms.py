"""The replay of each algorithm: configuration, random numbers, names of its networks."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.algorithms import dql, dql_kl, dtql, fql, idql
from dtql_jax.algorithms.config import as_arrays
from dtql_jax.algorithms.train_state import TrainState
from dtql_jax.diffusion import ddpm
from dtql_jax.types import Transition
from tests.replay.shared import (
    Arrays,
    Report,
    action_dim,
    flat,
    flat_twins,
    replay,
    settings,
    tree,
    twin_tree,
    under,
    values_and_critics,
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


def idql_names(key: str) -> str:
    """The name of one of the actor's parameters here, from its name in a file."""
    return (
        key.replace("trunk/", "").replace("time/fourier", "fourier").replace("time/dense", "time")
    )


def idql_actor(arrays: Arrays, prefix: str) -> dict[str, Any]:
    """The actor's parameters below `prefix`/; the Fourier kernel is [F/2, 1] in a file."""
    named = {f"actor/{idql_names(k)}": v for k, v in under(arrays, prefix).items()}
    named["actor/fourier/kernel"] = named["actor/fourier/kernel"][:, 0]
    return tree(named, "actor")


def idql_stored(params: Any, prefix: str, arrays: Arrays) -> Arrays:
    """Inverse of `idql_actor`, below `prefix`/."""
    found = flat(params, prefix)
    found[f"{prefix}/fourier/kernel"] = found[f"{prefix}/fourier/kernel"][:, None]
    keys = under(arrays, f"init/{prefix}")
    return {f"{prefix}/{k}": found[f"{prefix}/{idql_names(k)}"] for k in keys}


def idql_draws(step: Arrays) -> tuple[idql.Draws, ...]:
    """The stored random numbers of each actor update; `keep` is absent without dropout."""
    parts = [under(step, f"actor_{i}") for i in range(2) if f"actor_{i}/noise" in step]
    return tuple(
        idql.Draws(
            jnp.asarray(part["timestep"]),
            jnp.asarray(part["noise"]),
            jnp.moveaxis(jnp.asarray(part["keep"]), 0, 1) if "keep" in part else None,
        )
        for part in parts
    )


def replay_idql(arrays: Arrays) -> Report:
    """Replays a stored IDQL run, its action choice included."""
    c = settings(arrays)
    config = idql.IDQLConfig(
        learning_rate=c["actor_lr"],
        critic_learning_rate=c["critic_lr"],
        ema_rate=c["actor_tau"],
        decay_steps=c["decay_steps"] // c["actor_updates"],
        num_timesteps=c["n_timesteps"],
        activation="silu" if c["activation"] == "swish" else c["activation"],
        value_layer_norm=bool(c["value_layer_norm"]),
        **{k: c[k] for k in ("expectile", "discount", "tau", "weight_decay", "max_action")},
        **{k: c[k] for k in ("hidden_dim", "num_blocks", "time_dim", "dropout")},
        **{k: c[k] for k in ("actor_updates", "critic_rows")},
    )
    networks = idql.make_networks(config)
    state = idql.IDQLState(
        config=as_arrays(config),
        actor=TrainState.create(idql_actor(arrays, "init/actor")),
        ema_actor=idql_actor(arrays, "init/target_actor"),
        critics=TrainState.create(twin_tree(arrays, "init/critic")),
        target_critics=twin_tree(arrays, "init/target_critic"),
        value=TrainState.create(tree(arrays, "init/value")),
        action_dim=action_dim(arrays),
    )
    train = partial(idql.train_update, networks, config)
    state, report = replay(
        arrays,
        state,
        train,
        train,
        idql_draws,
        lambda state: (
            idql_stored(state.actor.params, "actor", arrays)
            | idql_stored(state.ema_actor, "target_actor", arrays)
            | values_and_critics(state)
        ),
    )
    report.add_parameters({"betas": networks.schedule.betas}, {"betas": arrays["config/betas"]})
    act = under(arrays, "act")
    noise = ddpm.ChainNoise(act["initial_noise"], jnp.moveaxis(act["step_noise"], 0, -2))
    actions, q = idql.candidates(networks, config, state, act["observation"], noise)
    value = networks.value.apply(state.value.params, act["observation"])
    found = {
        "candidates": actions,
        "min_q": q,
        "value": value,
        "action": actions[jnp.argmax(q)],
        "probabilities": jax.nn.softmax(idql.expectile_logits(q, value, config.expectile)),
    }
    report.add_actions(found, {k: act[k] for k in found})
    return report


def fql_draws(step: Arrays) -> fql.Draws:
    """The stored random numbers."""
    return fql.Draws(
        next_noise=jnp.asarray(step["next_action/noise"]),
        flow_noise=jnp.asarray(step["flow/initial_noise"]),
        flow_time=jnp.asarray(step["flow/time"][:, 0]),
        policy_noise=jnp.asarray(step["policy/noise"]),
    )


def gradient_norm(before: TrainState, after: TrainState) -> Any:
    """The sum over all leaves of their gradients' norms: Adam's first moment is 0.9 m + 0.1 g."""

    def norm(old: Any, new: Any) -> Any:
        return jnp.linalg.norm((new - 0.9 * old).ravel()) / 0.1

    moments = (state.opt_state.mu for state in (before, after))  # pyright: ignore
    return sum(jax.tree.leaves(jax.tree.map(norm, *moments)))


def replay_fql(arrays: Arrays) -> Report:
    """Replays a stored FQL run, its actions included."""
    c = settings(arrays)
    config = fql.FQLConfig(
        learning_rate=c["lr"],
        q_aggregation=c["q_agg"],
        normalize_q=bool(c["normalize_q_loss"]),
        layer_norm=bool(c["layer_norm"]),
        policy_layer_norm=bool(c["actor_layer_norm"]),
        depth=c["hidden_layers"],
        **{k: c[k] for k in ("discount", "tau", "alpha", "flow_steps", "hidden_dim", "max_action")},
    )
    networks = fql.make_networks(config, action_dim(arrays))
    state = fql.FQLState(
        config=as_arrays(config),
        critics=TrainState.create(twin_tree(arrays, "init/critic")),
        target_critics=twin_tree(arrays, "init/target_critic"),
        flow=TrainState.create(tree(arrays, "init/flow")),
        policy=TrainState.create(tree(arrays, "init/policy")),
        action_dim=action_dim(arrays),
    )

    def train(state: fql.FQLState, batch: Transition, draws: fql.Draws) -> Any:
        after, metrics = fql.train_update(networks, config, state, batch, draws)
        names = ("critics", "flow", "policy")
        norms = [gradient_norm(getattr(state, name), getattr(after, name)) for name in names]
        return after, metrics | {"grad_norm": sum(norms)}

    state, report = replay(
        arrays,
        state,
        train,
        train,
        fql_draws,
        lambda state: (
            flat_twins(state.critics.params, "critic")
            | flat_twins(state.target_critics, "target_critic")
            | flat(state.flow.params, "flow")
            | flat(state.policy.params, "policy")
        ),
    )
    act = under(arrays, "act")
    inputs = (act["observations"], act["noise"])
    found = {
        "actions": fql.one_step_actions(networks, config, state.policy.params, *inputs),
        "flow_actions": fql.flow_actions(networks, config, state.flow.params, *inputs),
    }
    report.add_actions(found, {k: act[k] for k in found})
    return report
