"""The bandits: data and rewards by hand, the training's parts, the numbers, the whole command."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from dtql_jax import networks
from dtql_jax.errors import UserError
from experiments.bandits import panels, problems, scoring, settings, training
from tests.commands.commands import call


def test_gaussians_lie_on_the_grid() -> None:
    bandit = problems.make("gaussians", "far", 20_000, seed=1)
    nearest = np.round(bandit.actions / 5.0) * 5.0
    assert {tuple(c) for c in nearest} == {
        (x, y) for x in (-10, -5, 0, 5, 10) for y in (-10, -5, 0, 5, 10)
    }
    np.testing.assert_allclose(np.std(bandit.actions - nearest, axis=0), 0.3, rtol=0.02)
    counts = np.unique(nearest, axis=0, return_counts=True)[1]
    assert counts.min() > 800 - 6 * 28  # 20,000 / 25, and six binomial deviations
    assert bandit.best == pytest.approx(np.sqrt(200.0))


def test_swiss_roll_has_radius_equal_to_angle() -> None:
    bandit = problems.make("swiss_roll", "near", 5_000)
    radius = np.linalg.norm(bandit.actions, axis=-1)
    assert 1.5 * np.pi - 0.5 < radius.min() < radius.max() < 4.5 * np.pi + 0.5
    turned = np.arctan2(bandit.actions[:, 1], bandit.actions[:, 0])
    wound = turned + 2 * np.pi * np.round((radius - turned) / (2 * np.pi))
    np.testing.assert_allclose(wound, radius, atol=0.6)
    # the inner end has radius 1.5 pi
    assert bandit.best == pytest.approx(radius.max() - 1.5 * np.pi, abs=1e-6)


def test_rewards_by_hand() -> None:
    known = problems.rewards(np.array([[3.0, 4.0], [-6.0, 8.0]]))
    a = np.array([[3.0, 4.0], [-8.0, 8.0], [-7.0, 8.0]])
    np.testing.assert_allclose(known["far"](a), [5.0, np.sqrt(128), np.sqrt(113)])
    np.testing.assert_allclose(known["near"](a), [5.0, 10 - np.sqrt(128), 10 - np.sqrt(113)])
    np.testing.assert_allclose(known["hard"](a), [5.0, 2 * np.sqrt(128), np.sqrt(113)])
    corners = np.array([[10.0, 10.0], [-10.0, -10.0], [10.0, 7.0]])
    np.testing.assert_allclose(known["two_corners"](corners), [10.0, 10.0, 7.0])


def test_spatial_order_keeps_neighbours_together() -> None:
    points = problems.make("gaussians", "far", 2_000).actions
    order = problems.spatial_order(points)
    assert sorted(order) == list(range(2_000))
    steps = np.linalg.norm(np.diff(points[order], axis=0), axis=-1)
    assert np.mean(steps) < 0.1 * np.mean(np.linalg.norm(np.diff(points, axis=0), axis=-1))


def test_quasi_random_points_are_stratified_and_even() -> None:
    points = np.asarray(training.quasi_random(jax.random.key(0), 64, 4))
    np.testing.assert_array_equal(np.floor(points[:, 0] * 64), np.arange(64))
    assert points.min() >= 0.0
    assert points.max() < 1.0
    errors = [
        np.mean(np.prod(np.asarray(training.quasi_random(jax.random.key(k), 64, 4)), axis=1))
        - 1 / 16
        for k in range(50)
    ]
    # of independent points the error's deviation is sqrt((1 / 81 - 1 / 256) / 64) = 0.0115
    assert np.sqrt(np.mean(np.square(errors))) < 0.7 * 0.0115


def test_gaussian_policy_is_the_last_bias_of_its_network() -> None:
    network = networks.GaussianPolicy(256)
    params = network.init(jax.random.key(0), training.STATE, 2)
    noise = jax.random.normal(jax.random.key(1), (5, 2))

    def mean_action(params: Any) -> jax.Array:
        mean, log_std = network.apply(params, training.STATE, 2)
        return jnp.mean(networks.squash(mean, log_std, noise, 11.0))

    bias = params["params"]["dense_3"]["bias"] + jnp.array([0.3, -0.2, -1.0, 0.5])
    params["params"]["dense_3"]["bias"] = bias
    own = jnp.mean(training.policy_actions(bias, noise, 11.0))
    np.testing.assert_allclose(mean_action(params), own, rtol=1e-6)
    slopes = jax.grad(mean_action)(params)["params"]
    assert np.all(np.asarray(slopes["dense_3"].pop("bias")) != 0.0)
    assert all(not np.any(x) for x in jax.tree.leaves(slopes))


def test_policy_loss_is_equation_9() -> None:
    state = training.init(jax.random.key(0), 1)
    behaviour, q = state.behaviour.params, state.panels[0].q.params
    policy, points = (
        jnp.array([0.5, -0.5, -2.0, -1.0]),
        jax.random.uniform(jax.random.key(1), (8, 5)),
    )
    losses = [
        float(training.policy_loss(policy, behaviour, q, points, 11.0, eta)) for eta in (0.0, 2.0)
    ]
    actions = training.policy_actions(policy, training.normal(points[:, :2]), 11.0)
    assert losses[0] - losses[1] == pytest.approx(
        2.0 * float(training.mean_q(q, actions)), rel=1e-4
    )
    assert losses[0] > 0.0


def test_networks_survive_their_vectors() -> None:
    state = training.init(jax.random.key(3), 1)
    trained = state.behaviour.params, state.panels[0].q.params
    again = training.unflatten(*(np.asarray(ravel_pytree(x)[0]) for x in trained))
    jax.tree.map(np.testing.assert_array_equal, again, trained)


def test_numbers_under_a_panel() -> None:
    bandit = problems.make("gaussians", "far", 10_000)
    corner, inner, gap = [10.0, 10.0], [5.0, 5.0], [7.5, 7.5]
    samples = np.array([corner, corner, inner, gap, [np.nan, 0.0]])
    found = scoring.score(samples, bandit)
    # rewards 1, 1, 0.5, 0.75 of the corner's; the gap is 3.5 from every mode, NaN is nowhere
    assert found.reward == pytest.approx(3.25 / 4)
    assert found.outside == pytest.approx(2 / 5)
    assert found.at_best == pytest.approx(2 / 5)
    assert found.distance < 0.3
    assert found.outcome == "partly outside"
    lost = scoring.score(np.full((3, 2), np.inf), bandit)
    assert lost.reward is None
    assert (lost.outside, lost.outcome) == (1.0, "runaway")


def test_numbers_of_a_population() -> None:
    inside = scoring.Numbers(1.0, 0.02, 0.9, 0.01)
    seeds = [
        scoring.Numbers(1e9, 1.0, 0.0, 1e9),
        inside,
        inside._replace(outside=0.01, at_best=0.1),
    ]
    found = scoring.over_seeds([*seeds, inside._replace(outside=0.03, reward=0.9)])
    assert found.outcomes == {"inside": 3, "partly outside": 0, "outside": 0, "runaway": 1}
    assert (found.inside_seeds, found.best_seeds) == (3, 2)
    assert found.shown == 1  # the middle one of the three
    assert found.reward == pytest.approx(1.0)
    assert found.outside == pytest.approx(1.06 / 4)


def test_wrong_settings_are_named() -> None:
    config = settings.get_config().to_dict() | {"seeds": 1}
    panel = config["panels"]["gaussians_far"]
    for changed, said in (
        ({"seeds": 0}, "seeds is 0"),
        ({"critic_rows": 20_000}, "critic_rows is 20000; expected at most points"),
        ({"panels": {"x": panel | {"updates": 60}}}, "panels.x.updates is 60; expected a multiple"),
        ({"variants": {"x": {"start": "top"}}}, "variants.x.start is 'top'"),
    ):
        with pytest.raises(UserError, match=said):
            panels.check(config | changed)
    with pytest.raises(UserError, match="did you mean swiss_roll"):
        problems.make("swissroll", "far", 10)
    with pytest.raises(UserError, match="no bandit reward 'fat'"):
        problems.make("gaussians", "fat", 10)


@pytest.mark.slow
def test_the_whole_command(tmp_path: Path) -> None:
    arguments = [f"--out={tmp_path}", "--config.seeds=1", "--config.points=300"]
    arguments += ["--config.samples=20", "--config.variants.own.updates=10"]
    arguments += [f"--config.{n}_rows=16" for n in ("critic", "denoiser", "policy", "generator")]
    for name in settings.PANELS:
        arguments += [f"--config.panels.{name}.{key}=50" for key in ("updates", "kl_updates")]
    ended = call("bandits", *arguments)
    assert ended.returncode == 0, ended.stderr
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert len(rows) == 15
    assert all(0.0 <= row["outside"] <= 1.0 for row in rows)
    assert (tmp_path / "bandits.png").read_bytes().startswith(b"\x89PNG")
    again = call("bandits", *arguments)
    assert again.returncode == 0, again.stderr
    assert "already in" in again.stderr
    assert json.loads((tmp_path / "table.json").read_text())["rows"] == rows
