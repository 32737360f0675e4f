"""The fields that every run has, whatever its task and algorithm, with their defaults."""

import ml_collections

from dtql_jax.algorithms import default_settings


def base_config(task: str, preset: str, algorithm: str) -> ml_collections.ConfigDict:
    """Returns a whole configuration with the library's defaults."""
    config = run_config(task, preset)
    config.algorithm = ml_collections.ConfigDict(default_settings(algorithm))
    config.algorithm.name = algorithm
    if "decay_steps" in config.algorithm:
        config.algorithm.decay_steps = 0  # training updates of the cosine; 0: train_steps
    return config


def run_config(task: str = "", preset: str = "") -> ml_collections.ConfigDict:
    """Returns the defaults of every field outside `config.algorithm`."""
    config = ml_collections.ConfigDict()

    config.task = task  # name in the registry: `dtql-jax train --help` lists them
    config.preset = preset  # where the defaults come from: quick, paper or full
    config.source = "auto"  # of the data: auto, minari, d4rl or generated
    config.d4rl_dir = ""  # folder of D4RL's HDF5 files; "": $D4RL_DATASET_DIR, ~/.d4rl/datasets
    config.data_transitions = 0  # how many to collect where data is generated; 0: the default
    config.data_seed = 0  # of collected data
    config.behaviour_policy = ""  # FILE.npz that collects it; "": the task's own, where it has one

    config.seed = 0  # of the first member; member i has seed + i
    config.seeds = 1  # members trained at once, as one program

    config.batch_size = 256  # transitions
    config.pretrain_steps = 50_000  # updates of critics and diffusion before the policy learns
    config.train_steps = 1_000_000  # updates
    config.updates_per_call = 100  # updates in one compiled scan; Ctrl-C waits for its end
    config.log_every = 1_000  # updates; metrics are means over them
    config.eval_every = 50_000  # training updates between two evaluations
    config.eval_episodes = 10  # a member, each time
    config.final_eval_episodes = 0  # a member, of the last checkpoint; 0: eval_episodes
    config.eval_envs = 0  # environments at once a member, 0: chosen; no score depends on it
    config.eval_workers = -1  # processes that step them; 0: none, -1: chosen by their cost
    config.eval_overlap = "auto"  # evaluate during training: on, off; auto: not on CPUs
    config.checkpoint_every = 50_000  # updates
    config.wandb = False  # send the events to Weights & Biases too (the extra wandb)
    config.record_episodes = 0  # of the last evaluation, a member, drawn as a figure (mazes)
    config.reward_standardise = False  # rewards first to mean 0, deviation 1 over the dataset
    config.reward_scale = 1.0  # rewards are trained as reward * scale + shift
    config.reward_shift = 0.0  # -1 in the AntMazes, as in the paper
    return config
