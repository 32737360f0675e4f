"""Each algorithm's published settings of a task, put into a configuration.

DTQL's come from its own tables, one file a domain. The other algorithms take from them what they
share, and the rest from their papers.
"""

import ml_collections

from dtql_jax.presets.dql_tasks import DQL_TASKS

# DTQL and its KL form train critics and diffusion before the policy; the others have one phase
PRETRAINED = ("dtql", "dql_kl")
DTQL_FIELDS = {
    "dtql": ("learning_rate", "alpha", "gamma", "lr_decay", "expectile"),
    "dql_kl": ("learning_rate", "alpha", "lr_decay", "expectile"),
    "iql": ("expectile",),
    "idql": ("expectile",),
}
# IQL, arXiv 2110.06169, appendix B: weight of the advantages in the policy's loss
IQL_TEMPERATURE = {"antmaze": 10.0, "pointmaze": 10.0, "kitchen": 0.5, "adroit": 0.5}


def set_published(
    config: ml_collections.ConfigDict, domain: str, task: str, **dtql: float | bool
) -> None:
    """Sets the algorithm's settings, steps and rewards for a task.

    Args:
      config: a configuration with DTQL's steps and rewards already set.
      domain: of the task.
      task: its name.
      **dtql: DTQL's settings of the task, by field.
    """
    name = config.algorithm.name
    for field in DTQL_FIELDS.get(name, ()):
        if field in dtql:
            config.algorithm[field] = dtql[field]
    if name not in PRETRAINED:
        config.pretrain_steps = 0
    if name == "iql":
        config.train_steps = 1_000_000
        config.algorithm.temperature = IQL_TEMPERATURE.get(domain, 3.0)
    elif name == "idql":
        # two actor steps in each of 1.5M training steps, on the two halves of a batch
        config.train_steps, config.batch_size = 1_500_000, 512
    elif name == "dql" and task in DQL_TASKS:
        published = DQL_TASKS[task]
        for field in ("learning_rate", "eta", "max_q_backup", "grad_norm"):
            config.algorithm[field] = published[field]
        config.train_steps, config.batch_size = 1000 * published["epochs"], 256
        config.updates_per_call = 100
        config.reward_standardise = published["reward"] == "standardised"
        if not config.reward_standardise:
            config.reward_scale = published["reward_scale"]
            config.reward_shift = published["reward_shift"]
