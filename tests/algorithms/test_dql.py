"""DQL beyond the reference's replay: clipping, the average's timing, backups, decay, settings."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dtql_jax.algorithms import common, dql
from dtql_jax.algorithms.config import as_arrays
from dtql_jax.presets.baselines import DQL, REWARDS
from tests.algorithms import small

ROWS = 8


def config(**changes: Any) -> dql.DQLConfig:
    return dql.DQLConfig(**small.settings("dql", **changes))


NETWORKS = dql.make_networks(config())


@pytest.fixture(scope="module")
def state() -> dql.DQLState:
    return small.jit(dql.dql(config()).init)(jax.random.key(0), small.batch(1))


@pytest.mark.parametrize(
    ("bound", "factor"), [(2.0, 2.0 / (5.0 + 1e-6)), (10.0, 1.0), (0.0, 1.0), (5.0, 1.0)]
)
def test_clip_by_norm(bound: float, factor: float) -> None:
    grads = {"a": jnp.array([3.0, 0.0]), "b": {"c": jnp.array([[4.0]])}}
    clipped, norm = dql.clip_by_norm(grads, jnp.float32(bound))
    assert float(norm) == pytest.approx(5.0)
    np.testing.assert_allclose(clipped["a"], [3.0 * factor, 0.0], rtol=1e-6)
    np.testing.assert_allclose(clipped["b"]["c"], [[4.0 * factor]], rtol=1e-6)


def test_average_moves_after_the_right_updates_of_a_scan(state: dql.DQLState) -> None:
    """After update k (from 0) where k >= 6 and 3 divides k: here 6 and 9."""
    c = config(ema_start=6, ema_every=3, ema_decay=0.9)
    state = state.replace(config=as_arrays(c))
    batch = small.batch(ROWS)

    def one(state: dql.DQLState, key: jax.Array) -> tuple[dql.DQLState, Any]:
        draws = dql.draw(c, key, ROWS, small.ACTION_DIM)
        state, _ = dql.train_update(NETWORKS, c, state, batch, draws)
        return state, (state.actor.params, state.ema_actor)

    run = small.jit(lambda s, keys: jax.lax.scan(one, s, keys)[1])
    actors, averages = run(state, jax.random.split(jax.random.key(1), 11))
    start, actors, averages = (
        np.asarray(tree["params"]["trunk"]["dense_0"]["kernel"])
        for tree in (state.ema_actor, actors, averages)
    )
    expected = start
    for k in range(11):
        if k in (6, 9):
            expected = 0.9 * expected + 0.1 * actors[k]
        np.testing.assert_allclose(averages[k], expected, atol=1e-6)
    assert np.max(np.abs(averages[-1] - start)) > 1e-5


def test_backup_takes_each_critics_best_action_then_the_lower_critic(state: dql.DQLState) -> None:
    c = config(max_q_backup=True, backup_actions=4)
    draws = dql.draw(c, jax.random.key(2), ROWS, small.ACTION_DIM)
    assert draws.next_action.initial.shape == (ROWS, 4, small.ACTION_DIM)
    observations = small.batch(ROWS).next_observations
    found = small.jit(lambda s: dql.next_q(NETWORKS, c, s, observations, draws.next_action))(state)

    @small.jit
    def q_of_action(k: jax.Array) -> jax.Array:
        noise = jax.tree.map(lambda x: jnp.take(x, k, axis=1), draws.next_action)
        actions = dql.sample_actions(NETWORKS, c, state.ema_actor, observations, noise)
        return NETWORKS.critic.apply(state.target_critics, observations, actions)

    q1, q2 = np.stack([q_of_action(jnp.int32(k)) for k in range(4)], axis=-1)  # each [B, 4]
    np.testing.assert_allclose(found, np.minimum(q1.max(-1), q2.max(-1)), rtol=1e-5)
    plain = dql.draw(config(), jax.random.key(2), ROWS, small.ACTION_DIM)
    assert plain.next_action.initial.shape == (ROWS, 1, small.ACTION_DIM)


def test_learning_rate_changes_once_an_epoch(state: dql.DQLState) -> None:
    """Adam's first step of a bias is the learning rate itself, up to its epsilon."""
    c = config(lr_decay=True, decay_steps=40, decay_every=10, grad_norm=0.0)
    state = state.replace(config=as_arrays(c))
    batch, draws = small.batch(ROWS), dql.draw(c, jax.random.key(3), ROWS, small.ACTION_DIM)

    @small.jit
    def largest_steps(k: jax.Array) -> tuple[jax.Array, jax.Array]:
        before = state.replace(actor=state.actor.replace(step=k))
        after, _ = dql.train_update(NETWORKS, c, before, batch, draws)

        def largest(a: Any, b: Any) -> jax.Array:
            moves = jax.tree.map(lambda x, y: jnp.max(jnp.abs(x - y)), a.params, b.params)
            return jnp.max(jnp.stack(jax.tree.leaves(moves)))

        return largest(after.actor, before.actor), largest(after.critics, before.critics)

    for k, epoch in ((0, 0), (9, 0), (10, 1), (19, 1), (25, 2), (40, 4), (55, 4)):
        factor = 0.5 * (1 + np.cos(np.pi * epoch / 4))
        np.testing.assert_allclose(largest_steps(jnp.int32(k)), 3e-4 * factor, rtol=2e-3, atol=1e-9)


def test_coin_chooses_the_critic_above_the_line(state: dql.DQLState) -> None:
    c, batch = config(), small.batch(ROWS)
    draws = dql.draw(c, jax.random.key(4), ROWS, small.ACTION_DIM)
    one = jnp.float32(1.0)
    actions = dql.sample_actions(
        NETWORKS, c, state.actor.params, batch.observations, draws.new_action
    )
    q = NETWORKS.critic.apply(state.critics.params, batch.observations, actions)
    update = small.jit(
        lambda use: dql.update_actor(NETWORKS, c, state, batch, draws._replace(use_first=use), one)
    )
    for i, use_first in ((0, True), (1, False)):
        metrics = update(jnp.asarray(use_first))[1]
        expected = -np.mean(q[i]) / np.mean(np.abs(q[1 - i]))
        np.testing.assert_allclose(metrics["q_loss"], expected, rtol=1e-4)
        total = metrics["bc_loss"] + 1.0 * metrics["q_loss"]
        np.testing.assert_allclose(metrics["actor_loss"], total, rtol=1e-5)


def test_the_actors_gradient_is_that_of_equation_3(state: dql.DQLState) -> None:
    """Taken apart for batches that are shared, it is the plain gradient of the whole loss."""
    c, batch = config(grad_norm=0.0, eta=0.7), small.batch(ROWS)
    draws = dql.draw(c, jax.random.key(5), ROWS, small.ACTION_DIM)

    def whole(params: Any) -> jax.Array:
        _, (bc_loss, q_i, q_j) = dql.actor_terms(
            (params, params), batch, draws, draws.use_first, NETWORKS, c, state
        )
        return dql.actor_loss(bc_loss, q_i, q_j, 0.7)

    grads = small.jit(jax.grad(whole))(state.actor.params)
    expected = state.actor.apply_gradients(grads, jnp.float32(3e-4))
    found, _ = small.jit(lambda s: dql.update_actor(NETWORKS, c, s, batch, draws, 1.0))(state)
    moments = found.actor.opt_state, expected.opt_state
    assert small.max_difference(*moments) < 1e-6
    assert float(optax.global_norm(grads)) > 0.1


def test_choice_among_candidates() -> None:
    actions = jnp.arange(8.0).reshape(4, 2)[None]
    q = jnp.array([[0.0, np.log(3.0), -np.inf, np.log(4.0)]])
    best = common.choose(actions, q, jax.random.key(0), "argmax")
    np.testing.assert_array_equal(best, [[6.0, 7.0]])
    keys = jax.random.split(jax.random.key(0), 8000)
    drawn = jax.vmap(lambda k: common.choose(actions, q, k, "softmax"))(keys)[:, 0, 0]
    shares = [np.mean(np.asarray(drawn) == x) for x in (0.0, 2.0, 4.0, 6.0)]
    np.testing.assert_allclose(shares, [1 / 8, 3 / 8, 0.0, 4 / 8], atol=0.02)


def test_settings_of_the_tasks_make_configurations() -> None:
    assert len(DQL) == 20
    for task, settings in DQL.items():
        names = ("learning_rate", "eta", "max_q_backup", "grad_norm")
        fields = {name: getattr(settings, name) for name in names}
        assert isinstance(dql.DQLConfig(**fields), dql.DQLConfig), task
    scale, shift = REWARDS["4(r - 0.5)"]
    assert (scale * 0.0 + shift, scale * 1.0 + shift) == (-2.0, 2.0)
    assert {t for t in DQL if DQL[t].reward == "4(r - 0.5)"} == {t for t in DQL if "antmaze" in t}


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match=r"ema_decay is 2\.0; expected a number in \[0, 1\]"):
        dql.dql(dql.DQLConfig(ema_decay=2.0))
    with pytest.raises(ValueError, match="time_dim is 3; expected an even number >= 4"):
        dql.dql(dql.DQLConfig(time_dim=3))
