"""Adroit hands: the paper's settings for pen (batch 256, 100 episodes an evaluation)."""

import ml_collections

from dtql_jax.presets.algorithms import set_published
from dtql_jax.presets.base import base_config, check_preset, quick

# task -> (learning rate, alpha, cosine decay, epochs of 1000 updates, expectile); gamma 0
DTQL = {
    "pen-human": (3e-5, 1500.0, True, 300, 0.9),
    "pen-cloned": (1e-5, 1500.0, False, 200, 0.7),
}


def get_config(task: str, preset: str, algorithm: str) -> ml_collections.ConfigDict:
    """The configuration of an Adroit task; presets: paper, quick."""
    check_preset(preset, ("paper", "quick"), task)
    config = base_config(task, preset, algorithm)
    # hands and data that the paper does not have take its settings for human or cloned data
    nearest = "pen-human" if task.endswith("-human") else "pen-cloned"
    learning_rate, alpha, decay, epochs, expectile = DTQL.get(task, DTQL[nearest])
    config.train_steps = epochs * 1000
    config.eval_episodes = 100
    settings = {"learning_rate": learning_rate, "alpha": alpha, "lr_decay": decay}
    set_published(config, "adroit", task, gamma=0.0, expectile=expectile, **settings)
    if preset == "quick":
        quick(config)
    return config
