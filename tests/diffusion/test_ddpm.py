"""DDPM against closed forms of Gaussian chains and a loop written from Bayes' rule."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.diffusion import ddpm

REFERENCE = Path(__file__).parents[1] / "reference" / "dql_gym.npz"


def test_betas_are_the_reference_programs() -> None:
    stored = np.load(REFERENCE)["config/betas"]
    np.testing.assert_allclose(ddpm.vp_schedule(5).betas, stored, rtol=1e-6)


@pytest.mark.parametrize("number", [1, 2, 5, 50])
def test_what_is_left_of_the_signal_does_not_depend_on_the_number_of_steps(number: int) -> None:
    # the exponents sum to -b_min - (b_max - b_min)/2, since the odd numbers 1 .. 2N-1 sum to N^2
    schedule = ddpm.vp_schedule(number)
    np.testing.assert_allclose(schedule.signal[-1] ** 2, np.exp(-0.1 - 9.9 / 2), rtol=1e-5)
    np.testing.assert_allclose(schedule.signal**2 + schedule.noise**2, 1.0, rtol=1e-6)


def posterior(betas: np.ndarray, t: int) -> tuple[float, float, float]:
    """Weights of x_0 and x_t and the deviation of q(x_{t-1} | x_t, x_0), by Bayes' rule."""
    before = np.prod(1.0 - betas[:t])
    if t == 0:  # x_{-1} is x_0 itself
        return 1.0, 0.0, 0.0
    prior, likelihood = 1.0 / (1.0 - before), (1.0 - betas[t]) / betas[t]
    precision = prior + likelihood
    weight_xt = np.sqrt(1.0 - betas[t]) / betas[t] / precision
    return np.sqrt(before) * prior / precision, weight_xt, precision**-0.5


def test_posterior_is_bayes_rule() -> None:
    schedule = ddpm.vp_schedule(5)
    for t in range(5):
        expected = posterior(schedule.betas.astype(np.float64), t)
        found = (schedule.mean_x0[t], schedule.mean_xt[t], schedule.std[t])
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_epsilon_loss_of_a_known_network() -> None:
    rng = np.random.default_rng(0)
    actions, noise = rng.normal(size=(2, 6, 3))
    observations, timestep = rng.normal(size=(6, 3)), np.array([0, 1, 2, 3, 4, 2])

    def network(x: jax.Array, s: jax.Array, t: jax.Array) -> jax.Array:
        return 0.5 * x + s * t[..., None]

    betas = 1 - np.exp(-0.1 / 5 - 9.9 * (2 * np.arange(1, 6) - 1) / 50)
    abar = np.cumprod(1 - betas)[timestep][:, None]
    noised = np.sqrt(abar) * actions + np.sqrt(1 - abar) * noise
    predicted = 0.5 * noised + observations * timestep[:, None]
    found = ddpm.epsilon_loss(
        network, ddpm.vp_schedule(5), *map(jnp.asarray, (actions, observations, timestep, noise))
    )
    np.testing.assert_allclose(found, np.mean((predicted - noise) ** 2), rtol=1e-5)


def test_reverse_chain_is_bayes_rule_with_a_clipped_guess_of_x0() -> None:
    rng, bound, betas = np.random.default_rng(1), 0.7, ddpm.vp_schedule(4).betas.astype(np.float64)
    initial, steps = rng.normal(size=(6, 2)), rng.normal(size=(4, 6, 2))
    observations = rng.normal(size=(6, 2))
    x, clipped = initial, 0
    for t, eps in zip((3, 2, 1, 0), steps, strict=True):
        abar = np.prod(1 - betas[: t + 1])
        guess = (x - np.sqrt(1 - abar) * (0.3 * x + 0.1 * t * observations)) / np.sqrt(abar)
        clipped += np.sum(np.abs(guess) > bound)
        from_x0, from_xt, std = posterior(betas, t)
        x = from_x0 * np.clip(guess, -bound, bound) + from_xt * x + std * eps
    assert 0 < clipped < 4 * x.size
    found = ddpm.sample(
        lambda x, s, t: 0.3 * x + 0.1 * t[..., None] * s,
        ddpm.vp_schedule(4),
        jnp.asarray(observations),
        ddpm.ChainNoise(jnp.asarray(initial), jnp.moveaxis(steps, 0, -2)),
        bound,
    )
    np.testing.assert_allclose(found, x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("clip", ["x0", "xt"])
def test_a_single_action_is_found_from_any_noise(clip: str) -> None:
    """Where the data is one action a, eps = (x - signal * a) / noise is exact."""
    schedule, action = ddpm.vp_schedule(5), jnp.array([0.9, -0.4, 0.0])

    def network(x: jax.Array, s: jax.Array, t: jax.Array) -> jax.Array:
        row = t.astype(jnp.int32)
        signal, noise = (jnp.asarray(c)[row][..., None] for c in (schedule.signal, schedule.noise))
        return (x - signal * action) / noise

    noise = ddpm.chain_noise(jax.random.key(0), 5, (7, 3))
    found = ddpm.sample(network, schedule, jnp.zeros((7, 1)), noise, 1.0, clip=clip)
    np.testing.assert_allclose(found, np.broadcast_to(action, (7, 3)), atol=1e-5)


@pytest.mark.parametrize("clip", ["x0", "xt"])
def test_samples_of_gaussian_data_have_its_deviation(clip: str) -> None:
    """Data N(0, d^2): E[eps | x_t] = noise * x_t / (signal^2 d^2 + noise^2)."""
    schedule, deviation = ddpm.vp_schedule(100), 0.6

    def network(x: jax.Array, s: jax.Array, t: jax.Array) -> jax.Array:
        row = t.astype(jnp.int32)
        signal, noise = (jnp.asarray(c)[row][..., None] for c in (schedule.signal, schedule.noise))
        return noise * x / (signal**2 * deviation**2 + noise**2)

    draw = jax.jit(lambda n: ddpm.sample(network, schedule, jnp.zeros((1,)), n, 100.0, clip=clip))
    found = draw(ddpm.chain_noise(jax.random.key(0), 100, (20_000, 1)))
    assert abs(float(jnp.std(found)) - deviation) < 0.03  # 100 steps leave 1 to 4 percent
    assert abs(float(jnp.mean(found))) < 0.02


@pytest.mark.parametrize("clip", ["x0", "xt"])
def test_samples_lie_within_the_bound_and_pass_a_gradient(clip: str) -> None:
    noise = ddpm.chain_noise(jax.random.key(0), 5, (64, 2))

    def mean_action(scale: jax.Array) -> jax.Array:
        actions = ddpm.sample(
            lambda x, s, t: scale * x,
            ddpm.vp_schedule(5),
            jnp.zeros((64, 1)),
            noise,
            0.5,
            clip=clip,
        )
        assert actions.shape == (64, 2)
        return jnp.mean(actions**2)

    assert float(mean_action(jnp.float32(-50.0))) <= 0.25 + 1e-6
    value, slope = jax.value_and_grad(mean_action)(jnp.float32(0.9))
    numeric = (mean_action(jnp.float32(0.901)) - mean_action(jnp.float32(0.899))) / 0.002
    assert 0.0 < float(value) < 0.25
    np.testing.assert_allclose(slope, numeric, rtol=0.1)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="num_steps is 0"):
        ddpm.vp_schedule(0)
    noise = ddpm.chain_noise(jax.random.key(0), 1, (1, 1))
    with pytest.raises(ValueError, match="clip is 'x1'"):
        ddpm.sample(lambda *a: a[0], ddpm.vp_schedule(1), jnp.zeros((1, 1)), noise, 1.0, clip="x1")
