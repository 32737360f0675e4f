"""The ring in the real simulator, shares by hand, the files, the whole command."""

import json
from pathlib import Path

import numpy as np
import pytest

from dtql_jax.errors import UserError
from dtql_jax.plots.mazes import Maze
from experiments import study
from experiments.bandits.problems import Bandit
from experiments.two_modes import __main__ as two_modes
from experiments.two_modes import corners, figures, maze, ring
from experiments.two_modes import settings as two_modes_config
from tests.experiments.commands import call


@pytest.fixture(scope="module")
def collection() -> ring.Collection:
    return ring.collect(ring.environment(250, 0.05), 40, seed=3)


def test_both_ways_are_mirror_images() -> None:
    assert ring.MAP[::-1] == ring.MAP
    walls = Maze(tuple(tuple(row) for row in ring.MAP), 1.0)
    (start,), (goal,) = walls.centres("r"), walls.centres("g")
    np.testing.assert_allclose([start, goal], [[-1.5, 0.0], [1.5, 0.0]])


def test_the_data_goes_both_ways(collection: ring.Collection) -> None:
    found = collection.numbers
    assert found.success == 1.0
    assert sum(found.shares) == 1.0
    assert abs(found.shares[0] - 0.5) < 0.32  # four binomial deviations of 40 episodes
    assert len(collection.data.rewards) == sum(len(path) - 1 for path in collection.paths)
    # an episode ends at the goal, and there alone is the reward 1 and the mask 0
    np.testing.assert_array_equal(collection.data.rewards, 1.0 - collection.data.masks)
    assert collection.data.rewards.sum() == 40
    for path in collection.paths:
        assert np.abs(path[0] - [-1.5, 0.0]).max() < 0.06
        assert np.linalg.norm(path[-1] - [1.5, 0.0]) < 0.45 + 0.08
        # whoever goes the upper way is never below, but around start and goal
        middle = path[np.abs(path[:, 0]) < 1.0, 1]
        assert (middle > 0.5).all() or (middle < -0.5).all()
    again = ring.collect(ring.environment(250, 0.05), 2, seed=3)
    np.testing.assert_array_equal(again.paths[1], collection.paths[1])


def test_ways_and_numbers_by_hand() -> None:
    upper = np.array([[-1.5, 0.0], [-1.0, 1.0], [0.1, 1.0], [0.2, -1.0]])
    lower = np.array([[-1.5, 0.0], [-1.5, 1.0], [0.0, -1.0]])
    stays = np.array([[-1.5, 0.0], [-1.5, 0.2]])
    assert [ring.way_of(path) for path in (upper, lower, stays)] == [0, 1, -1]
    reached = np.array([True, False, True, False])
    found = ring.numbers([upper, lower, upper, stays], reached, np.array([50, 250, 70, 250]))
    assert (found.success, found.shares, found.steps) == (0.5, (0.5, 0.25), 60.0)
    assert ring.numbers([stays], np.array([False]), np.array([250])).steps is None


def small_bandit() -> Bandit:
    return corners.make({"points": 2_000}, 0)


def test_corners_by_hand() -> None:
    bandit = small_bandit()
    right, left, middle, gap = [10.0, 10.0], [-10.2, -9.9], [0.0, 0.0], [7.5, 7.5]
    samples = np.array([[right, right, left, middle], [left, left, left, gap]])
    found = corners.numbers(samples, bandit)
    np.testing.assert_allclose(found.at, [[0.5, 0.25], [0.0, 0.75]])
    assert found.outside == pytest.approx(1 / 8)
    np.testing.assert_allclose(found.larger, [2 / 3, 1.0])
    nobody = corners.numbers(np.array([[middle]]), bandit)
    assert np.isnan(nobody.larger).all()
    # the middle is sqrt(200) from both corners
    assert nobody.reward == pytest.approx(1.0 - np.sqrt(200.0) / bandit.best)


def small_found(collection: ring.Collection) -> two_modes.Found:
    """Two seeds that each choose one corner and one way; the second fails once in three."""
    config = two_modes_config.get_config().to_dict()
    samples = np.stack([np.full((20, 2), 10.0), np.full((20, 2), -10.0)])
    upper = next(path for path in collection.paths if ring.way_of(path) == 0)
    lower = next(path for path in collection.paths if ring.way_of(path) == 1)
    paths = [upper] * 3 + [lower] * 3
    own = {
        "successes": np.array([[True, True, True], [True, True, False]]),
        "lengths": np.array([len(path) - 1 for path in paths]).reshape(2, 3),
        "paths": np.concatenate(paths),
    }
    found = {
        f"bandit/{name}": {"policy": samples, "acting": samples}
        for name in config["bandit"]["algorithms"]
    }
    return found | {f"maze/{name}": own for name in config["maze"]["algorithms"]}


def test_files_tables_and_picture(tmp_path: Path, collection: ring.Collection) -> None:
    config = two_modes_config.get_config().to_dict() | {"seeds": 2}
    found = small_found(collection)
    # each algorithm's cell depends on its own settings and the shared ones
    changed = two_modes_config.get_config()
    changed.seeds, changed.maze.algorithms.dql.settings.eta = 2, 2.0
    for name, same in (("dtql", True), ("dql", False)):
        own = [two_modes.cell_settings(c, "maze", name) for c in (config, changed.to_dict())]
        assert (own[0] == own[1]) == same
    bandit = small_bandit()
    rows = two_modes.bandit_rows(config, bandit, found)
    assert [(row["algorithm"], row["samples"]) for row in rows[:2]] == [
        ("DTQL", "policy"),
        ("DTQL", "acting"),
    ]
    # half of all samples at each corner, and every seed at one alone
    assert (rows[0]["upper_right"], rows[0]["lower_left"], rows[0]["favourite"]) == (0.5, 0.5, 1.0)
    data, *ways = two_modes.maze_rows(config, collection, found)
    assert data["steps"] == collection.numbers.steps
    assert ways[0]["success"] == pytest.approx(5 / 6)
    assert (ways[0]["upper"], ways[0]["lower"], ways[0]["favourite"]) == (0.5, 0.5, 1.0)
    assert ways[0]["upper_by_seed"] == [1.0, 0.0]
    reached = found["maze/dtql"]["successes"]
    assert ways[0]["steps"] == pytest.approx(found["maze/dtql"]["lengths"][reached].mean())
    assert len(study.table(two_modes.BANDIT_COLUMNS, rows).splitlines()) == 8
    assert len(study.table(two_modes.MAZE_COLUMNS, [data, *ways]).splitlines()) == 6
    assert len(maze.split(found["maze/dtql"])) == 2
    panels = {
        p: {n: two_modes.title(n) for n in two_modes.names(config, p)} for p in two_modes.PARTS
    }
    both = {"bandit": rows, "maze": [data, *ways]}
    figures.draw(bandit, collection, found, both, panels, tmp_path / "two_modes.png")
    assert (tmp_path / "two_modes.png").read_bytes().startswith(b"\x89PNG")


def test_wrong_settings_are_named() -> None:
    for field, value, said in (
        ("seeds", 0, "seeds is 0"),
        ("bandit.samples", 0, "bandit.samples is 0"),
        ("bandit.algorithms.dql.algorithm", "bc", "dql.algorithm is 'bc'"),
        ("maze.algorithms.idql.train_steps", 0, "maze.algorithms.idql.train_steps is 0"),
        ("maze.algorithms.dtql.settings.hidden_dim", 0, "dtql: hidden_dim is 0"),
        ("maze.noise", 0.5, "maze.noise is 0.5"),
        ("maze.episodes", 1, "maze.episodes is 1"),
    ):
        config = two_modes_config.get_config()
        two_modes.check(config.to_dict())
        *path, last = field.split(".")
        node = config
        for key in path:
            node = node[key]
        node[last] = value
        with pytest.raises(UserError, match=said):
            two_modes.check(config.to_dict())


@pytest.mark.slow
def test_the_whole_command(tmp_path: Path) -> None:
    arguments = [f"--out={tmp_path}", "--config.seeds=2"]
    small = {"points": 300, "samples": 10, "batch_size": 16}
    arguments += [f"--config.bandit.{name}={value}" for name, value in small.items()]
    small = {"episodes": 4, "eval_episodes": 2, "batch_size": 16}
    arguments += [f"--config.maze.{name}={value}" for name, value in small.items()]
    for part in ("bandit", "maze"):
        for name in ("dtql", "dql", "idql"):
            entry = f"--config.{part}.algorithms.{name}"
            arguments += [f"{entry}.train_steps=4", f"{entry}.settings.hidden_dim=8"]
            arguments += [f"{entry}.settings.num_candidates=4"]
    arguments.append("--config.maze.algorithms.dtql.pretrain_steps=2")
    ended = call("two_modes", *arguments)
    assert ended.returncode == 0, ended.stderr
    content = json.loads((tmp_path / "table.json").read_text())
    assert len(content["bandit"]) == 6
    assert len(content["maze"]) == 4
    for name in ("two_modes.png", "table.md", "run.json"):
        assert (tmp_path / name).stat().st_size > 0
    again = call("two_modes", *arguments)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("already") == 6
    assert json.loads((tmp_path / "table.json").read_text())["maze"] == content["maze"]
