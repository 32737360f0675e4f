"""A rotated ant moves as the ant itself does."""

import mujoco
import numpy as np
import pytest

from dtql_jax.collect.ant_frame import actions_from_view, view, view_one
from dtql_jax.datasets.registry import get_task
from dtql_jax.envs.make import make_base_env

ANTS = 6
SIGNS = np.array([1, 1, 1, -1, 1, -1, 1, 1])


def moved(model, ant, own_action):
    """The ant's 27 numbers after a tenth of a second, and how far it went."""
    data = mujoco.MjData(model)
    data.qpos[2:15], data.qvel[:14] = ant[:13], ant[13:]
    data.ctrl[:] = 30.0 * own_action
    mujoco.mj_step(model, data, nstep=5)
    return np.concatenate([data.qpos[2:15], data.qvel[:14]]), data.qpos[:2].copy()


@pytest.fixture(scope="module")
def model():
    env = make_base_env(get_task("antmaze-umaze").generated.env)
    yield env.unwrapped.model
    env.close()


def random_ants(rng):
    ants = np.zeros((ANTS, 27))
    ants[:, 0] = 0.6
    headings = rng.uniform(-np.pi, np.pi, ANTS)
    tilts = rng.normal(0.0, 0.1, (ANTS, 2))
    ants[:, 1:5] = np.stack([np.cos(headings / 2), *tilts.T, np.sin(headings / 2)], 1)
    ants[:, 1:5] /= np.linalg.norm(ants[:, 1:5], axis=1, keepdims=True)
    hips, ankles = rng.uniform(-0.4, 0.4, (ANTS, 4)), rng.uniform(0.6, 1.1, (ANTS, 4))
    ants[:, 5:13] = np.stack([hips, ankles * [1, -1, -1, 1]], 2).reshape(ANTS, 8)
    ants[:, 13:] = rng.normal(0.0, 0.5, (ANTS, 14))
    return ants


def test_the_ant_and_its_view_move_alike(model):
    rng = np.random.default_rng(0)
    ants, directions = random_ants(rng), rng.normal(size=(ANTS, 2))
    actions = rng.uniform(-1, 1, (ANTS, 8))
    seen, quarters = view(ants, directions)
    assert len(set(quarters.tolist())) > 1
    own = actions_from_view(actions, quarters)
    unturned = actions_from_view(actions, np.zeros(ANTS, int))
    for i in range(ANTS):
        after, way = moved(model, ants[i], own[i])
        turned = seen[i].copy()
        turned[5:13] *= SIGNS  # the view's ankles all have one sign
        turned[19:] *= SIGNS
        after_view, way_view = moved(model, turned, unturned[i])
        forward = directions[i] / np.linalg.norm(directions[i])
        np.testing.assert_allclose(
            way_view, [way @ forward, way @ [-forward[1], forward[0]]], atol=1e-9
        )
        again, now = view(after[None], directions[i : i + 1])
        if now[0] == quarters[i]:
            np.testing.assert_allclose(again[0, :5], after_view[:5], atol=1e-7)
            np.testing.assert_allclose(again[0, 13:19], after_view[13:19], atol=1e-6)


def test_the_direction_is_within_an_eighth_of_a_turn_of_the_heading():
    rng = np.random.default_rng(1)
    ants = random_ants(rng)
    seen = view(ants, rng.normal(size=(ANTS, 2)))[0]
    w, x, y, z = seen[:, 1:5].T
    headings = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    assert (w >= 0).all() and (np.abs(headings) <= np.pi / 4 + 1e-9).all()


def test_one_ant_and_its_action_are_turned_as_many_are():
    rng = np.random.default_rng(2)
    ants, directions, actions = random_ants(rng), rng.normal(size=(ANTS, 2)), rng.random((ANTS, 8))
    seen, quarters = view(ants, directions)
    own = actions_from_view(actions, quarters)
    one, quarter = view_one(ants[3], tuple(directions[3].tolist()))
    np.testing.assert_array_equal(one, seen[3])
    np.testing.assert_array_equal(actions_from_view(actions[3], quarter), own[3])
