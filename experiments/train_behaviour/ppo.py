"""Training by sbx-rl's PPO; policies are written in the layout of `dtql_jax.collect.policies`."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import pathlib
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from flax.training.train_state import TrainState
from sbx import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from dtql_jax.collect.policies import SHIPPED_FOLDER
from dtql_jax.envs.make import make_base_env
from experiments.train_behaviour.ant_floor import AntFloor
from experiments.train_behaviour.bodies import Body, Settings
from experiments.train_behaviour.environments import MujocoBatch, Runners, ThreadedVecEnv

# added to each input's variance: the weight of a nearly constant input would overflow float16
_LEAST_VARIANCE = 1e-4

# this project's names and sbx-rl's
_LAYERS = {"dense_0": "Dense_0", "dense_1": "Dense_1", "mean": "Dense_2"}

_VERSIONS = ("sbx-rl", "stable-baselines3", "jax", "flax", "mujoco", "gymnasium", "numpy")

Report = Callable[[str], None]


def train(
    body: Body, seed: int, folder: pathlib.Path, snapshots: int, stop: int, report: Report
) -> dict[str, Any]:
    """Trains a policy and writes snapshots of it, FOLDER/STEPS.npz.

    Args:
      body: to train, with its settings.
      seed: of all random numbers.
      folder: an existing one.
      snapshots: number after the untrained policy; they are closer together at the beginning,
        where most is learned.
      stop: steps after which training ends early; 0: after the body's steps.
      report: receives progress as lines.

    Returns:
      the record of the training, as JSON.
    """
    began, began_cpu = time.perf_counter(), time.process_time()
    settings = body.settings
    batch = _environments(body, seed)
    env = VecNormalize(
        batch,
        norm_obs=not body.start,  # a started policy has it in its first layer
        clip_obs=np.inf,  # clipping could not be folded into the first layer
        gamma=settings.gamma,
        epsilon=_LEAST_VARIANCE,
    )
    model = ScannedPPO(
        "MlpPolicy",
        env,
        learning_rate=lambda left: settings.learning_rate * _decay(left, settings),
        n_steps=settings.rollout,
        batch_size=settings.batch,
        n_epochs=settings.epochs,
        gamma=settings.gamma,
        gae_lambda=settings.gae,
        ent_coef=settings.entropy,
        policy_kwargs={
            "net_arch": {"pi": [settings.hidden] * 2, "vf": [settings.critic_hidden] * 2},
            "log_std_init": settings.log_std,
            "ortho_init": True,
        },
        seed=seed,
    )
    if body.start:
        _start_from(model, SHIPPED_FOLDER / body.start, body.start_scale, settings.log_std)
    marks = [settings.steps * (i / snapshots) ** 2 for i in range(snapshots + 1)]
    try:
        exact = settings.steps * settings.euler
        model.learn(settings.steps, callback=_Snapshots(marks, folder, report, batch, exact, stop))
    finally:
        env.close()
    return {
        "body": body.name,
        "environment": body.source.env.env_id,
        "algorithm": "PPO of sbx-rl",
        "seed": seed,
        "steps": model.num_timesteps,
        "settings": dataclasses.asdict(settings) | ({"speed": body.speed} if body.speed else {}),
        **({"start": body.start, "start_scale": body.start_scale} if body.start else {}),
        "seconds": round(time.perf_counter() - began),
        "cpu_seconds": round(time.process_time() - began_cpu),
        "device": f"{jax.devices()[0].platform}, {os.cpu_count()} cores",
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONS},
    }


def write_policy(path: pathlib.Path, actor: dict[str, Any], env: VecNormalize, frame: str) -> None:
    """Writes a policy as float16; its input normalisation is folded into the first layer."""
    layers = actor["params"]
    arrays = {}
    for name, layer in _LAYERS.items():
        kernel = np.asarray(layers[layer]["kernel"], np.float64)
        bias = np.asarray(layers[layer]["bias"], np.float64)
        if name == "dense_0" and env.norm_obs:
            kernel = kernel / np.sqrt(env.obs_rms.var + env.epsilon)[:, None]
            bias = bias - env.obs_rms.mean @ kernel
        arrays[f"{name}/kernel"], arrays[f"{name}/bias"] = kernel, bias
    arrays["log_std/kernel"] = np.zeros_like(arrays["mean/kernel"])
    arrays["log_std/bias"] = np.asarray(layers["log_std"])
    halves = {key: array.astype(np.float16) for key, array in arrays.items()}
    words = {"meta/activation": "tanh", "meta/squash": "none"}
    if frame:
        words["meta/frame"] = frame
    np.savez_compressed(path, **halves, **words)


def _start_from(model: PPO, path: pathlib.Path, scale: float, log_std: float) -> None:
    """Starts from a policy file, with its mean actions scaled."""
    params: dict[str, Any] = {}
    with np.load(path, allow_pickle=False) as file:
        for name, layer in _LAYERS.items():
            factor = scale if name == "mean" else 1.0
            params[layer] = {
                part: np.float32(factor) * file[f"{name}/{part}"].astype(np.float32)
                for part in ("kernel", "bias")
            }
    params["log_std"] = np.full_like(params["Dense_2"]["bias"], log_std)
    state = model.policy.actor_state
    model.policy.actor_state = state.replace(params=jax.device_put({"params": params}))


def _environments(body: Body, seed: int) -> VecEnv:
    spec, copies = body.source.recording_env(), body.settings.envs
    if body.kind == "ant":
        return AntFloor(make_base_env(spec), copies, body.speed, seed)
    if body.kind == "levels":
        return Runners(make_base_env(spec), copies, seed)
    return ThreadedVecEnv([lambda: make_base_env(spec)] * copies, seed)


def _decay(left: float, settings: Settings) -> float:
    return settings.last_learning_rate + (1.0 - settings.last_learning_rate) * left


class ScannedPPO(PPO):
    """sbx-rl's PPO with all minibatches of a rollout in one compiled program.

    The minibatches are small: one call for each takes several times longer than its computation.
    The updates are sbx-rl's own; its log of losses is left out.
    """

    def train(self) -> None:
        """Makes the updates of one rollout."""
        left = self._current_progress_remaining
        actor, critic = self.policy.actor_state, self.policy.vf_state
        self._update_learning_rate(
            [actor.opt_state[1], critic.opt_state[1]], self.lr_schedule(left)
        )
        (rows,) = self.rollout_buffer.get(None)
        data = {
            name: getattr(rows, name).numpy()
            for name in ("observations", "actions", "advantages", "returns", "old_log_prob")
        }
        size = len(data["returns"])
        orders = np.stack([np.random.permutation(size) for _ in range(self.n_epochs)])
        batches = orders.reshape(-1, self.batch_size)
        self.policy.actor_state, self.policy.vf_state = _updates(
            actor,
            critic,
            data,
            batches,
            self.clip_range_schedule(left),
            self.ent_coef,
            self.vf_coef,
        )


@partial(jax.jit, donate_argnums=(0, 1))
def _updates(
    actor: TrainState,
    critic: TrainState,
    data: dict[str, jax.Array],
    batches: jax.Array,
    clip_range: float,
    entropy: float,
    value: float,
) -> tuple[TrainState, TrainState]:
    def one(states: tuple[TrainState, TrainState], batch: jax.Array) -> tuple[Any, None]:
        rows = {name: array[batch] for name, array in data.items()}
        states, _ = PPO._one_update(
            *states, **rows, clip_range=clip_range, ent_coef=entropy, vf_coef=value
        )
        return states, None

    return jax.lax.scan(one, (actor, critic), batches)[0]


class _Snapshots(BaseCallback):
    """Writes the policy at each of the given numbers of steps."""

    def __init__(
        self,
        marks: list[float],
        folder: pathlib.Path,
        report: Report,
        batch: VecEnv,
        exact: float,
        stop: int,
    ):
        super().__init__()
        self._stop = stop
        self._batch, self._exact = batch, exact
        self._ant = isinstance(batch, AntFloor)
        self._marks, self._folder, self._report = marks, folder, report
        self._began = time.perf_counter()
        self._returns: list[float] = []
        self._sums: np.ndarray | None = None

    def _on_step(self) -> bool:
        env = self.model.get_vec_normalize_env()
        rewards, dones = env.get_original_reward(), self.locals["dones"]
        self._sums = rewards.astype(np.float64) + (0 if self._sums is None else self._sums)
        self._returns = (self._returns + self._sums[dones].tolist())[-100:]
        self._sums[dones] = 0.0
        return not self._stop or self.model.num_timesteps < self._stop

    def _on_rollout_start(self) -> None:
        if isinstance(self._batch, MujocoBatch) and self.model.num_timesteps >= self._exact:
            self._batch.exact()
        self._write()

    def _on_training_end(self) -> None:
        self._write()

    def _write(self) -> None:
        steps = self.model.num_timesteps
        if not self._marks or steps < self._marks[0]:
            return
        while self._marks and steps >= self._marks[0]:
            self._marks.pop(0)
        parameters = jax.device_get(self.model.policy.actor_state.params)
        path = self._folder / f"{steps:09d}.npz"
        env = self.model.get_vec_normalize_env()
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an overflow of float16
            write_policy(path, parameters, env, "direction" if self._ant else "")
        seconds = time.perf_counter() - self._began
        recent = np.mean(self._returns) if self._returns else np.nan
        std = np.exp(parameters["params"]["log_std"]).mean()
        self._report(
            f"{steps:,} steps ({seconds:.0f} s, {steps / seconds:.0f} a second): return in "
            f"training {recent:.1f}, std {std:.2f}"
        )
