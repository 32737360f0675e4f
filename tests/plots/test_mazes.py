"""Mazes: figures of paths, and positions read from observations."""

import numpy as np
import pytest

from dtql_jax.envs.make import make_base_env, make_env
from dtql_jax.envs.spec import EnvSpec
from dtql_jax.errors import UserError
from dtql_jax.plots import mazes, style
from dtql_jax.plots.mazes import Maze, positions_and_goals, read_maze

MAZE = Maze(((1, 1, 1, 1), (1, "r", "g", 1), (1, 0, 1, 1), (1, 1, 1, 1)), 2.0)


@pytest.mark.parametrize("successes", [[True, False], [True, True]])
@pytest.mark.parametrize("goals", [None, [[1.0, 1.0], [0.5, 1.2]]])
def test_trajectories_are_a_png(tmp_path, assert_png, successes, goals):
    path = tmp_path / "maze.png"
    paths = [np.array([[-1.0, 1.0], [0.0, 1.1], [0.9, 1.0]]), np.array([[-1.0, 1.0], [-1, -1]])]
    mazes.trajectories(MAZE, paths, path, goals=goals, successes=successes, title="maze")
    assert_png(path, round((6.5 + 0.7) * 160), 8 * 160)


def test_trajectories_tell_successes_apart(kept):
    paths = [np.full((3, 2), number) for number in range(4)]
    mazes.trajectories(MAZE, paths, "", successes=[True, False, True, True])
    (axes,) = kept[0].axes
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    assert words == ["reached the goal (3)", "did not (1)", "start", "goal"]
    failed = [line for line in axes.get_lines() if line.get_color() == style.VERMILION]
    assert all((line.get_xdata() == 1).all() for line in failed) and len(failed) == 2


@pytest.mark.parametrize(
    ("env_id", "keys"),
    [
        ("PointMaze_Medium-v3", ("observation", "desired_goal")),
        ("PointMaze_Medium-v3", ("observation",)),
        ("AntMaze_UMaze-v4", ("achieved_goal", "observation")),
        ("AntMaze_UMaze-v4", ("desired_goal", "observation", "achieved_goal")),
    ],
)
def test_positions_goals_and_cells_are_the_simulators_own(env_id, keys):
    spec = EnvSpec(env_id, 10, observation_keys=keys)
    flat, whole = make_env(spec), make_base_env(spec)
    observations = np.stack([flat.reset(seed=seed)[0] for seed in range(3)])
    parts = [whole.reset(seed=seed)[0] for seed in range(3)]
    positions, goals = positions_and_goals(spec, observations)
    expected = np.stack([part["achieved_goal"] for part in parts])
    np.testing.assert_allclose(positions, expected, atol=1e-6)
    if "desired_goal" in keys:
        expected = np.stack([part["desired_goal"] for part in parts])
        np.testing.assert_allclose(goals, expected, atol=1e-6)
    else:
        assert goals is None
    maze, simulators = read_maze(spec), whole.unwrapped.maze
    walls = [
        simulators.cell_rowcol_to_xy(np.array([row, column]))
        for row, cells in enumerate(simulators.maze_map)
        for column, kind in enumerate(cells)
        if kind == 1
    ]
    np.testing.assert_allclose(maze.centres(1), walls)
    flat.close()
    whole.close()


def test_observations_without_a_position_are_refused():
    ant = EnvSpec("AntMaze_UMaze-v4", 10, observation_keys=("observation", "desired_goal"))
    with pytest.raises(UserError, match="achieved_goal"):
        positions_and_goals(ant, np.zeros((3, 29)))
    with pytest.raises(UserError, match="is not a maze"):
        read_maze(EnvSpec("MountainCarContinuous-v0", 10))
