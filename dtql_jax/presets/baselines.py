"""The baselines' published settings by task, where they differ from DTQL's."""

from typing import Any, NamedTuple


class DQLSettings(NamedTuple):
    """DQL's settings of a task (Wang, Hunt, Zhou 2023, arXiv 2208.06193, appendix).

    Batch 256, 5 diffusion steps, discount 0.99 and tau 0.005 are the same everywhere.
    """

    learning_rate: float  # of the actor; the critics' is 3e-4 everywhere
    eta: float  # weight of the Q loss
    max_q_backup: bool  # whether targets take the best of 10 next actions
    reward: str  # "none", "4(r - 0.5)", or "standardised" with the dataset's mean and deviation
    epochs: int  # of 1000 updates
    grad_norm: float  # largest gradient norm of actor and critics


_SHIFTED = "4(r - 0.5)"
DQL = {
    "halfcheetah-medium": DQLSettings(3e-4, 1.0, False, "none", 2000, 9.0),
    "halfcheetah-medium-replay": DQLSettings(3e-4, 1.0, False, "none", 2000, 2.0),
    "halfcheetah-medium-expert": DQLSettings(3e-4, 1.0, False, "none", 2000, 7.0),
    "hopper-medium": DQLSettings(3e-4, 1.0, False, "none", 2000, 9.0),
    "hopper-medium-replay": DQLSettings(3e-4, 1.0, False, "none", 2000, 4.0),
    "hopper-medium-expert": DQLSettings(3e-4, 1.0, False, "none", 2000, 5.0),
    "walker2d-medium": DQLSettings(3e-4, 1.0, False, "none", 2000, 1.0),
    "walker2d-medium-replay": DQLSettings(3e-4, 1.0, False, "none", 2000, 4.0),
    "walker2d-medium-expert": DQLSettings(3e-4, 1.0, False, "none", 2000, 5.0),
    "antmaze-umaze": DQLSettings(3e-4, 0.5, False, _SHIFTED, 1000, 2.0),
    "antmaze-umaze-diverse": DQLSettings(3e-4, 2.0, True, _SHIFTED, 1000, 3.0),
    "antmaze-medium-play": DQLSettings(1e-3, 2.0, True, _SHIFTED, 1000, 2.0),
    "antmaze-medium-diverse": DQLSettings(3e-4, 3.0, True, _SHIFTED, 1000, 1.0),
    "antmaze-large-play": DQLSettings(3e-4, 4.5, True, _SHIFTED, 1000, 10.0),
    "antmaze-large-diverse": DQLSettings(3e-4, 3.5, True, _SHIFTED, 1000, 7.0),
    "pen-human": DQLSettings(3e-5, 0.15, False, "standardised", 1000, 7.0),
    "pen-cloned": DQLSettings(3e-5, 0.1, False, "standardised", 1000, 8.0),
    "kitchen-complete": DQLSettings(3e-4, 0.005, False, "none", 250, 9.0),
    "kitchen-partial": DQLSettings(3e-4, 0.005, False, "none", 1000, 10.0),
    "kitchen-mixed": DQLSettings(3e-4, 0.005, False, "none", 1000, 10.0),
}
# (scale, shift): rewards are trained as reward * scale + shift
REWARDS = {"none": (1.0, 0.0), _SHIFTED: (4.0, -2.0)}

# weight of the advantages in IQL's policy loss (arXiv 2110.06169, appendix B); locomotion: 3
IQL_TEMPERATURE = {"antmaze": 10.0, "pointmaze": 10.0, "kitchen": 0.5, "adroit": 0.5}

# weight of FQL's distillation loss by the beginning of a task's name (arXiv 2502.02538, appendix);
# elsewhere 10. The paper has no Gym, Kitchen or point maze.
FQL_ALPHA = {
    "antmaze-large": 3.0,
    "pen-expert": 3_000.0,
    "pen": 10_000.0,
    "hammer-cloned": 10_000.0,
    "relocate-human": 10_000.0,
    "door": 30_000.0,
    "hammer": 30_000.0,
    "relocate": 30_000.0,
}


def apply(config: Any, task: str, domain: str) -> None:
    """Sets a baseline's published settings of a task."""
    name = config.algorithm.name
    if name in ("iql", "bc"):
        config.batch_size, config.updates_per_call = 256, 100
    if name == "iql":
        config.train_steps = 1_000_000
        config.algorithm.temperature = IQL_TEMPERATURE.get(domain, 3.0)
    elif name == "idql":
        config.train_steps, config.batch_size = 3_000_000, 512
    elif name == "fql":
        config.train_steps, config.batch_size, config.updates_per_call = 500_000, 256, 100
        if domain == "adroit":
            config.algorithm.q_aggregation = "min"
        config.algorithm.alpha = next((a for t, a in FQL_ALPHA.items() if task.startswith(t)), 10.0)
    elif name == "dql" and task in DQL:
        settings = DQL[task]
        for field in ("learning_rate", "eta", "max_q_backup", "grad_norm"):
            config.algorithm[field] = getattr(settings, field)
        config.train_steps, config.batch_size = 1000 * settings.epochs, 256
        config.updates_per_call = 100
        config.reward_standardise = settings.reward == "standardised"
        if not config.reward_standardise:
            config.reward_scale, config.reward_shift = REWARDS[settings.reward]
    elif name == "dql_kl" and domain == "pointmaze":
        # rewards of -1 a step make Q tens; below about 50 it drives the policy out of the data
        config.algorithm.alpha = 100.0
