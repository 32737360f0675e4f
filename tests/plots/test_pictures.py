"""Pictures: files of the right size with something on them, and the numbers they show."""

import numpy as np
import pytest
from PIL import Image

from dtql_jax.envs.make import make_base_env, make_env
from dtql_jax.envs.spec import EnvSpec
from dtql_jax.errors import UserError
from dtql_jax.plots import pictures
from dtql_jax.plots.mazes import Maze, positions_and_goals, read_maze

MAZE = Maze(((1, 1, 1, 1), (1, "r", "g", 1), (1, 0, 1, 1), (1, 1, 1, 1)), 2.0)
NAMES = {"task": "hopper-medium", "source": "minari", "dataset": "mujoco/hopper/medium-v0"}


def evaluations(seeds, updates=6):
    """Rows as a CSV file gives them: text."""
    return [
        {"update": str(1000 * k), "seed": str(seed), "score": f"{10.0 * k + seed}"}
        for k in range(1, updates)
        for seed in seeds
    ]


def metrics(seeds=(0, 1)):
    rows = []
    for update in range(0, 1000, 50):
        phase = "pretrain" if update < 300 else "train"
        for seed in seeds:
            row = {"update": update, "phase": phase, "step": update, "seed": seed}
            row |= {"critic_loss": 10.0 ** (-update / 200), "bc_loss": -seed - update}
            rows.append(row | {"policy_loss": "" if phase == "pretrain" else str(update)})
    return rows


def assert_picture(path, width, height):
    with Image.open(path) as image:
        assert image.format == "PNG" and image.size == (width, height)
        colours = image.convert("RGB").getcolors(maxcolors=1 << 24)
    assert len(colours) > 50 and max(count for count, _ in colours) < 0.95 * width * height


@pytest.fixture
def kept(monkeypatch):
    """Figures that would be saved, to look at their contents."""
    figures = []
    monkeypatch.setattr(pictures, "_save", lambda figure, path: figures.append(figure))
    return figures


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_learning_curve_is_a_picture(tmp_path, seeds):
    path = tmp_path / "curve.png"
    pictures.learning_curve(evaluations(seeds), path, score_name="success rate", **NAMES)
    assert_picture(path, 1024, 640)


def test_learning_curve_shows_mean_and_error_over_seeds(kept):
    pictures.learning_curve(evaluations((0, 1, 5)), "", score_name="normalised score", **NAMES)
    (axes,) = kept[0].axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    x, y = lines["mean of 3 seeds"].get_data()
    np.testing.assert_allclose(x, [1000, 2000, 3000, 4000, 5000])
    np.testing.assert_allclose(y, 10.0 * np.arange(1, 6) + 2)
    error = np.std([0, 1, 5], ddof=1) / np.sqrt(3)
    band = axes.collections[0].get_datalim(axes.transData)
    np.testing.assert_allclose([band.y0, band.y1], [12 - error, 52 + error])
    texts = [text.get_text() for text in axes.texts]
    assert f"52.0 ± {error:.1f}" in texts
    assert "minari data: mujoco/hopper/medium-v0" in texts
    assert axes.get_title(loc="left") == "hopper-medium"
    assert axes.get_ylabel() == "normalised score"


def test_training_curves_draw_every_metric_where_it_was_computed(tmp_path, kept):
    pictures.training_curves(metrics(), "")
    panels = {axes.get_title(loc="left"): axes for axes in kept[0].axes}
    assert list(panels) == ["critic loss", "bc loss", "policy loss"]
    assert panels["critic loss"].get_yscale() == "log"
    assert panels["bc loss"].get_yscale() == "linear"
    x, y = panels["policy loss"].get_lines()[-1].get_data()
    assert x.min() == 300
    np.testing.assert_allclose(y, x)
    x, y = panels["bc loss"].get_lines()[-1].get_data()
    np.testing.assert_allclose(y, -0.5 - x)


def test_training_curves_are_a_picture(tmp_path):
    path = tmp_path / "metrics.png"
    pictures.training_curves(metrics(), path, title="hopper-medium")
    assert_picture(path, round((3.3 * 3 + 0.2) * 160), round((2.3 + 0.5) * 160))


@pytest.mark.parametrize("successes", [[True, False], [True, True], None])
@pytest.mark.parametrize("goals", [None, [[1.0, 1.0], [0.5, 1.2]]])
def test_maze_trajectories_are_a_picture(tmp_path, successes, goals):
    path = tmp_path / "maze.png"
    paths = [np.array([[-1.0, 1.0], [0.0, 1.1], [0.9, 1.0]]), np.array([[-1.0, 1.0], [-1, -1]])]
    pictures.maze_trajectories(MAZE, paths, path, goals=goals, successes=successes, title="maze")
    width = 6.5 + 0.2 + (0.95 if successes is None else 0)
    assert_picture(path, round(width * 160), round((6.5 + 1.2) * 160))


def test_maze_trajectories_tell_successes_apart(kept):
    paths = [np.full((3, 2), number) for number in range(4)]
    pictures.maze_trajectories(MAZE, paths, "", successes=[True, False, True, True])
    (axes,) = kept[0].axes
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    assert words == ["reached the goal (3)", "did not (1)", "start", "goal"]
    failed = [line for line in axes.get_lines() if line.get_color() == pictures.VERMILION]
    assert all((line.get_xdata() == 1).all() for line in failed) and len(failed) == 2


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: pictures.learning_curve([], "", **NAMES), "there are no rows"),
        (lambda: pictures.learning_curve([{"update": 1, "scor": 1}], "", **NAMES), "mean scor"),
        (lambda: pictures.learning_curve(evaluations([0]), "", x="updat", **NAMES), "mean update"),
        (lambda: pictures.training_curves([], ""), "no metrics"),
        (lambda: pictures.training_curves(metrics(), "", metrics=["bc_los"]), "bc_loss"),
        (lambda: pictures.maze_trajectories(MAZE, [], ""), "one or more"),
        (lambda: pictures.maze_trajectories(MAZE, [np.ones((4, 3))], ""), r"\(4, 3\)"),
        (
            lambda: pictures.maze_trajectories(MAZE, [np.ones((4, 2))], "", successes=[1, 0]),
            "2 successes for 1 traj",
        ),
    ],
)
def test_what_cannot_be_drawn_is_named(draw, words):
    with pytest.raises(UserError, match=words):
        draw()


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
    with pytest.raises(UserError, match="is no maze"):
        read_maze(EnvSpec("MountainCarContinuous-v0", 10))
