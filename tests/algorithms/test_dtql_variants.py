"""DTQL's variants: kinds of one-step policy, and settings that exclude one another."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.algorithms import dtql, one_step_policies
from tests.algorithms import small

ROWS = 8


def config(**changes: Any) -> dtql.DTQLConfig:
    return dtql.DTQLConfig(**small.settings("dtql", **changes))


def policy(c: dtql.DTQLConfig) -> one_step_policies.OneStepPolicy:
    return dtql.make_networks(c).policy


def sample(c: dtql.DTQLConfig, params: Any, observations: jax.Array, noise: jax.Array) -> Any:
    return policy(c).sample(params, observations, noise, c.generation_sigma)


def fresh(c: dtql.DTQLConfig) -> Any:
    observation, action = jnp.zeros((1, small.OBSERVATION_DIM)), jnp.zeros((1, small.ACTION_DIM))
    init = small.jit(lambda key: policy(c).init(key, observation, action))
    return init(jax.random.key(0))


def test_deterministic_policy_is_the_gaussians_mean() -> None:
    params, s = fresh(config()), small.batch(ROWS).observations
    noise = jax.random.normal(jax.random.key(1), (ROWS, small.ACTION_DIM))
    actions, gaussian = sample(config(policy="deterministic"), params, s, noise)
    assert gaussian is None
    at_mean, moments = sample(config(), params, s, jnp.zeros_like(noise))
    np.testing.assert_array_equal(actions, at_mean)
    np.testing.assert_allclose(actions, small.MAX_ACTION * np.tanh(moments.mean), rtol=1e-6)


def test_implicit_policy_is_the_raw_network_at_the_generation_sigma() -> None:
    """F(sigma_g eps, s, sigma_g), layer by layer in numpy; no EDM scaling, no clipping."""
    c = config(policy="implicit", generation_sigma=1.7)
    params, s = fresh(c), small.batch(ROWS).observations
    eps = np.asarray(jax.random.normal(jax.random.key(1), (ROWS, small.ACTION_DIM)))

    def dense(layer: Any, x: np.ndarray) -> np.ndarray:
        return x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])

    def mish(x: np.ndarray) -> np.ndarray:
        return x * np.tanh(np.logaddexp(0.0, x))

    time, trunk = params["params"]["time"], params["params"]["trunk"]
    angles = 1.7 * np.exp(-np.log(10_000.0) * np.arange(4) / 3)
    features = np.concatenate([np.sin(angles), np.cos(angles)])
    embedding = dense(time["dense_1"], mish(dense(time["dense_0"], features)))
    x = np.concatenate([1.7 * eps, np.asarray(s), np.broadcast_to(embedding, (ROWS, 8))], axis=-1)
    x = dense(trunk["dense_0"], x)
    for i in range(1, 4):
        x = mish(dense(trunk[f"dense_{i}"], x))
    expected = dense(trunk["dense_4"], x)
    found, gaussian = sample(c, params, s, jnp.asarray(eps))
    assert gaussian is None
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", one_step_policies.POLICIES)
def test_several_actions_an_observation_equal_one_at_a_time(kind: str) -> None:
    c = config(policy=kind)
    params, s = fresh(c), small.batch(3).observations
    noise = jax.random.normal(jax.random.key(1), (3, 4, small.ACTION_DIM))
    several, _ = sample(c, params, s, noise)
    for i in range(4):
        one, _ = sample(c, params, s, noise[:, i])
        np.testing.assert_allclose(several[:, i], one, rtol=1e-5, atol=1e-6)


def test_implicit_policy_starts_from_the_pretrained_diffusion_policy() -> None:
    algorithm = dtql.dtql(config(policy="implicit"))
    batch, key = small.batch(ROWS), jax.random.key(0)
    state = small.jit(algorithm.init)(key, batch)
    after, _ = small.jit(algorithm.pretrain_step)(state, batch, key)
    assert small.max_difference(after.policy.params, after.diffusion.params) == 0.0
    assert small.max_difference(after.policy.params, state.policy.params) > 1e-5
    assert int(after.policy.step) == 0


@pytest.mark.parametrize("kind", ["deterministic", "implicit"])
def test_nll_needs_the_gaussian(kind: str) -> None:
    with pytest.raises(ValueError, match=rf"gamma is 1\.0 with policy '{kind}'"):
        dtql.dtql(dtql.DTQLConfig(gamma=1.0, policy=kind))
    dtql.dtql(dtql.DTQLConfig(policy=kind))
    dtql.dtql(dtql.DTQLConfig(gamma=1.0))
    with pytest.raises(ValueError, match="policy is 'flow'; expected one of"):
        dtql.dtql(dtql.DTQLConfig(policy="flow"))
