"""Sizes of the paper's table: as published, or small enough for two CPU cores."""

import ml_collections

from dtql_jax.errors import UserError, near_matches

PRESETS = ("cpu", "paper")
ALGORITHMS = ("dtql", "dql", "idql", "iql", "bc")
DOMAINS = ("gym", "antmaze", "adroit", "kitchen")

# fields of a domain; 0 means as published
_PUBLISHED = {
    "algorithms": "dtql",  # separated by commas
    "transitions": 0,  # collected, if the data is generated
    "batch_size": 0,
    "hidden_dim": 0,  # width of every network
    "pretrain_steps": 0,  # updates, of the algorithms that have such a phase
    "train_steps": 0,  # updates after them; other algorithms make the sum of both
    "num_candidates": 0,  # actions drawn for each observation when acting
    "episodes": 0,  # of each member, with the last checkpoint
}
# preset "cpu": shows that everything works; its scores measure no method
_SMALL = _PUBLISHED | {
    "transitions": 100_000,
    "batch_size": 128,
    "hidden_dim": 128,
    "pretrain_steps": 500,
    "train_steps": 2_500,
    "num_candidates": 16,
}
_ANTMAZE = _PUBLISHED | {
    "transitions": 200_000,
    "batch_size": 256,
    "pretrain_steps": 1_000,
    "train_steps": 4_000,
    "num_candidates": 32,
}
_CPU = {
    "antmaze": _ANTMAZE,
    "gym": _SMALL | {"algorithms": ",".join(ALGORITHMS)},
    "adroit": _SMALL | {"episodes": 20},
    "kitchen": _SMALL | {"train_steps": 1_500, "episodes": 10},
}


def get_config(preset: str = "cpu") -> ml_collections.ConfigDict:
    """Returns the settings of the table."""
    if preset not in PRESETS:
        raise UserError(f"the table has no preset {preset!r}; {near_matches(preset, PRESETS)}")
    config = ml_collections.ConfigDict()
    config.preset = preset
    config.tasks = "antmaze,gym,adroit,kitchen"  # names and groups, in the order of training
    config.seed = 0  # of the first member
    config.seeds = 5  # members of each population
    # lower published learning rates are raised to it, for few updates; 0: none is
    config.least_learning_rate = 3e-4 if preset == "cpu" else 0.0
    for domain in DOMAINS:
        fields = _CPU[domain] if preset == "cpu" else _PUBLISHED
        config[domain] = ml_collections.ConfigDict(fields)
    return config
