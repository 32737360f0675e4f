"""The algorithms in the maze with two ways: training, evaluation, numbers."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dtql_jax.datasets.transitions import transform_rewards
from dtql_jax.evaluation.rollout import evaluate
from dtql_jax.plots.mazes import positions_and_goals
from dtql_jax.training.progress import Progress
from experiments.two_modes import ring, training
from experiments.two_modes.ring import Collection, Numbers


def run(
    config: Mapping[str, Any],
    collection: Collection,
    name: str,
    seeds: list[int],
    display: Progress,
) -> dict[str, np.ndarray]:
    """Trains one algorithm on the collection and plays episodes with each of its P members.

    Returns:
      "successes" and "lengths" [P, E], and "paths", the positions of all episodes one after the
      other, [sum of (lengths + 1), 2].
    """
    data = collection.data
    rewards = transform_rewards(np.asarray(data.rewards), 1.0, config["reward_shift"])
    fitted = training.fit(
        config["algorithms"][name],
        data._replace(rewards=rewards),
        seeds,
        config["batch_size"],
        display,
    )
    spec = ring.environment(config["max_episode_steps"], config["noise"])
    episodes = config["eval_episodes"]
    display.start("evaluate", len(seeds) * episodes, unit="episodes")
    result = evaluate(
        fitted.policy(),
        spec,
        seeds=seeds,
        episodes=episodes,
        record=episodes,
        progress=display.advance,
    )
    assert result.successes is not None  # the environment's rewards tell them
    paths = [positions_and_goals(spec, t.observations)[0] for t in result.trajectories]
    return {
        "successes": result.successes,
        "lengths": result.lengths,
        "paths": np.concatenate(paths).astype(np.float32),
    }


def split(found: Mapping[str, np.ndarray]) -> list[list[np.ndarray]]:
    """Returns the paths of each member's episodes from the arrays of `run`."""
    ends = np.cumsum(found["lengths"].reshape(-1) + 1)[:-1]
    paths = np.split(found["paths"], ends)
    episodes = found["lengths"].shape[1]
    return [paths[i : i + episodes] for i in range(0, len(paths), episodes)]


def member_numbers(found: Mapping[str, np.ndarray]) -> list[Numbers]:
    """Returns the numbers of each member's episodes."""
    return [
        ring.numbers(paths, reached, lengths)
        for paths, reached, lengths in zip(
            split(found), found["successes"], found["lengths"], strict=True
        )
    ]
