"""The registry against the paper's list of tasks and the real environments."""

import json

import numpy as np
import pytest

from dtql_jax.datasets.registry import ACTION_HIGH, ACTION_LOW, TASKS, get_task
from dtql_jax.envs.make import make_env
from dtql_jax.errors import UserError

# the paper's tasks: name, D4RL version, D4RL file, random and expert return
MAZE = "Ant_maze_{}_noisy_multistart_{}_multigoal_{}_sparse_fixed.hdf5"
PAPER = [
    *[
        (f"{body}-{kind}", "v2", f"{body}_{kind.replace('-', '_')}-v2.hdf5", *scores)
        for body, scores in (
            ("halfcheetah", (-280.178953, 12135.0)),
            ("hopper", (-20.272305, 3234.3)),
            ("walker2d", (1.629008, 4592.3)),
        )
        for kind in ("medium", "medium-replay", "medium-expert")
    ],
    ("antmaze-umaze", "v2", MAZE.format("u-maze", False, False), 0, 1),
    ("antmaze-umaze-diverse", "v2", MAZE.format("u-maze", True, True), 0, 1),
    ("antmaze-medium-play", "v2", MAZE.format("big-maze", True, False), 0, 1),
    ("antmaze-medium-diverse", "v2", MAZE.format("big-maze", True, True), 0, 1),
    ("antmaze-large-play", "v2", MAZE.format("hardest-maze", True, False), 0, 1),
    ("antmaze-large-diverse", "v2", MAZE.format("hardest-maze", True, True), 0, 1),
    ("pen-human", "v1", "pen-human-v1.hdf5", 96.262799, 3076.833102),
    ("pen-cloned", "v1", "pen-cloned-v1.hdf5", 96.262799, 3076.833102),
    (
        "kitchen-complete",
        "v0",
        "mini_kitchen_microwave_kettle_light_slider-v0.hdf5",
        0,
        4,
    ),
    ("kitchen-partial", "v0", "kitchen_microwave_kettle_light_slider-v0.hdf5", 0, 4),
    ("kitchen-mixed", "v0", "kitchen_microwave_kettle_bottomburner_light-v0.hdf5", 0, 4),
]


@pytest.mark.parametrize(("name", "version", "file", "random", "expert"), PAPER)
def test_the_tasks_of_the_paper(name, version, file, random, expert):
    task = get_task(name)
    assert task.name == name
    source = task.d4rl[0]
    assert (source.file_name, source.version) == (file, version)
    assert source.reference_scores == (random, expert)
    # with a version it is the same task
    assert get_task(f"{name}-{version}").name == name
    assert get_task(f"{name}-{version}").d4rl == (source,)


def test_there_are_twenty_of_them_and_each_has_a_source():
    assert len(PAPER) == 20
    for name, task in TASKS.items():
        assert task.name == name
        assert task.minari or task.d4rl or task.generated
        assert task.generated or task.not_generated


def test_antmaze_v0_is_another_file_with_another_draw_of_goals():
    new, old = get_task("antmaze-large-play").d4rl
    assert get_task("antmaze-large-play-v0").d4rl == (old,)
    assert old.file_name == new.file_name.replace("_fixed", "")
    assert new.env.kwargs["goal_each_episode"] and not old.env.kwargs["goal_each_episode"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hoper-medium", "unknown task 'hoper-medium': did you mean hopper-medium"),
        ("", "unknown task ''"),
        ("hopper-medium-v1", "no D4RL version v1; known: hopper-medium-v2"),
        ("pointmaze-umaze-v1", "no D4RL version v1; known: none"),
        ("antmaze-umaze-v0-v2", "unknown task"),
    ],
)
def test_unknown_names_are_one_line(name, message):
    with pytest.raises(UserError, match=message):
        get_task(name)


def test_combined_and_absent_minari_sets():
    assert get_task("walker2d-medium-expert").minari.dataset_ids == (
        "mujoco/walker2d/medium-v0",
        "mujoco/walker2d/expert-v0",
    )
    assert get_task("walker2d-medium-replay").minari is None
    assert get_task("door-human").d4rl[0].reference_scores == (-56.512833, 2880.569309)
    assert get_task("relocate-expert").minari.dataset_ids == ("D4RL/relocate/expert-v2",)


def sources():
    """One source for each environment."""
    found = {}
    for task in TASKS.values():
        for source in (task.minari, *task.d4rl, task.generated, *task.generated_variants):
            if source is not None:
                found.setdefault(json.dumps(source.env.to_dict()), source)
    return list(found.values())


@pytest.mark.parametrize("source", sources(), ids=lambda source: source.env.env_id)
def test_sizes_and_action_ranges_are_those_of_the_environments(source):
    env = make_env(source.env)
    assert env.observation_space.shape == (source.observation_dim,)
    assert env.action_space.shape == (source.action_dim,)
    np.testing.assert_array_equal(env.action_space.low, ACTION_LOW)
    np.testing.assert_array_equal(env.action_space.high, ACTION_HIGH)
    assert env.spec.max_episode_steps == source.env.max_episode_steps
    env.close()


@pytest.mark.parametrize(
    ("name", "start", "goal"),
    [
        # the centres of the cells on a grid of 4, x to the right, y up
        ("antmaze-umaze", (-4, -4), (-4, 4)),
        ("antmaze-umaze-diverse", (-4, 4), (-4, -4)),
        ("antmaze-medium-play", (-10, 10), (10, -10)),
        ("antmaze-large-diverse", (-18, 12), (14, -12)),
    ],
)
def test_antmaze_evaluation_starts_and_goals(name, start, goal):
    env = make_env(get_task(name).minari.env)
    for seed in range(3):
        observation, _ = env.reset(seed=seed)
        # position, 27 numbers of the ant, goal; each within 1 of its cell's centre
        assert np.abs(observation[:2] - start).max() <= 1.01
        assert np.abs(observation[-2:] - goal).max() <= 1.01
    env.close()
