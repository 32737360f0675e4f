"""Networks: layer lists, initial values, and forms that must equal their plain definitions."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from dtql_jax import layers, networks

KEY = jax.random.key(0)


def shapes(module: nn.Module, *inputs: Any) -> dict[str, tuple[int, ...]]:
    params = jax.eval_shape(lambda key: module.init(key, *inputs), KEY)["params"]
    return {k: v.shape for k, v in flatten_dict(params, sep="/").items()}


def test_mish_equals_its_definition() -> None:
    x = np.concatenate([np.linspace(-30, 30, 4001), [-200.0, 88.0, 1e4]])
    expected = x * np.tanh(np.logaddexp(0.0, x))
    np.testing.assert_allclose(
        layers.mish(jnp.asarray(x, jnp.float32)), expected, rtol=2e-6, atol=1e-30
    )
    slope = jax.vmap(jax.grad(layers.mish))(jnp.asarray(x, jnp.float32))
    assert np.all(np.isfinite(slope))
    numeric = np.gradient(expected[:4001], x[:4001])
    np.testing.assert_allclose(slope[1:4000], numeric[1:-1], atol=2e-4)


def test_mish_slope_equals_its_definition() -> None:
    """tanh(p) + x * sigmoid(x) * (1 - tanh(p)^2) with p = softplus(x), in float64."""
    x = np.concatenate([np.linspace(-15, 30, 4001), [88.0, 1e4]])
    tanh = np.tanh(np.logaddexp(0.0, x))
    expected = tanh + x / (1.0 + np.exp(-x)) * (1.0 - tanh**2)
    slope = jax.vmap(jax.grad(layers.mish))(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-6)


def test_layer_norm_and_its_gradient_equal_flax() -> None:
    """Flax derives its gradient; ours is written out. The rows have a mean far from 0."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(3.0, 0.5, (7, 32)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(7, 32)), jnp.float32)
    params = {
        "params": {k: jnp.asarray(rng.normal(size=32), jnp.float32) for k in ("scale", "bias")}
    }

    def loss(module: nn.Module, params: dict, x: jax.Array) -> jax.Array:
        return jnp.sum(weights * module.apply(params, x) ** 2)

    ours, flax_norm = layers.LayerNorm(1e-5), nn.LayerNorm(1e-5, use_fast_variance=False)
    np.testing.assert_allclose(ours.apply(params, x), flax_norm.apply(params, x), atol=1e-5)
    found, expected = (jax.grad(loss, argnums=(1, 2))(m, params, x) for m in (ours, flax_norm))
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_double_critic_is_two_independent_critics() -> None:
    critics, observations, actions = networks.DoubleCritic(8), jnp.ones((5, 4)), jnp.ones((5, 2))
    params = jax.jit(critics.init)(KEY, observations, actions)
    both = critics.apply(params, observations, actions)
    assert both.shape == (2, 5)
    for i in range(2):
        one = {"params": jax.tree.map(lambda x, i=i: x[i], params["params"]["q"])}
        np.testing.assert_allclose(
            networks.Critic(8).apply(one, observations, actions), both[i], rtol=1e-5
        )
    assert not np.allclose(both[0], both[1])


def test_layers_of_the_method() -> None:
    action, observation = jnp.zeros((1, 3)), jnp.zeros((1, 11))
    denoiser = shapes(networks.Denoiser(), action, observation, jnp.zeros(1))
    assert denoiser["time/dense_0/kernel"] == (16, 32)
    assert denoiser["time/dense_1/kernel"] == (32, 16)
    assert denoiser["trunk/dense_0/kernel"] == (3 + 11 + 16, 256)
    assert denoiser["trunk/dense_4/kernel"] == (256, 3)
    critic = shapes(networks.DoubleCritic(), observation, action)
    assert critic["q/dense_0/kernel"] == (2, 14, 256)
    assert critic["q/norm_2/scale"] == (2, 256)
    value = shapes(networks.Value(), observation)
    assert not any("norm" in name for name in value)
    policy = shapes(networks.GaussianPolicy(), observation, 3)
    assert policy["dense_3/kernel"] == (256, 6)


def test_initial_values() -> None:
    value = jax.jit(networks.Value(64).init)(KEY, jnp.zeros((1, 16)))["params"]["dense_0"]
    for leaf in (value["kernel"], value["bias"]):
        assert np.max(np.abs(leaf)) <= 0.25  # 1 / sqrt(16)
    np.testing.assert_allclose(np.std(value["kernel"]), 0.25 / np.sqrt(3), rtol=0.1)
    policy = networks.GaussianPolicy(32).init(KEY, jnp.zeros((1, 8)), 2)["params"]
    kernel = np.asarray(policy["dense_1"]["kernel"])
    np.testing.assert_allclose(kernel @ kernel.T, np.eye(32), atol=1e-5)
    assert not np.any(policy["dense_1"]["bias"])


def test_policy_stays_within_its_bounds() -> None:
    policy = networks.GaussianPolicy(16)
    observations = 1e3 * jax.random.normal(KEY, (100, 8))
    mean, log_std = policy.apply(policy.init(KEY, observations, 2), observations, 2)
    assert np.min(log_std) >= -5.0
    assert np.max(log_std) <= 2.0
    noise = jax.random.normal(KEY, mean.shape)
    actions = networks.squash(mean, log_std, noise, 0.4)
    assert np.max(np.abs(actions)) <= 0.4 + 1e-6
