"""D4RL's AntMaze, rebuilt: physics, places, resets, goals, ends, against D4RL's own numbers."""

import os
import pathlib
import subprocess
import sys
import tempfile

import gymnasium
import numpy as np
import pytest

from dtql_jax.datasets.registry import get_task
from dtql_jax.envs.antmaze_d4rl import AntMazeD4RL
from dtql_jax.envs.make import make_env, register
from dtql_jax.envs.spec import EnvSpec
from dtql_jax.evaluation.rollout import evaluate
from dtql_jax.plots.mazes import positions_and_goals, read_maze

SIZES = ("umaze", "medium", "large")
# the goal cell's centre, as users of D4RL know it from `env.target_goal`
GOALS = {"umaze": (0, 8), "medium": (20, 20), "large": (32, 24)}
STILL = np.zeros(8, np.float32)


def spec(steps=700, **kwargs):
    return EnvSpec("dtql_jax/AntMazeD4RL-v0", steps, kwargs=kwargs, success="reward")


@pytest.fixture
def umaze():
    env = AntMazeD4RL("umaze")
    yield env
    env.close()


def test_gymnasium_makes_it_and_its_interface_is_sound():
    register("dtql_jax/AntMazeD4RL-v0")
    env = gymnasium.make("dtql_jax/AntMazeD4RL-v0", maze="medium", max_episode_steps=1000)
    assert env.observation_space == gymnasium.spaces.Box(-np.inf, np.inf, (29,), np.float64)
    assert env.action_space == gymnasium.spaces.Box(-1.0, 1.0, (8,), np.float32)
    assert env.unwrapped.dt == pytest.approx(0.1)
    observation, info = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert info["goal"].shape == (2,)
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    assert env.observation_space.contains(observation)
    assert (type(reward), type(terminated), type(truncated)) == (float, bool, bool)


def test_the_physics_are_those_of_d4rls_ant_xml(umaze):
    model = umaze.model
    assert model.opt.timestep == 0.02
    assert umaze.frame_skip == 5
    np.testing.assert_array_equal(model.actuator_ctrlrange, np.tile([-30.0, 30.0], (8, 1)))
    np.testing.assert_array_equal(model.actuator_gear[:, 0], 1)
    np.testing.assert_array_equal(model.geom_solref, np.tile([0.02, 1], (model.ngeom, 1)))
    np.testing.assert_allclose(
        model.geom_solimp[:, :3], np.tile([0.8, 0.8, 0.01], (model.ngeom, 1))
    )
    joints = [model.joint(model.actuator_trnid[i, 0]).name for i in range(8)]
    assert joints == [f"{part}_{leg}" for leg in (4, 1, 2, 3) for part in ("hip", "ankle")]


@pytest.mark.parametrize("size", SIZES)
def test_walls_stand_where_the_map_has_them(size):
    env = AntMazeD4RL(size)
    model = env.model
    walls = {
        tuple(model.geom_pos[i].round(6)): tuple(model.geom_size[i])
        for i in range(model.ngeom)
        if model.geom(i).name.startswith("wall")
    }
    # Gymnasium-Robotics' maps have the same walls
    kind = {"umaze": "umaze-diverse", "medium": "medium-play", "large": "large-play"}[size]
    cells = get_task(f"antmaze-{kind}").minari.env.kwargs["maze_map"]
    expected = {
        (4.0 * column - 4, 4.0 * row - 4, 1.0): (2.0, 2.0, 1.0)
        for row, line in enumerate(cells)
        for column, cell in enumerate(line)
        if cell == 1
    }
    assert walls == expected


def test_actions_are_scaled_to_the_motors_range_and_clipped(umaze):
    umaze.reset(seed=0)
    umaze.step(np.array([1, -1, 0.5, 0, 2, -3, 0, 0], np.float32))
    np.testing.assert_allclose(umaze.data.ctrl, [30, -30, 15, 0, 30, -30, 0, 0])


def test_starts_are_disturbed_as_d4rls(umaze):
    observations = np.stack([umaze.reset(seed=seed)[0] for seed in range(300)])
    still = np.array([0, 0, 0.75, 1, 0, 0, 0, *8 * [0]])
    # set_state normalises no quaternion: all fifteen have the same noise
    noise = observations[:, :15] - still
    assert np.abs(noise).max() <= 0.1
    np.testing.assert_allclose(noise.std(axis=0), 0.2 / np.sqrt(12), rtol=0.15)
    velocities = observations[:, 15:]
    np.testing.assert_allclose(velocities.mean(axis=0), 0, atol=0.03)
    np.testing.assert_allclose(velocities.std(axis=0), 0.1, rtol=0.2)


@pytest.mark.parametrize("size", SIZES)
def test_goals_lie_beside_the_goal_cells_centre(size):
    env = AntMazeD4RL(size)
    goals = np.stack([env.reset(seed=seed)[1]["goal"] for seed in range(400)]) - GOALS[size]
    assert goals.min() >= 0 and goals.max() <= 1.5
    # U(0, 1) + U(0, 0.5) in each direction
    np.testing.assert_allclose(goals.mean(axis=0), 0.75, atol=0.06)
    np.testing.assert_allclose(goals.var(axis=0), (1 + 0.25) / 12, rtol=0.2)
    assert abs(np.corrcoef(goals.T)[0, 1]) < 0.15


def test_v2_draws_a_goal_in_each_episode_and_v0_one_for_each_environment():
    new, old, another = (AntMazeD4RL("umaze", goal_each_episode=v) for v in (True, False, False))
    assert len({tuple(new.reset(seed=seed)[1]["goal"]) for seed in range(5)}) == 5
    kept = {tuple(old.reset(seed=seed)[1]["goal"]) for seed in range(5)}
    assert len(kept) == 1
    assert tuple(another.reset(seed=1)[1]["goal"]) not in kept
    assert get_task("antmaze-umaze-v0").d4rl[0].env.kwargs["goal_each_episode"] is False
    assert get_task("antmaze-umaze-v2").d4rl[0].env.kwargs["goal_each_episode"] is True


def test_the_same_seed_gives_the_same_episode():
    def path(env, seed):
        draws = np.random.default_rng(0)
        observations = [env.reset(seed=seed)[0]]
        for _ in range(30):
            observations.append(env.step(draws.uniform(-1, 1, 8))[0])
        return np.stack(observations)

    first, second = AntMazeD4RL("large"), AntMazeD4RL("large")
    expected = path(first, 7)
    # in another environment, and after other episodes
    path(second, 8)
    np.testing.assert_array_equal(path(second, 7), expected)
    assert not np.array_equal(path(second, 9), expected)


@pytest.mark.parametrize(("direction", "blocked"), [((-1, 0), True), ((0, -1), True), ((1, 0), 0)])
def test_walls_block_and_corridors_do_not(umaze, direction, blocked):
    umaze.reset(seed=0)
    furthest = 0.0
    for _ in range(40):
        position, velocity = umaze.data.qpos.copy(), umaze.data.qvel.copy()
        velocity[:2] = np.multiply(direction, 6.0)
        umaze.set_state(position, velocity)
        umaze.step(STILL)
        furthest = max(furthest, float(np.dot(umaze.data.qpos[:2], direction)))
    # the start cell's walls are 2 from its centre
    assert (furthest < 2.0) if blocked else (furthest > 4.0)


@pytest.mark.parametrize(("distance", "reached"), [(0.3, True), (0.45, True), (0.7, False)])
def test_an_episode_ends_within_half_a_metre_of_its_goal(umaze, distance, reached):
    umaze.reset(seed=1, options={"start": (0, 0), "goal": (0, 0)})
    umaze.step(STILL)
    goal = np.add(umaze.data.qpos[:2], (distance, 0))
    umaze.reset(seed=1, options={"start": (0, 0), "goal": goal})
    _, reward, terminated, truncated, info = umaze.step(STILL)
    assert (reward, terminated, truncated) == (float(reached), reached, False)
    assert info["success"] is reached


def test_the_mark_stands_at_the_goal(umaze):
    _, info = umaze.reset(seed=0)
    np.testing.assert_allclose(umaze.data.site("goal").xpos[:2], info["goal"])


@pytest.mark.parametrize(("task", "limit"), [("antmaze-umaze", 700), ("antmaze-medium-play", 1000)])
def test_time_limits(task, limit):
    env = make_env(get_task(task).d4rl[0].env)
    env.reset(seed=0)
    ends = [env.step(STILL)[2:4] for _ in range(limit)]
    assert ends[-1] == (False, True)
    assert not any(any(end) for end in ends[:-1])


def test_maze_and_positions_for_pictures(umaze):
    maze = read_maze(spec(maze="umaze"))
    np.testing.assert_array_equal(maze.centres("r"), [[0, 0]])
    np.testing.assert_array_equal(maze.centres("g"), [[0, 8]])
    # x from the outer side of column 0 to that of column 4, y likewise
    assert maze.extent == (-6, 14, -6, 14)
    # the dead end of the U: a wall between start and goal
    assert [0, 4] in maze.centres(1).tolist()
    observations = np.stack([umaze.reset(seed=seed)[0] for seed in range(3)])
    positions, goals = positions_and_goals(spec(maze="umaze"), observations)
    np.testing.assert_array_equal(positions, observations[:, :2])
    assert goals is None


def test_evaluation_workers_play_the_same_episodes():
    def policy(observations, episodes, steps):
        return np.sin(observations[..., :8] * 7 + steps[..., None])

    results = [
        evaluate(policy, spec(25, maze="umaze"), seeds=[0, 1], episodes=3, workers=n, record=3)
        for n in (0, 2)
    ]
    for one, other in zip(results[0].trajectories, results[1].trajectories, strict=True):
        np.testing.assert_array_equal(one.observations, other.observations)
    assert results[0].successes.shape == (2, 3)


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    make_env(spec(maze="large")).reset(seed=0)
    assert list(pathlib.Path(tmp_path).iterdir()) == []


DRAW = """
import sys, numpy as np
from dtql_jax.envs.antmaze_d4rl import AntMazeD4RL
env = AntMazeD4RL("umaze", render_mode="rgb_array", width=64, height=48)
env.reset(seed=0)
try:
    frame = env.render()
except Exception as error:
    sys.exit(f"cannot draw: {error}")
print(frame.shape, frame.std() > 5)
"""


def test_it_can_be_drawn():
    # another process, because MuJoCo chooses how to draw when it is imported
    environment = {"MUJOCO_GL": "egl"} | dict(os.environ)
    drawn = subprocess.run(
        [sys.executable, "-c", DRAW], env=environment, capture_output=True, text=True
    )
    if "cannot draw" in drawn.stderr:
        pytest.skip(drawn.stderr)
    assert drawn.stdout.split("\n")[0] == "(48, 64, 3) True", drawn.stderr
