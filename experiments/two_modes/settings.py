"""The bandit with two best corners and the maze with two equal ways of `experiments.two_modes`."""

from typing import Any

import ml_collections

NAMES = {"dtql": "DTQL", "dql": "DQL", "idql": "IDQL"}

# small networks, so that the study takes minutes on two cores
SHARED = {"hidden_dim": 64, "num_candidates": 64}  # candidates: drawn for the critics to choose
BANDIT = SHARED | {"learning_rate": 3e-3, "critic_learning_rate": 3e-3}  # the paper's
MAZE = SHARED | {"learning_rate": 1e-3, "critic_learning_rate": 1e-3}
SMALL_IDQL = {"num_blocks": 1, "lr_decay": False, "ema_rate": 0.01}


def get_config() -> ml_collections.ConfigDict:
    """Returns the settings of `experiments.two_modes`."""
    config = ml_collections.ConfigDict()
    config.seed = 0  # of the data and of each algorithm's first member; member i has seed + i
    config.seeds = 5  # members of each algorithm

    bandit = config.bandit = ml_collections.ConfigDict()
    bandit.points = 10_000  # actions in the data
    bandit.samples = 500  # of each member
    bandit.batch_size = 256  # actions in an update
    bandit.algorithms = ml_collections.ConfigDict()
    edm = {"expectile": 0.95, "time_dim": 4, "clip_denoised": False}
    bandit.algorithms.dtql = _entry(0, 3_500, BANDIT | edm)
    # at DQL's default 1 the slope of Q beyond the data drives all samples out of it
    bandit.algorithms.dql = _entry(0, 3_500, BANDIT | {"eta": 0.1})
    bandit.algorithms.idql = _entry(0, 3_500, BANDIT | SMALL_IDQL | {"expectile": 0.95})

    maze = config.maze = ml_collections.ConfigDict()
    maze.episodes = 200  # of the planner in the data, half of them each way
    maze.noise = 0.05  # metres around the start's and the goal's centre, each way
    maze.max_episode_steps = 250  # of the data and the evaluation
    maze.eval_episodes = 20  # of each member
    maze.reward_shift = -1.0  # rewards are trained as -1 a step and 0 at the goal
    maze.batch_size = 256  # transitions in an update
    maze.algorithms = ml_collections.ConfigDict()
    dtql = MAZE | {"expectile": 0.9, "alpha": 1.0, "gamma": 0.0}
    maze.algorithms.dtql = _entry(500, 2_500, dtql)
    maze.algorithms.dql = _entry(0, 3_000, MAZE | {"eta": 1.0})
    # values must spread over some 100 steps within these updates; after so few the best by Q of 64
    # candidates ("argmax") reaches no goal, a draw by the implicit policy's weights does
    idql = MAZE | SMALL_IDQL | {"expectile": 0.9, "tau": 0.05, "action_selection": "expectile"}
    maze.algorithms.idql = _entry(0, 3_000, idql)
    return config


def _entry(pretrain: int, train: int, settings: dict[str, Any]) -> ml_collections.ConfigDict:
    """Returns an algorithm's updates before its policy learns, those after, and its settings."""
    entry = {"pretrain_steps": pretrain, "train_steps": train, "settings": settings}
    return ml_collections.ConfigDict(entry)
