"""The six AntMazes: the paper's settings (batch 2048, 100 episodes an evaluation, rewards - 1)."""

import ml_collections

from dtql_jax.presets.algorithms import set_published
from dtql_jax.presets.base import base_config, check_preset, quick

# task -> (learning rate, alpha, cosine decay, epochs of 1000 updates); gamma 1, expectile 0.9
DTQL = {
    "antmaze-umaze": (3e-4, 1.0, False, 500),
    "antmaze-umaze-diverse": (3e-5, 1.0, True, 500),
    "antmaze-medium-play": (3e-4, 1.0, False, 400),
    "antmaze-medium-diverse": (3e-4, 1.0, False, 400),
    "antmaze-large-play": (3e-4, 1.0, False, 350),
    "antmaze-large-diverse": (3e-4, 0.5, False, 300),
}


def get_config(task: str, preset: str, algorithm: str) -> ml_collections.ConfigDict:
    """The configuration of an AntMaze; presets: paper, quick."""
    check_preset(preset, ("paper", "quick"), task)
    config = base_config(task, preset, algorithm)
    learning_rate, alpha, decay, epochs = DTQL[task]
    config.batch_size = 2048
    config.updates_per_call = 20
    config.train_steps = epochs * 1000
    config.eval_episodes = 100
    config.reward_shift = -1.0
    config.record_episodes = 20
    settings = {"learning_rate": learning_rate, "alpha": alpha, "lr_decay": decay}
    set_published(config, "antmaze", task, gamma=1.0, expectile=0.9, **settings)
    if preset == "quick":
        quick(config)
    return config
