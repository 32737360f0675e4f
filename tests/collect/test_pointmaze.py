"""The planner against shortest paths computed otherwise, and in the simulator."""

import numpy as np
import pytest

from dtql_jax.collect.mazes import free_cells, next_cells
from dtql_jax.collect.pointmaze import Planner
from dtql_jax.datasets.registry import get_task
from dtql_jax.envs.make import make_base_env

# a wall in the middle, a dead end, and one cell that nothing leads to
MAP = [
    [1, 1, 1, 1, 1, 1],
    [1, 0, "r", 0, 1, 1],
    [1, 0, 1, 0, 1, "g"],
    [1, 0, 0, 0, 1, 1],
    [1, 1, 1, 0, 1, 1],
]


def distances(maze_map):
    """All shortest distances between free cells, by Floyd and Warshall."""
    cells = free_cells(maze_map)
    table = np.full((len(cells), len(cells)), np.inf)
    for i, first in enumerate(cells):
        for j, second in enumerate(cells):
            steps = abs(first[0] - second[0]) + abs(first[1] - second[1])
            if steps <= 1:
                table[i, j] = steps
    for k in range(len(cells)):
        table = np.minimum(table, table[:, k : k + 1] + table[k : k + 1, :])
    return {(a, b): table[i, j] for i, a in enumerate(cells) for j, b in enumerate(cells)}


def test_free_cells_are_all_but_walls():
    assert len(free_cells(MAP)) == 10
    assert (1, 2) in free_cells(MAP) and (2, 5) in free_cells(MAP)
    assert (2, 2) not in free_cells(MAP)


def test_each_next_cell_is_one_step_nearer_to_the_goal():
    distance = distances(MAP)
    for goal in free_cells(MAP):
        table = next_cells(MAP, goal)
        reachable = {cell for cell in free_cells(MAP) if distance[cell, goal] < np.inf}
        assert set(table) == reachable
        assert table[goal] == goal
        for cell, following in table.items():
            if cell != goal:
                assert distance[cell, following] == 1
                assert distance[following, goal] == distance[cell, goal] - 1


@pytest.mark.parametrize("size", ["umaze", "medium", "large"])
def test_cells_lie_where_the_simulator_has_them_and_goals_are_reached(size):
    env = make_base_env(get_task(f"pointmaze-{size}").generated.env)
    maze = env.unwrapped.maze
    planner = Planner(maze.maze_map)
    for cell in free_cells(maze.maze_map):
        centre = planner.centre(cell)
        np.testing.assert_allclose(centre, maze.cell_rowcol_to_xy(np.array(cell)))
        for x, y in ((0.49, -0.49), (-0.49, 0.49)):
            assert planner.cell(centre[0] + x, centre[1] + y) == cell
    noise = np.random.default_rng(0)
    for seed in range(5):
        observation, _ = env.reset(seed=seed)
        ended = False
        while not ended:
            action = planner.action(observation["observation"], observation["desired_goal"], noise)
            assert env.action_space.contains(action)
            observation, reward, ended, truncated, _ = env.step(action)
            assert not truncated
        assert reward == 1
    env.close()


def test_noise_has_its_size_around_the_clipped_force():
    planner = Planner([[1, 1, 1], [1, 0, 1], [1, 1, 1]])
    position, goal = np.array([0.0, 0.0, 0.0, 0.1]), np.array([0.03, 0.01])
    # 10 * 0.03 - 0 and 10 * 0.01 - 0.1
    np.testing.assert_allclose(planner.force(position, goal), (0.3, 0.0), atol=1e-12)
    noise = np.random.default_rng(0)
    actions = np.stack([planner.action(position, goal, noise) for _ in range(4000)])
    assert np.abs(actions).max() == 1
    # clipping at +-1 is two standard deviations away in y
    assert abs(np.median(actions[:, 0]) - 0.3) < 0.03
    assert abs(actions[:, 1].std() - 0.48) < 0.03
