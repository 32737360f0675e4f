"""The ring in the real simulator, shares by hand, the files, the whole command."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtql_jax.errors import UserError
from dtql_jax.training.progress import Progress
from experiments import study
from experiments.bandits.problems import Bandit
from experiments.two_modes import __main__ as two_modes
from experiments.two_modes import bandit, figures, maze
from experiments.two_modes.settings import NAMES, get_config
from tests.experiments.commands import call

CONFIG = get_config().to_dict() | {"seeds": 2}


def collect(episodes: int) -> maze.Collection:
    return maze.make(CONFIG["maze"] | {"episodes": episodes}, 3, Progress(quiet=True))


@pytest.fixture(scope="module")
def collection() -> maze.Collection:
    return collect(40)


def test_both_ways_are_mirror_images() -> None:
    assert maze.MAP[::-1] == maze.MAP


def test_the_data_goes_both_ways(collection: maze.Collection) -> None:
    data, episodes = collection
    found = maze.numbers(episodes)
    assert (found["success"], found["upper"] + found["lower"]) == (1.0, 1.0)
    assert abs(found["upper"] - 0.5) < 0.32  # four binomial deviations of 40 episodes
    assert len(data.rewards) == episodes.lengths.sum()
    # an episode ends at the goal, and there alone is the reward 1 and the mask 0
    np.testing.assert_array_equal(data.rewards, 1.0 - data.masks)
    assert data.rewards.sum() == 40
    for path in episodes.paths[0]:
        assert np.abs(path[0] - maze.START).max() < 0.06
        assert np.linalg.norm(path[-1] - maze.GOAL) < 0.45 + 0.08
        # a path on the upper way is never below, except around start and goal
        middle = path[np.abs(path[:, 0]) < 1.0, 1]
        assert (middle > 0.5).all() or (middle < -0.5).all()
    again = collect(2).episodes.paths[0]
    np.testing.assert_array_equal(again[1], episodes.paths[0][1])


def test_ways_and_numbers_by_hand() -> None:
    upper = np.array([[-1.5, 0.0], [-1.0, 1.0], [0.1, 1.0], [0.2, -1.0]])
    lower = np.array([[-1.5, 0.0], [-1.5, 1.0], [0.0, -1.0]])
    stays = np.array([[-1.5, 0.0], [-1.5, 0.2]])
    assert [maze.way_of(path) for path in (upper, lower, stays)] == ["upper", "lower", ""]
    reached = np.array([[True, False], [True, False]])
    lengths = np.array([[50, 250], [70, 250]])
    found = maze.numbers(maze.Episodes([[upper, lower], [upper, stays]], reached, lengths))
    assert (found["success"], found["steps"]) == (0.5, 60.0)
    assert found["standard_error"] == pytest.approx(np.sqrt(1 / 3) / 2)
    assert (found["upper"], found["lower"], found["neither"]) == (0.5, 0.25, 0.25)
    assert (found["upper_by_seed"], found["favourite"]) == ([0.5, 0.5], 0.75)
    nobody = maze.numbers(maze.Episodes([[stays]], np.array([[False]]), np.array([[250]])))
    assert (nobody["steps"], nobody["favourite"]) == (None, None)


def small_bandit() -> Bandit:
    return bandit.make({"points": 2_000}, 0)


def test_corners_by_hand() -> None:
    problem = small_bandit()
    right, left, middle, gap = [10.0, 10.0], [-10.2, -9.9], [0.0, 0.0], [7.5, 7.5]
    samples = np.array([[right, right, left, middle], [left, left, left, gap]])
    found = bandit.numbers(samples, problem)
    assert (found["upper_right_by_seed"], found["lower_left_by_seed"]) == ([0.5, 0.0], [0.25, 0.75])
    assert (found["outside"], found["elsewhere"]) == pytest.approx((1 / 8, 1 / 8))
    assert found["favourite"] == pytest.approx((2 / 3 + 1.0) / 2)
    nobody = bandit.numbers(np.array([[middle]]), problem)
    assert nobody["favourite"] is None
    # the middle is sqrt(200) from both corners
    assert nobody["reward"] == pytest.approx(1.0 - np.sqrt(200.0) / problem.best)


def small_found(collection: maze.Collection) -> dict[str, Any]:
    """Two seeds that each choose one corner and one way; the second fails once in three."""
    samples = np.stack([np.full((20, 2), 10.0), np.full((20, 2), -10.0)])
    paths = {maze.way_of(path): path for path in collection.episodes.paths[0]}
    chosen = [paths["upper"]] * 3 + [paths["lower"]] * 3
    own = {
        "successes": np.array([[True, True, True], [True, True, False]]),
        "lengths": np.array([len(path) - 1 for path in chosen]).reshape(2, 3),
        "paths": np.concatenate(chosen),
    }
    return {
        "bandit": {name: {"policy": samples, "acting": samples} for name in NAMES},
        "maze": dict.fromkeys(NAMES, own),
    }


def test_rows_tables_and_figure(tmp_path: Path, collection: maze.Collection) -> None:
    data, found = {"bandit": small_bandit(), "maze": collection}, small_found(collection)
    rows = {p: m.rows(CONFIG[p], data[p], found[p]) for p, m in two_modes.PARTS.items()}
    first = rows["bandit"][0]
    assert [row["samples"] for row in rows["bandit"]] == ["policy", "acting"] * 3
    # half of all samples at each corner, and every seed at one alone
    assert (first["upper_right"], first["lower_left"], first["favourite"]) == (0.5, 0.5, 1.0)
    planner, dtql, *_ = rows["maze"]
    assert (planner["algorithm"], dtql["algorithm"]) == ("data (planner)", "DTQL")
    assert dtql["success"] == pytest.approx(5 / 6)
    assert (dtql["upper"], dtql["lower"], dtql["favourite"]) == (0.5, 0.5, 1.0)
    assert len(study.table(bandit.COLUMNS, rows["bandit"]).splitlines()) == 8
    assert len(study.table(maze.COLUMNS, rows["maze"]).splitlines()) == 6
    figures.draw(data, found, rows, tmp_path / "two_modes.png")
    assert (tmp_path / "two_modes.png").read_bytes().startswith(b"\x89PNG")


def test_a_cell_depends_on_its_own_settings() -> None:
    changed = get_config()
    changed.seeds, changed.maze.algorithms.dql.settings.eta = 2, 2.0
    for name, same in (("dtql", True), ("dql", False)):
        own = [two_modes.cell_settings(c, "maze", name) for c in (CONFIG, changed.to_dict())]
        assert (own[0] == own[1]) == same


def test_wrong_settings_are_named() -> None:
    two_modes.check(CONFIG)
    for field, value, said in (
        ("seeds", 0, "seeds is 0"),
        ("bandit.samples", 0, "bandit.samples is 0"),
        ("maze.algorithms.idql.train_steps", 0, "maze.algorithms.idql.train_steps is 0"),
        ("maze.algorithms.dtql.settings.hidden_dim", 0, "dtql: hidden_dim is 0"),
        ("maze.noise", 0.5, "maze.noise is 0.5"),
    ):
        config = get_config()
        config.update_from_flattened_dict({field: value})
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
        for name in NAMES:
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
