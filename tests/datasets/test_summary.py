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
from dtql_jax.datasets.registry import get_task
from dtql_jax.datasets.summary import episode_returns, summarise
from dtql_jax.types import Transition
from tests.datasets.dataset_files import d4rl_columns, write_d4rl

ROOT = pathlib.Path(__file__).parents[2]


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
