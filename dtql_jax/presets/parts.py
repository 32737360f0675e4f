"""From a configuration to the parts of a run: algorithm, loop, seeds, data and rewards.

`dtql_jax.train("antmaze-umaze")` and `dtql-jax train --env=antmaze-umaze` both come through here.
"""

import time
from typing import Any

import numpy as np

from dtql_jax.algorithms import make_algorithm
from dtql_jax.algorithms.base import Algorithm
from dtql_jax.datasets import DatasetInfo, load
from dtql_jax.datasets.transitions import transform_rewards
from dtql_jax.errors import UserError
from dtql_jax.presets.base import run_config
from dtql_jax.training import background
from dtql_jax.training.progress import Progress
from dtql_jax.training.trainer import TrainerConfig
from dtql_jax.types import Transition

# integer fields that may be 0; eval_workers may be -1, and the others are at least 1
_FROM_0 = ("seed", "pretrain_steps", "final_eval_episodes", "eval_envs", "record_episodes")
_FROM_0 += ("data_transitions", "data_seed")
_MOST = 2**31 - 1
_MOST_SEEDS = 4096


def algorithm_of(config: dict[str, Any]) -> Algorithm:
    """Returns the algorithm of a configuration; UserError where a setting is wrong."""
    settings = dict(config["algorithm"])
    name = settings.pop("name")
    if settings.get("decay_steps") == 0:
        settings["decay_steps"] = config["train_steps"]
    return make_algorithm(name, settings)


def trainer_config(config: dict[str, Any]) -> TrainerConfig:
    """Returns the loop's settings of a configuration; UserError where any field is wrong."""
    for field, default in run_config().items():
        check_field(field, config.get(field), default)
    background.check(config["eval_overlap"])
    names = TrainerConfig.__dataclass_fields__
    return TrainerConfig(**{name: config[name] for name in names})


def check_field(field: str, value: Any, default: Any, name: str = "") -> None:
    """Raises UserError unless a value has the type of a field's default and is in its range.

    `name` is the user's name of the field; by default "config.FIELD".
    """
    name = name or f"config.{field}"
    # an int is a good value of a field of floats
    if type(value) is not type(default) and (type(default), type(value)) != (float, int):
        raise UserError(f"{name} is {value!r}; expected {type(default).__name__}")
    if isinstance(value, float) and not abs(value) < 3e38:
        raise UserError(f"{name} is {value}; expected a float of 32 bits")
    if type(default) is int:
        least = 0 if field in _FROM_0 else 1
        least = -1 if field == "eval_workers" else least
        # the seeds of all members fit into 32 bits
        most = {"seed": _MOST - _MOST_SEEDS, "seeds": _MOST_SEEDS}.get(field, _MOST)
        if value < least:
            raise UserError(f"{name} is {value}; expected at least {least}")
        if value > most:
            raise UserError(f"{name} is {value}; expected at most {most}")


def overlap_of(config: dict[str, Any]) -> str:
    """Whether evaluations overlap with training: on, off or auto."""
    return config["eval_overlap"]


def final_episodes(config: dict[str, Any]) -> int:
    """Number of episodes of each member in the evaluation that is reported."""
    return config["final_eval_episodes"] or config["eval_episodes"]


def seeds_of(config: dict[str, Any]) -> list[int]:
    """Returns the members' seeds."""
    return [config["seed"] + i for i in range(config["seeds"])]


def load_data(config: dict[str, Any], display: Progress) -> tuple[Transition, DatasetInfo, float]:
    """Returns (data with the rewards to train on, facts about it, seconds that it took)."""
    data, info, seconds = load_raw(config, display)
    rewards = np.asarray(data.rewards)
    rewards = transform_rewards(rewards, *reward_transform(config, rewards))
    return data._replace(rewards=rewards), info, seconds


def reward_transform(config: dict[str, Any], rewards: np.ndarray) -> tuple[float, float]:
    """Returns (scale, shift): the dataset's rewards [N] are trained as reward * scale + shift."""
    scale, shift = config["reward_scale"], config["reward_shift"]
    if config["reward_standardise"]:
        # (reward - mean) / deviation comes first, then the configuration's scale and shift
        deviation = max(float(np.std(rewards)), 1e-8)
        shift -= scale * float(np.mean(rewards)) / deviation
        scale /= deviation
    return scale, shift


def load_raw(config: dict[str, Any], display: Progress) -> tuple[Transition, DatasetInfo, float]:
    """Returns the same as `load_data`, with the dataset's own rewards."""
    began = time.monotonic()
    display.about(
        f"{config['algorithm']['name']} on {config['task']}", f"source {config['source']}"
    )
    display.start("data", unit="transitions")
    data, info = load(
        config["task"],
        config["source"],
        d4rl_dir=config["d4rl_dir"] or None,
        transitions=config["data_transitions"] or None,
        seed=config["data_seed"],
        behaviour_policy=config["behaviour_policy"] or None,
        report=display.say,
        progress=display.advance,
    )
    return data, info, time.monotonic() - began
