"""What `experiments.paper_table` trains: the paper's tasks, in the paper's size or in a CPU's."""

import ml_collections

from dtql_jax.errors import UserError, near_matches

PRESETS = ("cpu", "paper")
ALGORITHMS = ("dtql", "dql", "idql", "iql", "bc")

# fields of a domain of the preset "cpu"; what is 0 or "" is as published
_CPU = {
    "antmaze": {
        "transitions": 200_000,
        "batch_size": 256,
        "pretrain_steps": 1_000,
        "train_steps": 4_000,
        "num_candidates": 32,
    },
    "gym": {
        "algorithms": ",".join(ALGORITHMS),
        "transitions": 100_000,
        "batch_size": 128,
        "hidden_dim": 128,
        "pretrain_steps": 500,
        "train_steps": 2_500,
        "num_candidates": 16,
    },
    "adroit": {
        "transitions": 100_000,
        "batch_size": 128,
        "hidden_dim": 128,
        "pretrain_steps": 500,
        "train_steps": 2_500,
        "num_candidates": 16,
        "episodes": 20,
    },
    "kitchen": {
        "transitions": 20_000,
        "batch_size": 128,
        "hidden_dim": 128,
        "pretrain_steps": 500,
        "train_steps": 1_500,
        "num_candidates": 16,
        "episodes": 10,
    },
}


def get_config(preset: str = "cpu") -> ml_collections.ConfigDict:
    """The table's configuration: "paper", or "cpu" with budgets for two CPU cores."""
    if preset not in PRESETS:
        raise UserError(f"the table has no preset {preset!r}; {near_matches(preset, PRESETS)}")
    config = ml_collections.ConfigDict()
    config.preset = preset
    config.tasks = "antmaze,gym,adroit,kitchen"  # names and groups, in the order of the work
    config.seed = 0  # of the first member
    config.seeds = 5  # members of each population
    # published rates below it are raised to it, for budgets too short for them; 0: none is
    config.least_learning_rate = 3e-4 if preset == "cpu" else 0.0
    for domain in ("gym", "antmaze", "adroit", "kitchen"):
        own = ml_collections.ConfigDict()
        own.algorithms = "dtql"  # separated by commas
        own.transitions = 0  # collected, where data is generated
        own.batch_size = 0  # transitions
        own.hidden_dim = 0  # width of every network
        own.pretrain_steps = 0  # updates; of the algorithms that have such a phase
        own.train_steps = 0  # updates after them; the others make as many in all
        own.num_candidates = 0  # actions drawn for each observation when acting
        own.episodes = 0  # a member, with the last checkpoint
        if preset == "cpu":
            own.update(_CPU[domain])
        config[domain] = own
    return config
