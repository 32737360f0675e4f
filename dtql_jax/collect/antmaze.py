"""The behaviour of AntMaze datasets: an ant walks from waypoint to waypoint to a goal.

This is D4RL's procedure, for D4RL's ant and for Gymnasium-Robotics' ant. A breadth-first search
over cells gives the next cell on the way to the episode's goal, a policy trained to walk in a
given direction walks there, Gaussian noise is added to its actions, and the episode is cut at the
goal or after 1000 steps. Rewards are those of the evaluation environment, whose goal usually
differs from the goal of the episode. An episode continues after it has passed the evaluation goal.

Differences from D4RL's scripts/generation and d4rl/locomotion/maze_env.py:
  - Waypoints are the centres of cells, and an ant far from the middle of its corridor first
    returns to it. (D4RL's waypoints are off by up to 1 m, because its cells are shifted by
    half a cell against its walls.) In umaze 91 instead of 78 of 100 episodes reach the evaluation
    goal; without this, ants get stuck at corners.
  - "diverse" goals are drawn from all free cells, as D4RL's paper says. (Its script draws them
    from the marked cells in all datasets.)
  - D4RL's evaluation goal is the mean of the goals that its environment draws, the centre of the
    goal cell + (0.75, 0.75). D4RL took one draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dtql_jax.collect.ant_frame import actions_from_view, view_one
from dtql_jax.collect.mazes import Cell, Paths
from dtql_jax.collect.policies import BehaviourPolicy
from dtql_jax.collect.recording import Behaviour

if TYPE_CHECKING:
    import gymnasium

ACTION_NOISE = 0.2
# length of the direction vector in the policy's input
DIRECTION_LENGTH = 10.0
# the ant's observation without x and y (27), and the direction (2)
POLICY_INPUTS, ACTIONS = 29, 8


class Waypoints(Paths):
    """Waypoints from any position in a maze to a goal."""

    def next(self, x: float, y: float, goal: tuple[float, float]) -> tuple[float, float]:
        """Returns the next waypoint (x, y) from a position to a goal in a free cell.

        It is the goal, in its own cell and the neighbouring cells; elsewhere the centre of the next
        cell. Where (x, y) is more than a quarter of a cell away from the middle of the corridor, it
        is the centre of its own cell.
        """
        goal_cell, cell = self.cell(*goal), self.cell(x, y)
        table = self.towards(goal_cell)
        if cell not in table:
            # the ant leans over a wall: return to the nearest cell
            return self.centre(min(table, key=lambda c: math.dist(self.centre(c), (x, y))))
        following = table[cell]
        centre = self.centre(cell)
        along_x = following[0] == cell[0]
        beside = abs(y - centre[1]) if along_x else abs(x - centre[0])
        if cell != goal_cell and beside > self._size / 4:
            return centre
        return goal if following == goal_cell else self.centre(following)


class D4rlAnt:
    """Resets and reads `envs.antmaze_d4rl`."""

    radius = 0.5

    def __init__(self, env: gymnasium.Env):
        unwrapped: Any = env.unwrapped
        maze = unwrapped.maze
        self.waypoints = Waypoints(maze.maze_map, maze.maze_size_scaling, maze.middle)
        self.goal_cell = _goal_cell(maze.maze_map)
        self._rows = len(maze.maze_map)
        self._evaluation_goal = np.add(self.waypoints.centre(self.goal_cell), 0.75)

    def cell(self, row: int, column: int) -> Cell:
        """Converts a cell of D4RL's maps, whose rows increase with y."""
        return self._rows - 1 - row, column

    def reset(self, env: Any, seed: int, start: Cell | None, draws: np.random.Generator) -> Any:
        """Starts at the usual cell, or up to 1 in x and y from the centre of a given cell."""
        options = {"goal": self._evaluation_goal}
        if start is not None:
            options["start"] = np.add(self.waypoints.centre(start), draws.uniform(0, 1, 2))
        return env.reset(seed=seed, options=options)[0]

    def goal(self, cell: Cell, observation: Any, draws: np.random.Generator) -> np.ndarray:
        """Draws a goal [2] to walk to."""
        offset = draws.uniform(0, 1, 2) + draws.uniform(0, 0.5, 2)
        return np.add(self.waypoints.centre(cell), offset)

    def split(self, observation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns (position [2], the ant's other numbers [27])."""
        return observation[:2], observation[2:]


class GymnasiumAnt:
    """Resets and reads Gymnasium-Robotics' AntMaze_*-v4; methods as of `D4rlAnt`."""

    radius = 0.45

    def __init__(self, env: gymnasium.Env):
        unwrapped: Any = env.unwrapped
        maze = unwrapped.maze
        self.waypoints = Waypoints(maze.maze_map, maze.maze_size_scaling)
        self.goal_cell = _goal_cell(maze.maze_map)
        self._noise = unwrapped.position_noise_range * maze.maze_size_scaling

    def cell(self, row: int, column: int) -> Cell:
        """Converts a cell of D4RL's maps; these maps are the same."""
        return row, column

    def reset(self, env: Any, seed: int, start: Cell | None, draws: np.random.Generator) -> Any:
        """Starts at the usual cell or in a given one; the environment adds its noise."""
        options = None if start is None else {"reset_cell": np.array(start)}
        return env.reset(seed=seed, options=options)[0]

    def goal(self, cell: Cell, observation: Any, draws: np.random.Generator) -> np.ndarray:
        """Draws a goal [2] to walk to; in the cell of the evaluation goal it is that goal."""
        if cell == self.goal_cell:
            return observation["desired_goal"]
        offset = draws.uniform(-self._noise, self._noise, 2)
        return np.add(self.waypoints.centre(cell), offset)

    def split(self, observation: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Returns (position [2], the ant's other numbers [27])."""
        return observation["achieved_goal"], observation["observation"]


class AntMazeBehaviour(Behaviour):
    """Walks to a new goal in each episode.

    The policy acts with its mean. If it sampled in addition to the noise, the ant would fall on its
    back two to three times as often.
    """

    description = f"breadth-first waypoints, goal-reaching policy, action noise {ACTION_NOISE}"
    part_episodes = 32
    ends_with_task = False

    def __init__(
        self,
        env: gymnasium.Env,
        policy: BehaviourPolicy,
        random_start: bool = False,
        goal_cells: Sequence[Sequence[int]] | str = "evaluation",
    ):
        """Prepares a maze.

        Args:
          env: an AntMaze, D4RL's or Gymnasium-Robotics'.
          policy: a policy with 29 inputs and 8 actions.
          random_start: whether each episode starts in a random free cell outside
            `goal_cells`, instead of the start of the evaluation.
          goal_cells: cells (row, column) of D4RL's maps to draw goals from, "evaluation" for
            the cell of the evaluation goal, or "any" for all free cells except the start.

        Raises:
          UserError: the policy has other sizes.
        """
        policy.check_sizes(POLICY_INPUTS, ACTIONS)
        gymnasium_robotics = env.spec is not None and env.spec.id.startswith("AntMaze")
        self._ant: Any = GymnasiumAnt(env) if gymnasium_robotics else D4rlAnt(env)
        self._policy = policy
        self._random_start = random_start
        free = self._ant.waypoints.free
        if goal_cells == "any":
            self._goals, self._starts = free, free
        else:
            if isinstance(goal_cells, str):
                self._goals = [self._ant.goal_cell]
            else:
                self._goals = [self._ant.cell(*cell) for cell in goal_cells]
            self._starts = [cell for cell in free if cell not in self._goals]
        self._goal = (0.0, 0.0)

    def begin(self, env: gymnasium.Env, seed: int, draws: np.random.Generator) -> Any:
        """Draws start and goal."""
        start = None
        goals = self._goals
        if self._random_start:
            start = self._starts[draws.integers(len(self._starts))]
            goals = [cell for cell in goals if cell != start]
        observation = self._ant.reset(env, seed, start, draws)
        cell = goals[draws.integers(len(goals))]
        self._goal = tuple(self._ant.goal(cell, observation, draws).tolist())
        return observation

    def action(self, observation: Any, draws: np.random.Generator) -> np.ndarray:
        """Returns the policy's mean action towards the next waypoint plus noise, float32 [8]."""
        position, ant = self._ant.split(observation)
        x, y = position.tolist()
        next_x, next_y = self._ant.waypoints.next(x, y, self._goal)
        scale = DIRECTION_LENGTH / max(math.hypot(next_x - x, next_y - y), 1e-6)
        direction = (scale * (next_x - x), scale * (next_y - y))
        if self._policy.frame == "direction":
            seen, quarter = view_one(ant, direction)
            action = self._policy.action(np.append(seen, (DIRECTION_LENGTH, 0.0)))
            action = actions_from_view(action, quarter)
        else:
            action = self._policy.action(np.concatenate([ant, direction]))
        noise = ACTION_NOISE * draws.standard_normal(ACTIONS, np.float32)
        return np.clip(action + noise, -1.0, 1.0).astype(np.float32)

    def arrived(self, observation: Any) -> bool:
        """Returns whether the ant has reached the goal of the episode."""
        return math.dist(self._ant.split(observation)[0].tolist(), self._goal) <= self._ant.radius


def _goal_cell(maze_map: Sequence[Sequence]) -> Cell:
    (cell,) = (
        (row, column)
        for row, line in enumerate(maze_map)
        for column, kind in enumerate(line)
        if kind == "g"
    )
    return cell
