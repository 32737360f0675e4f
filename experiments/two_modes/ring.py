"""A point maze with two ways of equal length, and data that takes each half the time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dtql_jax.collect.pointmaze import Planner
from dtql_jax.collect.recording import Behaviour, Episode, play
from dtql_jax.datasets import transitions
from dtql_jax.envs.spec import EnvSpec
from dtql_jax.errors import UserError
from dtql_jax.types import Transition
from experiments import study

if TYPE_CHECKING:
    import gymnasium

# a ring around a block; mirrored at its middle row, where start and goal are, so that both ways
# round are five cells long
MAP = [
    [1, 1, 1, 1, 1, 1],
    [1, 0, 0, 0, 0, 1],
    [1, "r", 1, 1, "g", 1],
    [1, 0, 0, 0, 0, 1],
    [1, 1, 1, 1, 1, 1],
]
WAYS = ("upper", "lower")
_ON_THE_WAY = {"upper": (1, 2), "lower": (3, 2)}  # (row, column) of a cell of that way alone


def environment(max_episode_steps: int, noise: float) -> EnvSpec:
    """Returns the maze as an environment; observations are the ball's position and velocity: [4].

    Args:
      max_episode_steps: the time limit.
      noise: largest offset of start and goal from their cells' centres, in metres.
    """
    return EnvSpec(
        "PointMaze_UMaze-v3",
        max_episode_steps,
        kwargs={"maze_map": MAP, "continuing_task": False},
        observation_keys=("observation",),
        attributes={"position_noise_range": noise},
        success="reward",
    )


class BothWays(Behaviour):
    """The package's planner on one of the two ways, drawn with equal odds for each episode.

    Attributes:
      way: index into WAYS of the episode that is played.
    """

    def __init__(self, env: gymnasium.Env):
        """Makes a planner for each way, on a map with the other way walled off."""
        cells: Any = env.unwrapped
        cells = cells.maze.maze_map
        self._planners = []
        for way in WAYS:
            (closed,) = (_ON_THE_WAY[other] for other in WAYS if other != way)
            own = [list(row) for row in cells]
            own[closed[0]][closed[1]] = 1
            self._planners.append(Planner(own))
        self.way = 0

    def begin(self, env: gymnasium.Env, seed: int, draws: np.random.Generator) -> Any:
        """Starts an episode and draws its way."""
        observation = super().begin(env, seed, draws)
        self.way = int(draws.integers(len(WAYS)))
        return observation

    def action(self, observation: Any, draws: np.random.Generator) -> np.ndarray:
        """Returns a force with noise: float32 [2]."""
        planner = self._planners[self.way]
        return planner.action(observation["observation"], observation["desired_goal"], draws)


class Numbers(NamedTuple):
    """Results of E episodes.

    Attributes:
      success: share that reached the goal.
      shares: share that went each of WAYS; the rest never came half way round.
      steps: mean steps of those that reached the goal; None without any.
    """

    success: float
    shares: tuple[float, ...]
    steps: float | None


class Collection(NamedTuple):
    """Transitions and the episodes that they come from.

    Attributes:
      data: transitions, one for each step; rewards are 1 at the goal.
      paths: [E] arrays [T + 1, 2], positions.
      numbers: of the episodes.
    """

    data: Transition
    paths: list[np.ndarray]
    numbers: Numbers


def collect(
    spec: EnvSpec,
    episodes: int,
    seed: int,
    say: Callable[[int], None] = lambda done: None,
) -> Collection:
    """Plays the planner's episodes in the simulator.

    Args:
      spec: of `environment`.
      episodes: E.
      seed: of the collection.
      say: receives the number of episodes played.

    Raises:
      UserError: the environment cannot be made, or what was recorded is not finite.
    """
    # late: the simulator takes a second
    from dtql_jax.envs.make import make_base_env

    env = make_base_env(spec)
    try:
        behaviour = BothWays(env)
        played: list[Episode] = []
        for number in range(episodes):
            played.append(play(env, behaviour, (seed, number)))
            say(number + 1)
    finally:
        env.close()
    parts = [_flat(episode) for episode in played]
    data = transitions.concatenate(
        [
            transitions.from_episode(seen, e.actions, e.rewards, e.terminations)
            for seen, e in zip(parts, played, strict=True)
        ]
    )
    transitions.validate(data, name="the ring", episodes=episodes, observation_dim=4, action_dim=2)
    paths = [seen[:, :2] for seen in parts]
    reached = np.array([bool(e.terminations[-1]) for e in played])
    lengths = np.array([len(e.rewards) for e in played])
    return Collection(data, paths, numbers(paths, reached, lengths))


def _flat(episode: Episode) -> np.ndarray:
    observations: Any = episode.observations
    return np.asarray(observations["observation"], np.float32)


def way_of(path: np.ndarray) -> int:
    """Returns the index in WAYS of a path [T + 1, 2] where it is first half way round, or -1.

    The map's middle is at (0, 0); start and goal lie left and right of it.
    """
    crossed = np.flatnonzero(path[:, 0] >= 0.0)
    if not len(crossed):
        return -1
    return WAYS.index("upper" if path[crossed[0], 1] > 0.0 else "lower")


def numbers(paths: Sequence[np.ndarray], reached: np.ndarray, lengths: np.ndarray) -> Numbers:
    """Returns the numbers of E episodes from their paths, successes [E] and steps [E]."""
    ways = np.array([way_of(path) for path in paths])
    return Numbers(
        success=float(np.mean(reached)),
        shares=tuple(float(np.mean(ways == i)) for i in range(len(WAYS))),
        steps=float(np.mean(lengths[reached])) if reached.any() else None,
    )


def check(config: Mapping[str, Any]) -> None:
    """Raises UserError if a number of the maze's configuration is out of range."""
    study.check_least(
        config, "maze.", episodes=2, max_episode_steps=1, eval_episodes=1, batch_size=1
    )
    # with more noise, start and goal may leave the middle third of their corridors
    if not 0.0 <= config["noise"] <= 0.25:
        raise UserError(f"maze.noise is {config['noise']}; expected metres in [0, 0.25]")
