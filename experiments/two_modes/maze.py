"""A point maze with two ways of equal length: data that takes each half the time, and policies."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from dtql_jax.collect.pointmaze import Planner
from dtql_jax.collect.recording import Behaviour, play
from dtql_jax.commands.tables import plus_minus
from dtql_jax.datasets import transitions
from dtql_jax.envs.spec import EnvSpec
from dtql_jax.errors import UserError
from dtql_jax.evaluation.rollout import evaluate
from dtql_jax.training.progress import Progress
from dtql_jax.types import Transition
from experiments import study
from experiments.two_modes import training
from experiments.two_modes.settings import NAMES

# a ring around a block; mirrored at its middle row, where start and goal are, so that both ways
# round are five cells long
MAP = [
    [1, 1, 1, 1, 1, 1],
    [1, 0, 0, 0, 0, 1],
    [1, "r", 1, 1, "g", 1],
    [1, 0, 0, 0, 0, 1],
    [1, 1, 1, 1, 1, 1],
]
START, GOAL = (-1.5, 0.0), (1.5, 0.0)  # metres; the map's middle is at (0, 0)
_ROWS = {"upper": 1, "lower": 3}  # of MAP, where the two ways are


def _success(row: study.Row) -> str:
    error = row["standard_error"]
    return plus_minus(100 * row["success"], None if error is None else 100 * error)


COLUMNS: dict[str, study.Column] = {
    "maze": "algorithm",
    "updates": "updates:,",
    "success %": _success,
    "upper way %": "upper:.1%",
    "lower way %": "lower:.1%",
    "neither %": "neither:.1%",
    "a seed's favourite way %": "favourite:.1%",
    "upper way by seed %": study.by_seed("upper_by_seed"),
    "steps to goal": "steps:.0f",
}


def check(config: Mapping[str, Any]) -> None:
    """Raises UserError if a setting of the maze is out of range."""
    least = {"episodes": 2, "max_episode_steps": 1, "eval_episodes": 1, "batch_size": 1}
    study.check_least(config, "maze.", **least)
    # with more noise, start and goal may leave the middle third of their corridors
    if not 0.0 <= config["noise"] <= 0.25:
        raise UserError(f"maze.noise is {config['noise']}; expected metres in [0, 0.25]")


def environment(config: Mapping[str, Any]) -> EnvSpec:
    """Returns the maze as an environment; observations [4] are position and velocity."""
    return EnvSpec(
        "PointMaze_UMaze-v3",
        config["max_episode_steps"],
        kwargs={"maze_map": MAP, "continuing_task": False},
        observation_keys=("observation",),
        attributes={"position_noise_range": config["noise"]},
        success="reward",
    )


class BothWays(Behaviour):
    """The package's planner on one of the two ways, drawn with equal odds for each episode."""

    def __init__(self) -> None:
        """Makes a planner for each way, on a map with the other way walled off."""
        self._planners = []
        for other in ("lower", "upper"):
            cells = [list(row) for row in MAP]
            cells[_ROWS[other]][2] = 1
            self._planners.append(Planner(cells))
        self._way = 0

    def begin(self, env: Any, seed: int, draws: np.random.Generator) -> Any:
        """Starts an episode and draws its way."""
        observation = super().begin(env, seed, draws)
        self._way = int(draws.integers(2))
        return observation

    def action(self, observation: Any, draws: np.random.Generator) -> np.ndarray:
        """Returns a force with noise: float32 [2]."""
        planner = self._planners[self._way]
        return planner.action(observation["observation"], observation["desired_goal"], draws)


class Episodes(NamedTuple):
    """Results of E episodes of each of P members.

    Attributes:
      paths: [P][E] arrays of positions, [steps + 1, 2].
      successes: [P, E] bool, whether the goal was reached.
      lengths: [P, E] steps.
    """

    paths: list[list[np.ndarray]]
    successes: np.ndarray
    lengths: np.ndarray


class Collection(NamedTuple):
    """Transitions, with rewards 1 at the goal, and the planner's episodes (P = 1)."""

    data: Transition
    episodes: Episodes


def make(config: Mapping[str, Any], seed: int, display: Progress) -> Collection:
    """Plays the planner's episodes in the simulator."""
    # imported here, because the simulator takes a second
    from dtql_jax.envs.make import make_base_env

    display.start("collect", config["episodes"], unit="episodes")
    env = make_base_env(environment(config))
    behaviour, parts, paths = BothWays(), [], []
    for number in range(config["episodes"]):
        played = play(env, behaviour, (seed, number))
        seen: Any = played.observations
        seen = np.asarray(seen["observation"], np.float32)
        parts.append(
            transitions.from_episode(seen, played.actions, played.rewards, played.terminations)
        )
        paths.append(seen[:, :2])
        display.advance(number + 1)
    env.close()
    data = transitions.concatenate(parts)
    display.say(f"maze: {len(data.rewards):,} transitions collected")
    reached = np.array([[bool(part.masks[-1] == 0.0) for part in parts]])
    lengths = np.array([[len(part.rewards) for part in parts]])
    return Collection(data, Episodes([paths], reached, lengths))


def train(
    config: Mapping[str, Any],
    collection: Collection,
    name: str,
    seeds: list[int],
    display: Progress,
) -> study.Arrays:
    """Trains one algorithm on the collection and plays E episodes with each of its P members.

    Returns:
      "successes" and "lengths" [P, E], and "paths", the positions of all episodes one after the
      other, [sum of (lengths + 1), 2].
    """
    data = collection.data
    rewards = transitions.transform_rewards(np.asarray(data.rewards), 1.0, config["reward_shift"])
    trainer = training.fit(name, config, data._replace(rewards=rewards), seeds, display)
    episodes = config["eval_episodes"]
    display.start("evaluate", len(seeds) * episodes, unit="episodes")
    result = evaluate(
        trainer.policy(),
        environment(config),
        seeds=seeds,
        episodes=episodes,
        record=episodes,
        progress=display.advance,
    )
    paths = [trajectory.observations[:, :2] for trajectory in result.trajectories]
    return {
        "successes": np.asarray(result.successes),
        "lengths": result.lengths,
        "paths": np.concatenate(paths).astype(np.float32),
    }


def episodes_of(found: study.Arrays) -> Episodes:
    """Returns the episodes in the arrays of `train`."""
    lengths = found["lengths"]
    paths = np.split(found["paths"], np.cumsum(lengths.reshape(-1) + 1)[:-1])
    number = lengths.shape[1]
    by_member = [paths[i : i + number] for i in range(0, len(paths), number)]
    return Episodes(by_member, found["successes"].astype(bool), lengths)


def rows(
    config: Mapping[str, Any], collection: Collection, found: Mapping[str, study.Arrays]
) -> list[dict[str, Any]]:
    """Returns one row for the data and one for each algorithm."""
    unknown = dict.fromkeys(("standard_error", "favourite", "upper_by_seed"))
    data = {"algorithm": "data (planner)", "updates": 0} | numbers(collection.episodes) | unknown
    return [data] + [
        {"algorithm": NAMES[name], "updates": training.updates(config, name)}
        | numbers(episodes_of(arrays))
        for name, arrays in found.items()
    ]


def numbers(episodes: Episodes) -> dict[str, Any]:
    """Returns success, ways and steps to the goal; "favourite" is a member's more frequent way."""
    ways = np.array([[way_of(path) for path in own] for own in episodes.paths])
    by_seed = np.stack([np.mean(ways == way, axis=1) for way in _ROWS], axis=1)  # [P, 2]
    went = by_seed[by_seed.sum(axis=1) > 0]
    reached = episodes.successes
    error = np.std(reached, ddof=1) / np.sqrt(reached.size) if reached.size > 1 else None
    return {
        "success": float(reached.mean()),
        "standard_error": None if error is None else float(error),
        "upper": float(by_seed[:, 0].mean()),
        "lower": float(by_seed[:, 1].mean()),
        "neither": float(1.0 - by_seed.sum(axis=1).mean()),
        "favourite": float(np.mean(went.max(axis=1) / went.sum(axis=1))) if len(went) else None,
        "upper_by_seed": by_seed[:, 0].tolist(),
        "steps": float(episodes.lengths[reached].mean()) if reached.any() else None,
    }


def way_of(path: np.ndarray) -> str:
    """Returns the way of a path [T + 1, 2] where it is first half way round; "" if it never is."""
    crossed = path[path[:, 0] >= 0.0]
    if not len(crossed):
        return ""
    return "upper" if crossed[0, 1] > 0.0 else "lower"
