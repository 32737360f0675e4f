"""Numbers and pictures that describe a dataset, and the command that shows them."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from dtql_jax.datasets import d4rl, load_episodes
from dtql_jax.datasets.cache import cache_root, cached
from dtql_jax.datasets.registry import get_task
from dtql_jax.datasets.summary import episode_returns, summarise
from dtql_jax.errors import UserError
from dtql_jax.plots import dataset_pictures as pictures
from dtql_jax.plots import pictures as style
from dtql_jax.plots.mazes import Maze
from dtql_jax.types import Transition
from tests.datasets.dataset_files import d4rl_columns, write_d4rl

ROOT = pathlib.Path(__file__).parents[2]
MAZE = Maze(((1, 1, 1, 1), (1, "r", "g", 1), (1, 0, 1, 1), (1, 1, 1, 1)), 2.0, (3.0, 1.0))


def transitions(rewards, masks=None, actions=None):
    rows = len(rewards)
    return Transition(
        observations=np.zeros((rows, 3), np.float32),
        actions=np.zeros((rows, 2), np.float32) if actions is None else actions,
        next_observations=np.zeros((rows, 3), np.float32),
        rewards=np.array(rewards, np.float32),
        masks=np.ones(rows, np.float32) if masks is None else np.array(masks, np.float32),
    )


def test_returns_are_sums_over_episodes():
    rewards = np.array([1, 2, 3, 10, 0.5], np.float32)
    found = episode_returns(rewards, np.array([3, 0, 1, 1]))
    assert found.tolist() == [6, 0, 10, 0.5]


def test_what_is_said_of_a_dataset():
    actions = np.array([[-1, 0], [1, 0.5], [0, 1], [0.5, -0.5]], np.float32)
    data = transitions([0, 1, 0, -2], [1, 0, 1, 1], actions)
    facts = summarise(data, np.array([2, 0, 2]))
    assert facts["returns"]["min"] == -2 and facts["returns"]["max"] == 1
    assert facts["returns"]["50 %"] == 0
    assert facts["lengths"]["mean"] == pytest.approx(4 / 3)
    assert facts["rewarded_episodes"] == pytest.approx(1 / 3)
    assert facts["terminals"] == 1
    assert facts["actions"][0] == {"min": -1, "mean": 0.125, "max": 1, "at_bounds": 0.5}
    assert facts["actions"][1]["at_bounds"] == 0.25
    json.dumps(facts)


def test_lengths_of_a_d4rl_file_are_the_rows_that_were_kept(tmp_path, lines):
    #            0  1  2  3  4  5  6  7  8; the last row has no successor
    terminals = [0, 0, 1, 0, 0, 0, 0, 1, 0]
    timeouts = [0, 0, 0, 0, 1, 1, 0, 0, 0]
    columns = d4rl_columns(np.random.default_rng(0), terminals, timeouts)
    source = get_task("hopper-medium").d4rl[0]
    write_d4rl(tmp_path / source.file_name, columns)
    arrays, info, lengths = load_episodes("hopper-medium", "d4rl", d4rl_dir=str(tmp_path))
    # rows 0 1 2 | 3 (4 is a timeout) | (5 is one) | 6 7 | (8 is the last)
    assert lengths.tolist() == [3, 1, 0, 2, 0]
    assert info.episodes == 5 and len(arrays.rewards) == 6
    # from the cache they are the same
    _, facts = d4rl.load(tmp_path / source.file_name, source, lines)
    assert facts["episode_lengths"].tolist() == [3, 1, 0, 2, 0]
    assert lines == []


def test_lengths_of_a_collection_are_those_of_its_episodes():
    arrays, info, lengths = load_episodes("pointmaze-umaze", transitions=400, quiet=True)
    assert lengths.sum() == 400 and len(lengths) == info.episodes
    # every episode but the last, which was cut, ends at its goal
    ends = np.cumsum(lengths)[:-1] - 1
    assert (arrays.masks[ends] == 0).all() and (arrays.masks == 0).sum() <= len(ends) + 1
    json.dumps(info.to_dict())


@pytest.mark.parametrize("damage", ["change", "cut", "remove"])
def test_damaged_lengths_are_built_anew(tmp_path, lines, damage):
    (tmp_path / "file").write_text("")

    def build():
        return transitions([0, 1, 0]), {"episode_lengths": np.array([1, 2])}

    def read():
        return cached("name", [tmp_path / "file"], {}, build, lines)[1]["episode_lengths"].tolist()

    assert read() == read() == [1, 2]
    assert lines == []
    (path,) = cache_root().glob("*/episode_lengths.npy")
    if damage == "change":
        np.save(path, np.array([2, 1]))
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-3])
    else:
        path.unlink()
    assert read() == [1, 2]
    assert len(lines) == 1 and "damaged" in lines[0]


# -------------------------------------------------------------------------------- pictures


@pytest.fixture
def kept(monkeypatch):
    figures = []
    monkeypatch.setattr(style, "_save", lambda figure, path: figures.append(figure))
    return figures


def test_the_histograms_bars_count_episodes(kept):
    returns = np.array([0, 0, 0, 1, 1, 4])
    lengths = np.array([10.5, 20, 20, 25, 90, 100])
    pictures.histogram_of_returns(returns, lengths, "", title="t", subtitle="s" * 200)
    left, right = kept[0].axes
    bars = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in left.patches}
    assert bars == {0: 3, 1: 2, 2: 0, 3: 0, 4: 1}
    assert sum(bar.get_height() for bar in right.patches) == 6
    assert "mean 1" in [text.get_text() for text in left.texts]
    assert "mean 44.25" in [text.get_text() for text in right.texts]


def test_the_map_counts_visits_where_they_were(kept):
    # the cell of the goal has its centre at (4, 2), the map spans (-1, -3) to (7, 5)
    positions = np.array([[4.01, 2.01]] * 7 + [[1.9, -0.1]])
    pictures.visited_states(MAZE, positions, "")
    axes = kept[0].axes[0]
    (image,) = axes.images
    assert image.get_extent() == [-1, 7, -3, 5]
    counts = image.get_array()
    assert counts.count() == 2 and counts.max() == 7
    row, column = np.argwhere(counts == 7)[0]
    side = 8 / counts.shape[1]
    assert -1 + column * side <= 4.01 < -1 + (column + 1) * side
    assert -3 + row * side <= 2.01 < -3 + (row + 1) * side
    star = next(line for line in axes.lines if line.get_marker() == "*")
    np.testing.assert_array_equal(star.get_xydata(), [[4, 2]])


def test_wrong_input_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no episodes to draw"):
        pictures.histogram_of_returns(np.zeros(0), np.zeros(0), tmp_path / "a.png")
    with pytest.raises(UserError, match=r"positions have shape \(3, 3\)"):
        pictures.visited_states(MAZE, np.zeros((3, 3)), tmp_path / "a.png")


def data_info(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "dtql_jax", "data-info", *arguments],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
    )


def test_the_command_prints_and_draws(tmp_path):
    out = tmp_path / "out"
    arguments = ("--env=pointmaze-umaze", "--transitions=500", f"--out={out}")
    ended = data_info(*arguments)
    assert ended.returncode == 0, ended.stderr
    for words in ("pointmaze-umaze", "PD controller", "500 in", "returns", "at bounds"):
        assert words in ended.stdout
    facts = json.loads((out / "data_info.json").read_text())
    assert facts["transitions"] == 500 and facts["lengths"]["max"] <= 300
    for name in ("histogram_of_returns.png", "visited_states.png"):
        with Image.open(out / name) as image:
            assert len(image.convert("RGB").getcolors(1 << 24)) > 50
        assert str(out / name) in ended.stdout


def test_the_command_refuses_wrong_input_in_one_line():
    ended = data_info("--env=pointmaze-umze")
    assert ended.returncode == 2
    assert "did you mean pointmaze-umaze" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
