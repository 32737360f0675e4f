"""D4RL's pen and kitchen against the environments that they are built on."""

import numpy as np

from dtql_jax.datasets.registry import get_task
from dtql_jax.envs.make import make_base_env, make_env
from dtql_jax.envs.spec import EnvSpec

PEN = get_task("pen-human").d4rl[0].env
KITCHEN = get_task("kitchen-mixed").d4rl[0].env
ROBOT, OBJECTS, GOAL = slice(0, 9), slice(9, 30), slice(30, 60)


def test_the_pen_ends_when_it_drops_and_is_the_same_until_then():
    ours = make_base_env(PEN)
    theirs = make_base_env(EnvSpec("AdroitHandPen-v1", 200))
    ends = []
    for seed in range(6):
        draws = np.random.default_rng(seed)
        np.testing.assert_array_equal(ours.reset(seed=seed)[0], theirs.reset(seed=seed)[0])
        for step in range(100):
            # large actions throw the pen, small ones keep it
            action = ((seed % 2) * draws.uniform(-1, 1, 24)).astype(np.float32)
            observation, reward, terminated, truncated, _ = ours.step(action)
            expected, expected_reward, never, _, _ = theirs.step(action)
            np.testing.assert_array_equal(observation, expected)
            assert reward == expected_reward
            assert not never
            # entry 26 is the height of the pen
            assert terminated == (observation[26] < 0.075)
            assert truncated == (step == 99)
            if terminated:
                break
        ends.append(terminated)
    assert 0 < sum(ends) < 6


def kitchen():
    env = make_base_env(KITCHEN)
    return env, env.unwrapped._kitchen


def test_the_kitchen_is_observed_as_d4rl_does():
    env, inside = kitchen()
    observations = np.stack([env.reset(seed=seed)[0] for seed in range(200)])
    assert observations.shape == (200, 60)
    # the start, and D4RL's noise: 0.1 * 0.1 for the robot, 0.1 * 0.005 and less for most objects
    start = inside.robot_env.init_qpos
    noise = observations[:, :30] - start
    assert np.abs(noise[:, ROBOT]).max() <= 0.01 + 1e-9
    np.testing.assert_allclose(noise[:, ROBOT].std(axis=0), 0.02 / np.sqrt(12), rtol=0.2)
    # knobs, lights, switch and slide, hinges and microwave, kettle
    amplitudes = np.repeat([0.005, 0.0005, 0.005, 0.1, 0.005, 0.1, 0.005], [2, 6, 3, 3, 3, 3, 1])
    np.testing.assert_allclose(
        noise[:, OBJECTS].std(axis=0), 0.1 * 2 * amplitudes / np.sqrt(12), rtol=0.2
    )


def test_the_kitchens_goal_is_the_subtasks_and_zero_elsewhere():
    env, _ = kitchen()
    goal = env.reset(seed=0)[0][GOAL]
    # kitchen_envs.py: microwave, kettle, bottom burner, light switch
    expected = np.zeros(30)
    expected[[11, 12]] = -0.88, -0.01
    expected[[17, 18]] = -0.69, -0.05
    expected[22] = -0.75
    expected[23:] = -0.23, 0.75, 1.62, 0.99, 0.0, 0.0, -0.06
    np.testing.assert_array_equal(goal, expected)


def test_the_kitchen_rewards_each_subtask_once_and_ends_with_the_last():
    env, inside = kitchen()
    env.reset(seed=0)
    goal = env.step(np.zeros(9, np.float32))[0][GOAL]
    rewards, ended = [], False
    for entries in ([22], [22], [17, 18], list(range(23, 30)), [11, 12]):
        inside.data.qpos[entries] = goal[entries]
        inside.data.qvel[:] = 0
        _, reward, ended, _, _ = env.step(np.zeros(9, np.float32))
        rewards.append(reward)
    assert rewards == [1, 0, 1, 1, 1]
    assert ended


def test_the_kitchens_time_limit_and_seeds():
    assert KITCHEN.max_episode_steps == 280
    paths = []
    for _ in range(2):
        env = make_env(KITCHEN)
        env.reset(seed=3)
        paths.append(np.stack([env.step(np.full(9, 0.3, np.float32))[0] for _ in range(3)]))
    np.testing.assert_array_equal(*paths)
