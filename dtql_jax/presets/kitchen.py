"""Franka kitchen: the paper's settings (batch 256, 100 episodes an evaluation)."""

import ml_collections

from dtql_jax.presets.algorithms import set_published
from dtql_jax.presets.base import base_config, check_preset, quick

# task -> (learning rate, alpha, epochs of 1000 updates); gamma 0, expectile 0.7, cosine decay
DTQL = {
    "kitchen-complete": (1e-4, 200.0, 500),
    "kitchen-partial": (1e-4, 100.0, 1000),
    "kitchen-mixed": (3e-4, 200.0, 500),
}


def get_config(task: str, preset: str, algorithm: str) -> ml_collections.ConfigDict:
    """The configuration of a kitchen task; presets: paper, quick."""
    check_preset(preset, ("paper", "quick"), task)
    config = base_config(task, preset, algorithm)
    learning_rate, alpha, epochs = DTQL[task]
    config.train_steps = epochs * 1000
    config.eval_episodes = 100
    settings = {"learning_rate": learning_rate, "alpha": alpha, "lr_decay": True}
    set_published(config, "kitchen", task, gamma=0.0, expectile=0.7, **settings)
    if preset == "quick":
        quick(config)
    return config
