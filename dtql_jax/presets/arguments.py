"""The configuration that the arguments of `dtql_jax.train` mean."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from dtql_jax.algorithms.base import Algorithm
from dtql_jax.errors import UserError, near_matches
from dtql_jax.presets import get_config, has_pretraining
from dtql_jax.presets.base import base_config, run_config
from dtql_jax.presets.parts import check_field

# argument of `train` -> field of the configuration
_FIELDS = {
    "steps": "train_steps",
    "pretrain_steps": "pretrain_steps",
    "batch_size": "batch_size",
    "reward_scale": "reward_scale",
    "reward_shift": "reward_shift",
    "reward_standardise": "reward_standardise",
    "log_every": "log_every",
    "updates_per_call": "updates_per_call",
}
# the same, for a task's data
_DATA_FIELDS = {
    "source": "source",
    "transitions": "data_transitions",
    "seed": "data_seed",
    "d4rl_dir": "d4rl_dir",
    "behaviour_policy": "behaviour_policy",
}


def configuration(
    task: str,
    preset: str = "auto",
    algorithm: str | Algorithm = "dtql",
    settings: Mapping[str, Any] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Returns the configuration that `dtql_jax.train` uses for a task.

    The arguments are those of `train`; `changes` replace values of the preset.

    Raises:
      UserError: a name or a value is wrong.
    """
    name = algorithm if isinstance(algorithm, str) else "dtql"
    config = get_config(f"{task},{preset},{name}").to_dict()
    return _changed(config, algorithm, settings, changes, _FIELDS | _DATA_FIELDS)


def own_configuration(
    algorithm: str | Algorithm, settings: Mapping[str, Any] | None, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the configuration that `dtql_jax.train` uses for data of your own."""
    name = algorithm if isinstance(algorithm, str) else "bc"
    config = base_config("own data", "", name).to_dict()
    config |= {"train_steps": 10_000, "final_eval_episodes": 20}
    config = _changed(config, algorithm, settings, changes, _FIELDS)
    steps = config["train_steps"]
    if config["pretrain_steps"] and "pretrain_steps" not in changes:
        config["pretrain_steps"] = steps // 4
    if "log_every" not in changes:
        config["log_every"] = max((steps + config["pretrain_steps"]) // 50, 1)
    if "updates_per_call" not in changes:
        config["updates_per_call"] = min(config["log_every"], 100)
    return config


def _changed(
    config: dict[str, Any],
    algorithm: str | Algorithm,
    settings: Mapping[str, Any] | None,
    changes: Mapping[str, Any],
    fields: Mapping[str, str],
) -> dict[str, Any]:
    """Returns a configuration with the algorithm's settings and the changes in it."""
    if not isinstance(algorithm, str):
        if settings:
            raise UserError(f"settings {sorted(settings)} are for a named algorithm, not your own")
        config["algorithm"] = {"name": "own"}
    config["algorithm"] |= settings or {}
    if not has_pretraining(algorithm):
        config["pretrain_steps"] = 0
    defaults = run_config()
    for argument, value in changes.items():
        if argument not in fields:
            near = near_matches(argument, fields)
            raise UserError(f"train has no argument {argument!r} for {config['task']}; {near}")
        value = value.item() if isinstance(value, np.generic) else value
        value = os.fspath(value) if isinstance(value, os.PathLike) else value
        field = fields[argument]
        check_field(field, value, defaults[field], name=argument)
        config[field] = value
    return config
