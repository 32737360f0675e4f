"""Environments from specs: flat observations, time limits, and errors that name the cause."""

import pathlib
import tempfile

import gymnasium
import mujoco
import numpy as np
import pytest

from dtql_jax.envs.make import join_observation, make_base_env, make_env, register
from dtql_jax.envs.models import compiled_once
from dtql_jax.envs.spec import EnvSpec
from dtql_jax.errors import UserError

POINTMAZE = EnvSpec(
    "PointMaze_UMaze-v3",
    30,
    kwargs={"continuing_task": False},
    observation_keys=("desired_goal", "observation"),
)


def test_dict_observations_are_joined_in_the_order_of_the_keys():
    flat, parts = make_env(POINTMAZE), make_base_env(POINTMAZE)
    observation, _ = flat.reset(seed=3)
    given, _ = parts.reset(seed=3)
    expected = np.concatenate([given["desired_goal"], given["observation"]]).astype(np.float32)
    np.testing.assert_array_equal(observation, expected)
    assert observation.dtype == np.float32
    assert flat.observation_space.contains(observation)
    action = np.array([0.5, -0.5], np.float32)
    observation = flat.step(action)[0]
    given = parts.step(action)[0]
    np.testing.assert_array_equal(observation[2:], given["observation"].astype(np.float32))


def test_flat_observations_become_float32():
    env = make_env(EnvSpec("Hopper-v5", 10))
    observation, _ = env.reset(seed=0)
    assert (observation.shape, observation.dtype) == ((11,), np.float32)


def test_join_observation_works_on_leading_axes():
    given = {"a": np.zeros((5, 2)), "b": np.ones((5, 3))}
    joined = join_observation(given, ("b", "a"))
    np.testing.assert_array_equal(joined[0], [1, 1, 1, 0, 0])
    assert joined.shape == (5, 5)


def test_the_time_limit_is_that_of_the_spec():
    env = make_env(POINTMAZE)
    env.reset(seed=0)
    ends = [env.step(np.zeros(2, np.float32))[2:4] for _ in range(30)]
    assert ends[-1] == (False, True)
    assert not any(any(end) for end in ends[:-1])


def test_attributes_are_set_on_the_environment_itself():
    env = make_env(EnvSpec(**(vars(POINTMAZE) | {"attributes": {"position_noise_range": 0.0}})))
    for seed in range(3):
        observation, _ = env.reset(seed=seed)
        # without noise every goal is the centre of a cell
        assert observation[:2].tolist() == np.round(observation[:2]).tolist()


def test_mazes_leave_no_file_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    make_env(POINTMAZE).reset(seed=0)
    assert list(pathlib.Path(tmp_path).iterdir()) == []


def test_an_unknown_success_is_refused():
    with pytest.raises(UserError, match="'maybe'; known: reward, none"):
        EnvSpec("Hopper-v5", 5, success="maybe")


def test_a_spec_survives_storage():
    assert EnvSpec.from_dict(POINTMAZE.to_dict()) == POINTMAZE


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (EnvSpec("Hoper-v5", 10), "unknown environment id 'Hoper-v5': did you mean Hopper-v5"),
        (EnvSpec("Hopper-v5", 10, kwargs={"legs": 2}), "cannot be made with .*legs"),
        (EnvSpec("dtql_jax/AntMazeD4RL-v0", 10, kwargs={"maze": "u"}), "cannot be made with .*'u'"),
        (
            EnvSpec("dtql_jax/KitchenD4RL-v0", 10, kwargs={"tasks_to_complete": ["kettel"]}),
            "cannot be made with .*kettel",
        ),
        (EnvSpec("Hopper-v5", 10, attributes={"legs": 2}), "no attribute 'legs'"),
        (
            EnvSpec("Hopper-v5", 10, observation_keys=("a",)),
            r"observations of Hopper-v5 are Box of shape \(11,\); expected 'a'",
        ),
        (EnvSpec("PointMaze_UMaze-v3", 10), "are Dict of shape .*goal.*; expected one vector"),
        (EnvSpec("PointMaze_UMaze-v3", 10, observation_keys=("goal",)), "expected 'goal'"),
    ],
)
def test_errors_name_the_cause(spec, message):
    with pytest.raises(UserError, match=message) as caught:
        make_env(spec)
    assert "\n" not in str(caught.value)


def test_a_kitchen_that_mujoco_cannot_build_is_one_line():
    def broken(**_):
        raise AssertionError  # as Gymnasium-Robotics raises with MuJoCo 3.17

    gymnasium.register("dtql_test/Kitchen-v0", broken)
    try:
        with pytest.raises(
            UserError, match=r"AssertionError \(MuJoCo .*needs mujoco<3\.12"
        ) as caught:
            make_env(EnvSpec("dtql_test/Kitchen-v0", 10))
    finally:
        del gymnasium.registry["dtql_test/Kitchen-v0"]
    assert "\n" not in str(caught.value)


def test_robotics_environments_register_without_a_word(capfd):
    register("PointMaze_UMaze-v3")
    assert capfd.readouterr() == ("", "")


def test_copied_models_are_separate_and_step_to_the_same_bits():
    compile_model = mujoco.MjModel.from_xml_path
    cache = {}
    with compiled_once(cache):
        first, second = (gymnasium.make("Hopper-v5") for _ in range(2))
    assert len(cache) == 1
    assert mujoco.MjModel.from_xml_path is compile_model
    plain = gymnasium.make("Hopper-v5")
    first.unwrapped.model.body_mass[:] *= 2
    ends = []
    for env in (second, plain, first):
        env.reset(seed=0)
        for step in range(20):
            observation = env.step(np.full(3, np.sin(step), np.float32))[0]
        ends.append(observation)
    np.testing.assert_array_equal(ends[0], ends[1])
    assert np.abs(ends[2] - ends[1]).max() > 1e-3
