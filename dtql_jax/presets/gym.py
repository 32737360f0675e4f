"""halfcheetah, hopper, walker2d: the paper's settings (batch 256, 10 episodes an evaluation)."""

import ml_collections

from dtql_jax.presets.algorithms import set_published
from dtql_jax.presets.base import base_config, check_preset, quick

# task -> (learning rate, alpha, cosine decay, epochs of 1000 updates); gamma 0, expectile 0.7
DTQL = {
    "halfcheetah-medium": (3e-4, 1.0, False, 1000),
    "halfcheetah-medium-replay": (3e-4, 5.0, False, 1000),
    "halfcheetah-medium-expert": (3e-4, 50.0, False, 1000),
    "hopper-medium": (1e-4, 5.0, True, 1000),
    "hopper-medium-replay": (3e-4, 5.0, False, 1000),
    "hopper-medium-expert": (3e-4, 20.0, False, 1000),
    "walker2d-medium": (3e-4, 5.0, True, 1000),
    "walker2d-medium-replay": (3e-4, 5.0, True, 1000),
    "walker2d-medium-expert": (3e-4, 5.0, True, 1000),
}


def get_config(task: str, preset: str, algorithm: str) -> ml_collections.ConfigDict:
    """The configuration of a locomotion task; presets: paper, quick."""
    check_preset(preset, ("paper", "quick"), task)
    config = base_config(task, preset, algorithm)
    # tasks that the paper does not have (simple, expert) take its commonest settings
    learning_rate, alpha, decay, epochs = DTQL.get(task, (3e-4, 5.0, False, 1000))
    config.train_steps = epochs * 1000
    settings = {"learning_rate": learning_rate, "alpha": alpha, "lr_decay": decay}
    set_published(config, "gym", task, gamma=0.0, expectile=0.7, **settings)
    if preset == "quick":
        quick(config)
    return config
