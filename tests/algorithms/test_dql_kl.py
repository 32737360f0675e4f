"""DQL-KL beyond the reference's replay: the distillation gradient, pretraining, acting."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.algorithms import dql_kl
from tests.algorithms import small

ROWS = 8


def config(**changes: Any) -> dql_kl.DQLKLConfig:
    return dql_kl.DQLKLConfig(**small.settings("dql_kl", **changes))


def test_distribution_matching_gradient_is_its_closed_form() -> None:
    """Networks that make D a constant b: F = (b - c_skip x) / c_out, with x = c_in^-1 * input."""
    rng = np.random.default_rng(0)
    actions, noise = (jnp.asarray(rng.normal(size=(6, 3)), jnp.float32) for _ in range(2))
    sigma = jnp.asarray(rng.uniform(0.2, 2.0, 6), jnp.float32)

    def network(b: float) -> Any:
        def raw(scaled: jax.Array, s: jax.Array, c_noise: jax.Array) -> jax.Array:
            level = jnp.exp(4.0 * c_noise)[..., None]
            root = jnp.sqrt(level**2 + 0.25)
            return (b - 0.25 / root**2 * (scaled * root)) / (level * 0.5 / root)

        return raw

    def loss(actions: jax.Array, fake: float) -> jax.Array:
        s = jnp.zeros((6, 1))
        return dql_kl.distribution_matching_loss(
            network(0.3), network(fake), actions, s, sigma, noise, None
        )

    weight = np.mean(np.abs(np.asarray(actions) - 0.3), axis=-1, keepdims=True)
    g = np.broadcast_to((-0.5 - 0.3) / weight, (6, 3))
    value, slope = jax.value_and_grad(loss)(actions, -0.5)
    np.testing.assert_allclose(value, 0.5 * np.mean(g**2), rtol=1e-4)
    np.testing.assert_allclose(slope, g / 18.0, rtol=1e-4)
    np.testing.assert_allclose(jax.grad(loss)(actions, 0.3), 0.0, atol=1e-6)


def test_pretraining_carries_the_diffusion_policy_into_policy_and_fake() -> None:
    c, batch, key = config(), small.batch(ROWS), jax.random.key(0)
    algorithm = dql_kl.dql_kl(c)
    state = small.jit(algorithm.init)(key, batch)
    after, _ = small.jit(algorithm.pretrain_step)(state, batch, key)
    assert small.max_difference(after.diffusion.params, state.diffusion.params) > 1e-5
    for part in (after.policy, after.fake_diffusion):
        assert small.max_difference(part.params, after.diffusion.params) == 0.0
        assert int(part.step) == 0
    assert small.max_difference(after.target_critics, state.target_critics) == 0.0


def test_acting_clips_the_chosen_action() -> None:
    algorithm, batch = dql_kl.dql_kl(config(generation_sigma=500.0)), small.batch(16)

    def act(key: jax.Array) -> jax.Array:
        return algorithm.act(algorithm.init(key, batch), batch.observations, key)

    actions = np.asarray(small.jit(act)(jax.random.key(0)))
    assert np.mean(np.abs(actions) == small.MAX_ACTION) > 0.3
