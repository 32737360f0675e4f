"""The paper's ablations: varied settings, tasks and budgets.

Everything else is the task's own configuration (`dtql_jax/presets`).
"""

from typing import Any

import ml_collections

TASKS = {
    "pointmaze": "pointmaze-medium",
    "hopper": "hopper-medium",
    "antmaze": "antmaze-umaze",
}

# Budgets for two CPU cores, under an hour in all: the fields of a run's configuration that they
# change. Networks are narrow and updates few, so all learning rates are larger and do not decay.
SHORT = {
    "pretrain_steps": 200,
    "train_steps": 1_000,
    "batch_size": 256,
    "updates_per_call": 100,
    "log_every": 200,
    "eval_every": 1_000,
    "checkpoint_every": 500,
    "eval_episodes": 10,
    "final_eval_episodes": 10,
    "record_episodes": 0,
}
SHORT_ALGORITHM = {
    "hidden_dim": 64,
    "num_candidates": 16,
    "learning_rate": 1e-3,
    "critic_learning_rate": 1e-3,
    "lr_decay": False,
}


def get_config() -> ml_collections.ConfigDict:
    """Returns the settings of `experiments.ablations`."""
    config: Any = ml_collections.ConfigDict()
    config.budget = "short"  # of each task: short (two CPU cores, under an hour) or full
    config.seeds = 5  # of every setting; they and all traced settings are one population
    config.seed = 0  # the first of them

    # DTQL's settings; the task's own alpha and gamma where another one is varied
    config.gamma = (0.0, 0.01, 0.1, 0.5, 1.0, 5.0)  # weight of the NLL
    config.alpha_factors = (0.1, 1.0, 10.0, 100.0)  # times the task's own alpha
    config.policy = ("gaussian", "deterministic", "implicit")  # all at gamma 0: one has no NLL
    config.objective = ("dtql", "dql_kl")  # trust region or KL: names of algorithms
    # alpha of the KL form: with a task's own it leaves the data (`dtql_jax.presets.dtql` says why)
    config.kl_alpha = 100.0
    config.weighting = ("edm", "elbo")  # noise levels and weights of the denoising losses
    config.value_target = ("online", "target")  # critics in the value loss

    # evaluations of the members with the task's own settings, without training
    config.candidates = (1, 16, 128, 1024)  # actions drawn for one
    config.selection = ("softmax", "argmax")  # by their Q
    config.acting_episodes = 10  # of each seed

    config.tasks = ("pointmaze", "hopper", "antmaze")  # in this order
    config.settings = ml_collections.ConfigDict({name: _task(name) for name in TASKS})
    return config


def _task(name: str) -> dict[str, Any]:
    """Returns a task's name and what both budgets change in its own configuration."""
    short = SHORT | {"source": "generated", "data_transitions": 50_000}
    algorithm = dict(SHORT_ALGORITHM)
    if name == "antmaze":  # the ant needs more updates before it walks
        short |= {"pretrain_steps": 250, "train_steps": 1_500, "eval_every": 1_500}
        algorithm["hidden_dim"] = 128
    # the task's whole collection, the published batch, updates and episodes
    full = {"source": "generated", "preset": "full" if name == "pointmaze" else "paper"}
    return {"task": TASKS[name], "short": short | {"algorithm": algorithm}, "full": full}
