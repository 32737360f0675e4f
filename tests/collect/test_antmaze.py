"""The behaviour of AntMaze data, and whole collections on both ants."""

import dataclasses
import json

import numpy as np
import pytest

from dtql_jax.collect import generated
from dtql_jax.collect.antmaze import AntMazeBehaviour, Waypoints
from dtql_jax.collect.policies import read_policy
from dtql_jax.datasets import load, minari, store
from dtql_jax.datasets.registry import get_task
from dtql_jax.envs.make import make_base_env
from dtql_jax.errors import UserError
from tests.datasets.dataset_files import policy_arrays, write_policy

D4RL_ANT = get_task("antmaze-umaze-diverse").generated
(GYMNASIUM_ANT,) = get_task("antmaze-umaze-diverse").generated_variants
U = [[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 1, 1, 0, 1], [1, "g", 0, 0, 1], [1, 1, 1, 1, 1]]


@pytest.fixture
def policy_file(tmp_path):
    return write_policy(tmp_path / "walker.npz", policy_arrays(np.random.default_rng(0), 29, 8))


class Recorder:
    """A policy that keeps what it is asked."""

    frame = ""

    def __init__(self):
        self.inputs = []

    def check_sizes(self, *sizes):
        assert sizes == (29, 8)

    def action(self, observation, draws=None):
        assert draws is None
        self.inputs.append(observation)
        return np.full(8, 0.5, np.float32)


# ------------------------------------------------------------------------------- waypoints


def test_waypoints_lead_along_the_corridors_middle():
    # cells of 4 around (0, 0): the U's rows are at y 4, 0, -4, its columns at x -4, 0, 4
    way = Waypoints(U, 4.0)
    goal = (-4.5, -3.5)
    assert way.next(-4.0, 4.0, goal) == (0, 4)
    assert way.next(0.5, 4.5, goal) == (4, 4)
    assert way.next(4.0, 4.0, goal) == (4, 0)
    assert way.next(4.0, 0.0, goal) == (4, -4)
    assert way.next(4.0, -4.0, goal) == (0, -4)
    # in the last cells it is the goal itself
    assert way.next(0.0, -4.0, goal) == goal
    assert way.next(-3.0, -4.9, goal) == goal
    # more than 1 from the middle: back to the cell's centre first
    assert way.next(0.0, 5.1, goal) == (0, 4)
    assert way.next(2.9, 0.0, goal) == (4, 0)
    # over a wall: the nearest free cell
    assert way.next(-4.0, 1.9, goal) == (-4, 4)


def test_cells_and_centres_belong_together_wherever_the_middle_is():
    way = Waypoints(U, 4.0, middle=(4.0, 4.0))
    assert way.centre((1, 1)) == (0, 8)
    for cell in way.free:
        x, y = way.centre(cell)
        for dx, dy in ((1.9, -1.9), (-1.9, 1.9)):
            assert way.cell(x + dx, y + dy) == cell


# ------------------------------------------------------------------------------- behaviour


def begun(source, policy, seed=0, **settings):
    env = make_base_env(source.recording_env())
    behaviour = AntMazeBehaviour(env, policy, **(source.settings | settings))
    draws = np.random.default_rng(seed)
    return behaviour, behaviour.begin(env, seed, draws), draws


@pytest.mark.parametrize("source", [D4RL_ANT, GYMNASIUM_ANT], ids=lambda s: s.variant)
def test_the_policy_sees_the_ant_and_a_direction_of_length_ten(source):
    policy = Recorder()
    settings = {"random_start": False, "goal_cells": "evaluation"}
    behaviour, observation, draws = begun(source, policy, **settings)
    actions = np.stack([behaviour.action(observation, draws) for _ in range(3000)])
    ant = observation[2:] if source is D4RL_ANT else observation["observation"]
    seen = policy.inputs[0]
    np.testing.assert_array_equal(seen[:27], ant)
    # both U's start at the end of an arm that leads to the right
    np.testing.assert_allclose(np.hypot(*seen[27:]), 10)
    assert seen[27] > 8
    # the mean action and its noise, clipped two and a half deviations away
    np.testing.assert_allclose(actions.mean(axis=0), 0.5, atol=0.02)
    np.testing.assert_allclose(actions.std(axis=0), 0.2, rtol=0.05)
    assert np.abs(actions).max() <= 1


def places(source, count=60, **settings):
    """Starts and goals (x, y) of many episodes."""
    starts, goals = [], []
    for seed in range(count):
        behaviour, observation, _ = begun(source, Recorder(), seed, **settings)
        starts.append(
            observation[:2] if source.variant == "d4rl-ant" else observation["achieved_goal"]
        )
        goals.append(behaviour._goal)
    return np.array(starts), np.array(goals)


def test_play_goals_are_those_that_d4rl_marked():
    # (row, column) of D4RL's maps; x = 4 (column - 1), y = 4 (row - 1) is a cell's centre
    for size, cells in {
        "medium": [(2, 6), (5, 1), (6, 5)],
        "large": [(1, 6), (3, 5), (3, 10), (5, 2), (7, 4), (7, 6), (7, 9)],
    }.items():
        source = get_task(f"antmaze-{size}-play").generated
        starts, goals = places(source)
        offsets = goals[:, None] - [(4 * (c - 1), 4 * (r - 1)) for r, c in cells]
        hit = ((offsets >= 0) & (offsets <= 1.5)).all(axis=2)
        assert (hit.sum(axis=1) == 1).all()
        assert hit.any(axis=0).all()
        # starts are up to 1 from the centre of a free cell that is no goal's
        assert ((starts % 4) <= 1).all()
        at_goal = ((starts // 4)[:, None] == [(c - 1, r - 1) for r, c in cells]).all(axis=2)
        assert not at_goal.any()


def test_diverse_goals_and_starts_are_in_any_two_cells():
    starts, goals = places(D4RL_ANT, 100)
    cells = {(4 * (c - 1), 4 * (r - 1)) for r in (1, 3) for c in (1, 2, 3)} | {(8, 4)}
    assert {tuple(p) for p in (starts // 4 * 4).tolist()} == cells
    assert {tuple(p) for p in (goals // 4 * 4).tolist()} == cells
    assert not ((starts // 4) == (goals // 4)).all(axis=1).any()


def test_umaze_starts_at_its_start_and_goes_to_its_goal():
    starts, goals = places(get_task("antmaze-umaze").generated, 20)
    assert np.abs(starts).max() <= 0.1
    assert ((goals >= (0, 8)) & (goals <= (1.5, 9.5))).all()


def test_gymnasiums_ant_goes_to_the_goal_that_it_sees():
    (source,) = get_task("antmaze-umaze").generated_variants
    behaviour, observation, _ = begun(source, Recorder())
    assert behaviour._goal == tuple(observation["desired_goal"])
    # Minari's umaze: from the lower left to the upper left, each within 1 of the cell's centre
    starts, goals = places(source, 10)
    assert np.abs(starts - (-4, -4)).max() <= 1
    assert np.abs(goals - (-4, 4)).max() <= 1
    starts, goals = places(GYMNASIUM_ANT, 40)
    assert len({tuple(p) for p in np.round(starts / 4).tolist()}) == 7
    assert len({tuple(p) for p in np.round(goals / 4).tolist()}) == 7


def test_a_policy_of_other_sizes_is_one_line(tmp_path):
    path = write_policy(tmp_path / "p.npz", policy_arrays(np.random.default_rng(0), 27, 8))
    env = make_base_env(D4RL_ANT.env)
    with pytest.raises(UserError, match=r"p\.npz has 27 inputs and 8 actions; expected 29 and 8"):
        AntMazeBehaviour(env, read_policy(path))


# ------------------------------------------------------------------------------ collections


def collected(source, policy_file, lines, transitions=1500, steps=30):
    """Short episodes: a random ant goes nowhere, but some start at the evaluation goal."""
    source = dataclasses.replace(source, episode_steps=steps)
    name = generated.ensure(
        source, transitions=transitions, behaviour_policy=policy_file, quiet=True, report=lines
    )
    return name, *minari.load([name], source, lines)


def test_rewards_are_those_of_the_evaluation_goal(policy_file, lines):
    _, arrays, facts = collected(D4RL_ANT, policy_file, lines)
    # the mean of D4RL's evaluation goals
    distance = np.linalg.norm(arrays.next_observations[:, :2] - (0.75, 8.75), axis=1)
    near = np.abs(distance - 0.5) < 1e-4
    np.testing.assert_array_equal((arrays.rewards == 1)[~near], (distance <= 0.5)[~near])
    assert 5 < (arrays.rewards == 1).sum() < 500
    assert set(np.unique(arrays.rewards)) == {0, 1}
    np.testing.assert_array_equal(arrays.masks, 1 - arrays.rewards)
    # an episode continues past the goal, up to its own end
    lengths = facts["episode_lengths"]
    assert lengths.sum() == 1500 and lengths.max() == 30
    ends = np.cumsum(lengths)[:-1]
    inner = np.setdiff1d(np.arange(1499), ends - 1)
    np.testing.assert_array_equal(arrays.next_observations[inner], arrays.observations[inner + 1])
    assert (arrays.rewards[inner] == 1).any()


def test_names_and_metadata_say_whose_data_it_is(policy_file, tmp_path, lines):
    name, _, _ = collected(D4RL_ANT, policy_file, lines, 100)
    digest = read_policy(policy_file).sha256
    assert name == (f"dtql_jax/antmaze-d4rl-ant/umaze-diverse-policy{digest[:8]}-n100-seed0-v0")
    metadata = json.loads((store.data_folder(name) / "metadata.json").read_text())
    assert digest in metadata["algorithm_name"]
    assert "Not one of D4RL's datasets" in metadata["description"]
    (account,) = metadata["dtql_jax"]
    assert account["policy_sha256"] == digest
    assert account["transitions"] == 100
    assert account["settings"] == {"random_start": True, "goal_cells": "any"}
    # another policy is another dataset
    other = write_policy(tmp_path / "o.npz", policy_arrays(np.random.default_rng(1), 29, 8))
    assert collected(D4RL_ANT, other, lines, 100)[0] != name


def test_gymnasiums_ant_is_evaluated_where_it_was_recorded(policy_file, lines):
    name, arrays, _ = collected(GYMNASIUM_ANT, policy_file, lines)
    assert name.startswith("dtql_jax/antmaze-gymnasium-ant/umaze-diverse-policy")
    # position, the ant's 27 numbers, the evaluation goal
    distance = np.linalg.norm(arrays.next_observations[:, :2] - arrays.observations[:, -2:], axis=1)
    np.testing.assert_array_equal(arrays.rewards == 1, distance <= 0.45)
    assert (arrays.rewards == 1).any()
    with pytest.raises(UserError, match="recorded in AntMaze_UMaze-v4, not in its evaluation"):
        minari.load([name], D4RL_ANT, lines)


def test_another_maze_of_the_same_ant_is_refused(policy_file, lines):
    name, _, _ = collected(D4RL_ANT, policy_file, lines, 100)
    with pytest.raises(UserError, match="recorded in dtql_jax/AntMazeD4RL-v0 with maze umaze"):
        minari.load([name], get_task("antmaze-large-play").generated, lines)


def test_load_takes_a_policy_and_a_variant(policy_file, lines):
    _, info = load("antmaze-umaze", behaviour_policy=policy_file, transitions=60, report=lines)
    assert (info.source, info.env, info.observation_dim) == ("generated", D4RL_ANT.env, 29)
    assert info.reference_scores is None
    _, other = load(
        "antmaze-umaze",
        "generated:gymnasium-ant",
        behaviour_policy=policy_file,
        transitions=60,
        report=lines,
    )
    assert (other.env.env_id, other.observation_dim) == ("AntMaze_UMaze-v4", 31)
    assert "gymnasium-ant" in other.dataset_id


def test_minari_can_make_the_environment_again(policy_file, lines):
    import minari as minari_library

    name, _, _ = collected(D4RL_ANT, policy_file, lines, 50)
    env = minari_library.load_dataset(name).recover_environment(eval_env=True)
    assert env.spec.max_episode_steps == 700
    assert env.unwrapped.maze.middle == (4.0, 4.0)
