"""Settings of online fine-tuning: arms, budget and evaluation."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """Returns the settings of `experiments.finetune`; others are the offline run's."""
    config = ml_collections.ConfigDict()
    # symmetric: half of each batch offline, half new; uniform: both as one dataset;
    # offline: no new data; scratch: fresh networks and new data only
    config.arms = "symmetric,uniform,offline,scratch"
    config.steps = 3_000  # updates of each arm
    config.env_steps_per_update = 1  # environment steps of each member for an update
    config.warmup_steps = 500  # environment steps of each member before the first update
    config.updates_per_call = 10  # updates, and so environment steps, with the same policy
    config.capacity = 0  # new transitions that are kept, the newest; 0: all of an arm's
    config.eval_every = 500  # updates
    config.eval_episodes = 20  # of each member, each time; the same starts for all arms
    return config
