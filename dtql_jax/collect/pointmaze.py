"""The behaviour of PointMaze datasets: a planner with noisy actions.

For each goal cell, a breadth-first search gives the next cell from every cell. A
proportional-derivative controller drives the ball towards the centre of that cell and, at the same
time, towards the middle of its corridor; in the goal's cell it drives it to the goal. Gaussian
noise on the actions gives the data its spread.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Sequence

import numpy as np

Cell = tuple[int, int]

POSITION_GAIN = 10.0
VELOCITY_GAIN = -1.0
ACTION_NOISE = 0.5


def free_cells(maze_map: Sequence[Sequence]) -> list[Cell]:
    """Returns the (row, column) of all free cells; a wall is the number 1."""
    return [
        (row, column)
        for row, line in enumerate(maze_map)
        for column, cell in enumerate(line)
        if cell != 1
    ]


def next_cells(maze_map: Sequence[Sequence], goal: Cell) -> dict[Cell, Cell]:
    """Returns for each cell the next cell on a shortest path to `goal`.

    Args:
      maze_map: rows of cells, 1 for a wall.
      goal: (row, column) of a free cell.

    Returns:
      {cell: next cell} for all cells from which the goal can be reached; the next cell of the
      goal is itself.
    """
    free = set(free_cells(maze_map))
    towards = {goal: goal}
    frontier = collections.deque([goal])
    while frontier:
        row, column = cell = frontier.popleft()
        for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            neighbour = (row + down, column + right)
            if neighbour in free and neighbour not in towards:
                towards[neighbour] = cell
                frontier.append(neighbour)
    return towards


class Planner:
    """Drives the ball of a PointMaze to its goal.

    Positions are in metres, cells have an edge of one metre, and the centre of the map is (0, 0).
    x increases with the column, y decreases with the row.
    """

    def __init__(self, maze_map: Sequence[Sequence]):
        """Computes the paths to all goals of a map (rows of cells, 1 for a wall)."""
        self._rows, self._columns = len(maze_map), len(maze_map[0])
        self._tables = {goal: next_cells(maze_map, goal) for goal in free_cells(maze_map)}

    def cell(self, x: float, y: float) -> Cell:
        """Returns the (row, column) of the cell that contains a position."""
        return math.floor(self._rows / 2 - y), math.floor(x + self._columns / 2)

    def centre(self, cell: Cell) -> tuple[float, float]:
        """Returns the position (x, y) of a cell's centre."""
        return cell[1] + 0.5 - self._columns / 2, self._rows / 2 - cell[0] - 0.5

    def force(self, observation: np.ndarray, goal: np.ndarray) -> tuple[float, float]:
        """Returns the force (x, y) towards the goal, before noise and clipping.

        Args:
          observation: [4], position and velocity of the ball.
          goal: [2], position.
        """
        # plain numbers, because numpy calls would take longer than the simulator's step
        x, y, velocity_x, velocity_y = observation.tolist()
        target_x, target_y = self._target(x, y, *goal.tolist())
        return (
            POSITION_GAIN * (target_x - x) + VELOCITY_GAIN * velocity_x,
            POSITION_GAIN * (target_y - y) + VELOCITY_GAIN * velocity_y,
        )

    def action(
        self, observation: np.ndarray, goal: np.ndarray, noise: np.random.Generator
    ) -> np.ndarray:
        """Returns the force, clipped to [-1, 1], noise added, clipped again: float32 [2].

        Args:
          observation: [4], position and velocity of the ball.
          goal: [2], position.
          noise: draws one normal number for each entry.
        """
        noisy = [
            _clip(_clip(force) + ACTION_NOISE * noise.standard_normal())
            for force in self.force(observation, goal)
        ]
        return np.array(noisy, np.float32)

    def _target(self, x: float, y: float, goal_x: float, goal_y: float) -> tuple[float, float]:
        cell, goal_cell = self.cell(x, y), self.cell(goal_x, goal_y)
        following = self._tables[goal_cell][cell]
        if following == cell:
            return goal_x, goal_y
        # across the corridor, the centre of the next cell is the middle of the corridor
        return self.centre(following)


def _clip(value: float) -> float:
    return min(max(value, -1.0), 1.0)
