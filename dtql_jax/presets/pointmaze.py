"""Point mazes: not in the paper; small enough to learn on two CPU cores in minutes."""

import ml_collections

from dtql_jax.presets.algorithms import set_published
from dtql_jax.presets.base import base_config, check_preset


def get_config(task: str, preset: str, algorithm: str) -> ml_collections.ConfigDict:
    """The configuration of a point maze; presets: quick (minutes on a CPU), full."""
    check_preset(preset, ("quick", "full"), task)
    config = base_config(task, preset, algorithm)
    config.source = "generated"  # the same data on every machine, with or without a network
    config.eval_episodes = 10
    config.final_eval_episodes = 100
    config.record_episodes = 24
    config.reward_shift = -1.0  # -1 a step and 0 at the goal, as in the AntMazes
    if preset == "quick":
        config.update(pretrain_steps=500, train_steps=2_000, updates_per_call=50)
        config.update(log_every=100, eval_every=500, checkpoint_every=500)
    else:
        config.update(pretrain_steps=5_000, train_steps=50_000, log_every=500)
        config.update(eval_every=10_000, checkpoint_every=10_000)
    steps = config.train_steps
    settings = {"learning_rate": 3e-4, "alpha": 1.0, "lr_decay": False}
    set_published(config, "pointmaze", task, gamma=1.0, expectile=0.9, **settings)
    config.update(train_steps=steps, batch_size=256)  # the same for every algorithm
    if algorithm == "dql_kl":
        # rewards of -1 a step make Q tens; below about 50 it drives the policy out of the data
        config.algorithm.alpha = 100.0
    return config
