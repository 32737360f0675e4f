"""Settings of every task and algorithm: the paper's, and smaller ones.

`get_config("TASK[,PRESET[,ALGORITHM]]")` is what `dtql-jax train --env=TASK`, `make train ENV=TASK`
and `dtql_jax.train(TASK)` start from. Presets:

| preset | meaning |
|---|---|
| paper | the published settings (all tasks but the point mazes, which the paper does not have) |
| full | point mazes: 50,000 updates |
| quick | minutes on a CPU; its scores are not comparable with the paper |
| auto | paper; quick for the point mazes |
"""

import ml_collections

from dtql_jax.algorithms import make_algorithm
from dtql_jax.algorithms.base import Algorithm
from dtql_jax.datasets.registry import get_task
from dtql_jax.errors import UserError, near_matches
from dtql_jax.presets import baselines, dtql
from dtql_jax.presets.base import base_config

DEFAULT = "pointmaze-umaze,auto,dtql"

# fields of the run that the tasks of a domain share, in the paper's protocol
_DOMAINS = {
    "gym": {"eval_episodes": 10},
    "antmaze": {
        "batch_size": 2048,
        "updates_per_call": 20,
        "eval_episodes": 100,
        "reward_shift": -1.0,
        "record_episodes": 20,
    },
    "adroit": {"eval_episodes": 100},
    "kitchen": {"eval_episodes": 100},
    "pointmaze": {
        "source": "generated",  # the same data on every machine, with or without a network
        "eval_episodes": 10,
        "final_eval_episodes": 100,
        "reward_shift": -1.0,  # -1 a step and 0 at the goal, as in the AntMazes
        "record_episodes": 24,
    },
}

_SMALL = {
    "batch_size": 256,
    "pretrain_steps": 1_000,
    "train_steps": 10_000,
    "updates_per_call": 100,
    "log_every": 500,
    "eval_every": 5_000,
    "eval_episodes": 10,
    "final_eval_episodes": 20,
    "checkpoint_every": 5_000,
}
_POINTMAZE = {
    "quick": {
        "pretrain_steps": 500,
        "train_steps": 2_000,
        "updates_per_call": 50,
        "log_every": 100,
        "eval_every": 500,
        "checkpoint_every": 500,
    },
    "full": {
        "pretrain_steps": 5_000,
        "train_steps": 50_000,
        "log_every": 500,
        "eval_every": 10_000,
        "checkpoint_every": 10_000,
    },
}


def get_config(spec: str = DEFAULT) -> ml_collections.ConfigDict:
    """Returns the configuration of "TASK[,PRESET[,ALGORITHM]]".

    Raises:
      UserError: the task, the preset or the algorithm is unknown.
    """
    parts = [part.strip() for part in spec.split(",")]
    if len(parts) > 3 or not all(parts):
        raise UserError(f"configuration {spec!r}; expected TASK[,PRESET[,ALGORITHM]]")
    name, preset, algorithm = parts + DEFAULT.split(",")[len(parts) :]
    task = get_task(name)
    known = ("quick", "full") if task.domain == "pointmaze" else ("paper", "quick")
    if preset == "auto":
        preset = known[0]
    if preset not in known:
        raise UserError(f"{name} has no preset {preset!r}; {near_matches(preset, known)}")
    config = base_config(name, preset, algorithm)
    config.update(_DOMAINS[task.domain])
    dtql.apply(config, task.name)
    baselines.apply(config, task.name, task.domain)
    sizes = _POINTMAZE[preset] if task.domain == "pointmaze" else _SMALL
    if preset != "paper":
        # every algorithm gets the same number of updates
        config.update({"batch_size": 256, **sizes})
    if not has_pretraining(algorithm):
        config.pretrain_steps = 0
    return config


def has_pretraining(algorithm: str | Algorithm) -> bool:
    """Whether an algorithm trains its critics and diffusion model before its policy."""
    made = make_algorithm(algorithm, {}) if isinstance(algorithm, str) else algorithm
    return made.pretrain_step is not made.train_step
