"""Shortest paths through the cells of a maze."""

from __future__ import annotations

import collections
import math
from collections.abc import Sequence

Cell = tuple[int, int]  # (row, column)


class Paths:
    """Paths from any cell of a maze to any other.

    x increases with the column, y decreases with the row.

    Attributes:
      free: all cells that are no walls.
    """

    def __init__(
        self,
        maze_map: Sequence[Sequence],
        cell_size: float = 1.0,
        middle: tuple[float, float] = (0.0, 0.0),
    ):
        """Takes rows of cells (1 is a wall), their edge, and the position of the map's middle."""
        self.free = free_cells(maze_map)
        self._map = maze_map
        self._size = cell_size
        self._left = middle[0] - len(maze_map[0]) * cell_size / 2
        self._top = middle[1] + len(maze_map) * cell_size / 2
        self._tables: dict[Cell, dict[Cell, Cell]] = {}

    def cell(self, x: float, y: float) -> Cell:
        """Returns the cell that contains a position."""
        return math.floor((self._top - y) / self._size), math.floor((x - self._left) / self._size)

    def centre(self, cell: Cell) -> tuple[float, float]:
        """Returns the position (x, y) of a cell's centre."""
        row, column = cell
        return self._left + (column + 0.5) * self._size, self._top - (row + 0.5) * self._size

    def towards(self, goal: Cell) -> dict[Cell, Cell]:
        """Returns `next_cells` for a goal."""
        if goal not in self._tables:
            self._tables[goal] = next_cells(self._map, goal)
        return self._tables[goal]


def free_cells(maze_map: Sequence[Sequence]) -> list[Cell]:
    """Returns all cells that are not the number 1, a wall."""
    return [
        (row, column)
        for row, line in enumerate(maze_map)
        for column, cell in enumerate(line)
        if cell != 1
    ]


def next_cells(maze_map: Sequence[Sequence], goal: Cell) -> dict[Cell, Cell]:
    """Returns {cell: next cell on a shortest path to `goal`}, found by breadth-first search.

    It holds all cells from which the goal can be reached. The next cell of the goal is itself.
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
