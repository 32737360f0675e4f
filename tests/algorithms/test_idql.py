"""IDQL: the rows of its updates, AdamW, the average, and the choice among candidates."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax import networks
from dtql_jax.algorithms import idql
from tests.algorithms import small

ROWS = 8


def config(**changes: Any) -> idql.IDQLConfig:
    return idql.IDQLConfig(**small.settings("idql", **changes))


NETWORKS = idql.make_networks(config())


@pytest.fixture(scope="module")
def state() -> idql.IDQLState:
    return small.jit(idql.idql(config()).init)(jax.random.key(0), small.batch(1))


TWO = {"actor_updates": 2, "critic_rows": 3}


def test_rows_of_the_actor_updates() -> None:
    batch = small.batch(9)
    first, second = idql.actor_batches(config(**TWO), batch)
    np.testing.assert_array_equal(first.rewards, batch.rewards[:4])
    np.testing.assert_array_equal(second.rewards, batch.rewards[5:])
    (whole,) = idql.actor_batches(config(), batch)
    np.testing.assert_array_equal(whole.rewards, batch.rewards)
    for part in idql.actor_batches(config(**TWO), small.batch(1)):
        assert part.rewards.shape == (1,)
    draws = idql.draw(config(**TWO), jax.random.key(0), batch)
    assert [d.noise.shape for d in draws] == [(4, small.ACTION_DIM)] * 2
    assert not np.allclose(draws[0].noise, draws[1].noise)


def test_first_release_updates_the_actor_twice(state: idql.IDQLState) -> None:
    c, batch = config(**TWO), small.batch(ROWS)
    draws = idql.draw(c, jax.random.key(1), batch)
    train = small.jit(lambda s, b: idql.train_update(NETWORKS, c, s, b, draws))
    after, metrics = train(state, batch)
    assert int(after.actor.step) == 2
    assert int(after.critics.step) == int(after.value.step) == 1

    rows = jax.tree.map(lambda x: x[:3], batch)
    expected, _ = small.jit(lambda s: idql.update_critics(NETWORKS, c, s, rows))(state)
    assert small.max_difference(after.critics, expected.critics) < 1e-6
    assert small.max_difference(after.target_critics, expected.target_critics) < 1e-6
    # the actor is a model of the behaviour: it sees no rewards
    other, _ = train(state, batch._replace(rewards=batch.rewards + 1.0))
    assert small.max_difference(other.actor, after.actor) == 0.0
    assert small.max_difference(other.critics, after.critics) > 1e-6
    assert np.isfinite(metrics["actor_loss"]) and np.isfinite(metrics["actor_0_loss"])


def test_average_and_decoupled_decay(state: idql.IDQLState) -> None:
    batch = small.batch(ROWS)
    draws = idql.draw(config(), jax.random.key(2), batch)[0]

    def step(c: idql.IDQLConfig) -> idql.IDQLState:
        return small.jit(lambda s: idql.update_actor(NETWORKS, c, s, batch, draws)[0])(state)

    plain = step(config(ema_rate=0.25, weight_decay=0.0))
    decayed = step(config(ema_rate=0.25, weight_decay=10.0))
    before, after, with_decay, average = (
        s["params"]["block_0"]["dense_0"]
        for s in (state.actor.params, plain.actor.params, decayed.actor.params, plain.ema_actor)
    )
    for name in ("kernel", "bias"):
        expected = 0.25 * np.asarray(after[name]) + 0.75 * np.asarray(before[name])
        np.testing.assert_allclose(average[name], expected, atol=1e-6)
        shrunk = np.asarray(after[name]) - 3e-4 * 10.0 * np.asarray(before[name])
        np.testing.assert_allclose(with_decay[name], shrunk, atol=1e-6)


def test_learning_rate_decays_over_training_steps(state: idql.IDQLState) -> None:
    """With two actor updates a step, decay_steps training steps are twice as many of the actor."""
    c, batch = config(decay_steps=10, actor_updates=2), small.batch(ROWS)
    draws = idql.draw(config(), jax.random.key(3), batch)[0]

    @small.jit
    def largest(k: jax.Array) -> jax.Array:
        before = state.replace(actor=state.actor.replace(step=k))
        after = idql.update_actor(NETWORKS, c, before, batch, draws)[0]
        bias = [s.actor.params["params"]["dense_1"]["bias"] for s in (before, after)]
        return jnp.max(jnp.abs(bias[1] - bias[0]))

    found = [largest(jnp.int32(k)) for k in (0, 10, 20, 30)]
    np.testing.assert_allclose(found, [3e-4, 1.5e-4, 0.0, 0.0], rtol=2e-3, atol=1e-9)


def test_expectile_choice_has_the_expectile_weights() -> None:
    q, v = jnp.array([[1.0, -1.0, 3.0, 0.0]]), jnp.array([0.0])
    weights = np.exp(idql.expectile_logits(q, v, 0.9))
    np.testing.assert_allclose(weights, [[0.9, 0.1, 0.9, 0.1]], rtol=1e-5)


def test_acting_takes_the_best_of_the_averaged_actors_samples(state: idql.IDQLState) -> None:
    observations = jax.random.normal(jax.random.key(4), (256, small.OBSERVATION_DIM))
    critic = NETWORKS.critic
    other = jax.tree.map(lambda x: x * jnp.nan, state.actor.params)
    state = state.replace(actor=state.actor.replace(params=other))  # must not be used

    def mean_q(**changes: Any) -> float:
        algorithm = idql.idql(config(**changes))
        act = small.jit(lambda k: algorithm.act(state, observations, k))
        q = critic.apply(state.target_critics, observations, act(jax.random.key(5)))
        return float(jnp.mean(jnp.min(q, axis=0)))

    single = mean_q(action_selection="single")
    best = mean_q(num_candidates=16)
    weighted = mean_q(action_selection="expectile", num_candidates=16)
    assert single < best
    assert weighted < best


def test_dropout_is_for_training_alone() -> None:
    network = networks.ResidualDenoiser(8, num_blocks=1, time_dim=4, dropout=0.5)
    inputs = (jnp.ones((3, 2)), jnp.ones((3, 4)), jnp.ones((3,)))
    params = small.jit(network.init)(jax.random.key(0), *inputs)

    @small.jit
    def train(kept: jax.Array) -> jax.Array:
        return network.apply(params, *inputs, kept)

    drawn = jax.random.bernoulli(jax.random.key(1), 0.5, (3, 1, 8))
    without = small.jit(network.apply)(params, *inputs)
    assert not np.allclose(train(drawn), without)
    # rows of which all is kept: twice the inputs, which LayerNorm takes back
    np.testing.assert_allclose(train(jnp.ones((3, 1, 8), bool)), without, rtol=1e-4, atol=1e-5)
    assert np.all(np.isfinite(without))
    assert params["params"]["block_0"]["dense_0"]["kernel"].shape == (8, 32)
    assert params["params"]["fourier"]["kernel"].shape == (2,)
