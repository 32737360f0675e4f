"""Decisions: bounded actions, the critics' Q-values, one panel for each state."""

import jax
import numpy as np
import pytest

from dtql_jax import networks
from dtql_jax.algorithms import make_algorithm
from dtql_jax.errors import UserError
from dtql_jax.plots import decisions
from dtql_jax.plots.mazes import Maze
from tests.algorithms import small

MAZE = Maze(((1, 1, 1, 1), (1, "r", "g", 1), (1, 0, 1, 1), (1, 1, 1, 1)), 2.0)


@pytest.fixture(scope="module")
def explained():
    settings = small.settings("dtql", action_selection="argmax")
    algorithm = make_algorithm("dtql", settings)
    state = small.jit(algorithm.init)(jax.random.key(0), small.batch(2))
    observations = np.asarray(small.batch(2).observations)
    found = decisions.explain("dtql", settings, state, observations, jax.random.key(1))
    return settings, state, observations, found


def test_a_decision_is_of_its_state(explained) -> None:
    settings, state, observations, (first, second) = explained
    assert first.candidates.shape == (256, 2) and first.chosen.shape == (64, 2)
    for part in (first.candidates, first.chosen, first.behaviour):
        assert np.abs(part).max() <= small.MAX_ACTION
    assert len(np.unique(first.candidates, axis=0)) == 256
    assert not np.allclose(first.candidates, second.candidates)
    # the contours are the target critics' min(Q1, Q2), the first action along the columns
    row, column = 7, 50
    action = np.array([[first.grid[column], first.grid[row]]], np.float32)
    critic = networks.DoubleCritic(settings["hidden_dim"])
    q = critic.apply(state.target_critics, observations[:1], action)
    np.testing.assert_allclose(first.q[row, column], q.min(), atol=1e-5)

    def q_near(actions: np.ndarray) -> float:
        places = np.abs(actions[..., None] - first.grid).argmin(axis=-1)
        return float(first.q[places[:, 1], places[:, 0]].mean())

    # the best of 8 candidates, not any
    assert q_near(first.chosen) > q_near(first.candidates)


def test_the_picture_has_a_panel_for_each_state(explained, kept) -> None:
    *_, found = explained
    positions = np.array([[-1.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    goal, steps = positions[2], np.array([0, 1])
    decisions.draw(
        found, "", maze=MAZE, positions=positions, steps=steps, goal=goal, title="t", subtitle="s"
    )
    titles = [axes.get_title("left") for axes in kept[0].axes[:3]]
    assert titles == ["states", "state 1: step 0", "state 2: step 1"]
    lines = {line.get_label(): line for line in kept[0].axes[1].get_lines()}
    np.testing.assert_allclose(lines["chosen"].get_xydata(), found[0].chosen)


def test_a_diffusion_that_acts_itself_has_no_second_one() -> None:
    settings = small.settings("dql")
    algorithm = make_algorithm("dql", settings)
    state = small.jit(algorithm.init)(jax.random.key(0), small.batch(2))
    observations = np.asarray(small.batch(1).observations)
    (found,) = decisions.explain("dql", settings, state, observations, jax.random.key(1))
    assert found.behaviour is None and np.ptp(found.q) > 0


def test_what_cannot_be_shown_is_named() -> None:
    with pytest.raises(UserError, match="iql has no candidates and critics"):
        decisions.check("iql", 2)
    with pytest.raises(UserError, match="actions have 8 entries"):
        decisions.check("dtql", 8)
