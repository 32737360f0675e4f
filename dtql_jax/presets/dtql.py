"""DTQL's settings by task (Chen, Wang, Zhou 2024, arXiv 2405.19690, appendix)."""

from typing import Any, NamedTuple


class Settings(NamedTuple):
    """One task's settings."""

    learning_rate: float  # of the policy and the diffusion model; the critics' is 3e-4 everywhere
    alpha: float  # weight of the trust-region loss
    lr_decay: bool  # whether the learning rates follow a cosine
    epochs: int  # of 1000 updates
    gamma: float  # weight of the negative log-likelihood
    expectile: float  # of the value function


PAPER = {
    "halfcheetah-medium": Settings(3e-4, 1.0, False, 1000, 0.0, 0.7),
    "halfcheetah-medium-replay": Settings(3e-4, 5.0, False, 1000, 0.0, 0.7),
    "halfcheetah-medium-expert": Settings(3e-4, 50.0, False, 1000, 0.0, 0.7),
    "hopper-medium": Settings(1e-4, 5.0, True, 1000, 0.0, 0.7),
    "hopper-medium-replay": Settings(3e-4, 5.0, False, 1000, 0.0, 0.7),
    "hopper-medium-expert": Settings(3e-4, 20.0, False, 1000, 0.0, 0.7),
    "walker2d-medium": Settings(3e-4, 5.0, True, 1000, 0.0, 0.7),
    "walker2d-medium-replay": Settings(3e-4, 5.0, True, 1000, 0.0, 0.7),
    "walker2d-medium-expert": Settings(3e-4, 5.0, True, 1000, 0.0, 0.7),
    "antmaze-umaze": Settings(3e-4, 1.0, False, 500, 1.0, 0.9),
    "antmaze-umaze-diverse": Settings(3e-5, 1.0, True, 500, 1.0, 0.9),
    "antmaze-medium-play": Settings(3e-4, 1.0, False, 400, 1.0, 0.9),
    "antmaze-medium-diverse": Settings(3e-4, 1.0, False, 400, 1.0, 0.9),
    "antmaze-large-play": Settings(3e-4, 1.0, False, 350, 1.0, 0.9),
    "antmaze-large-diverse": Settings(3e-4, 0.5, False, 300, 1.0, 0.9),
    "pen-human": Settings(3e-5, 1500.0, True, 300, 0.0, 0.9),
    "pen-cloned": Settings(1e-5, 1500.0, False, 200, 0.0, 0.7),
    "kitchen-complete": Settings(1e-4, 200.0, True, 500, 0.0, 0.7),
    "kitchen-partial": Settings(1e-4, 100.0, True, 1000, 0.0, 0.7),
    "kitchen-mixed": Settings(3e-4, 200.0, True, 500, 0.0, 0.7),
}
_LOCOMOTION = Settings(3e-4, 5.0, False, 1000, 0.0, 0.7)  # the paper's commonest settings
_POINTMAZE = Settings(3e-4, 1.0, False, 50, 1.0, 0.9)

# DTQL's settings that another algorithm shares
_FIELDS = {
    "dtql": ("learning_rate", "alpha", "lr_decay", "gamma", "expectile"),
    "dql_kl": ("learning_rate", "alpha", "lr_decay", "expectile"),
    "iql": ("expectile",),
    "idql": ("expectile",),
}


def settings_of(task: str) -> Settings:
    """Returns the paper's settings of a task, or of the task nearest to it."""
    if task in PAPER:
        return PAPER[task]
    if task.startswith("pointmaze"):
        return _POINTMAZE
    if task.startswith(("halfcheetah", "hopper", "walker2d")):
        return _LOCOMOTION
    return PAPER["pen-human" if task.endswith("-human") else "pen-cloned"]  # Adroit's other hands


def apply(config: Any, task: str) -> None:
    """Sets the number of updates, and what the algorithm shares with DTQL, to the paper's."""
    settings = settings_of(task)
    config.train_steps = settings.epochs * 1000
    for field in _FIELDS.get(config.algorithm.name, ()):
        config.algorithm[field] = getattr(settings, field)
