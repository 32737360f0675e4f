"""DDPM with few steps (Ho et al. 2020, arXiv 2006.11239) as Diffusion-QL and IDQL have it.

x is an action [..., A]; t = 0 .. N-1 counts noise steps, N-1 the noisiest. `network` predicts the
noise: (x_t [..., A], observations [..., O], t [...] float) -> eps [..., A].
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.types import Array

# of the variance-preserving schedule (Diffusion-QL, arXiv 2208.06193)
B_MIN, B_MAX = 0.1, 10.0

Network = Callable[[Array, Array, Array], Array]


class Schedule(NamedTuple):
    """A noise schedule, each [N] float32: x_t = signal * x_0 + noise * eps."""

    betas: np.ndarray  # variance added by step t
    signal: np.ndarray  # sqrt(abar_t), abar_t = prod of 1 - beta up to t
    noise: np.ndarray  # sqrt(1 - abar_t)
    mean_x0: np.ndarray  # weight of x_0 in the posterior mean of x_{t-1} (equation 7)
    mean_xt: np.ndarray  # weight of x_t in it
    std: np.ndarray  # standard deviation of the posterior, 0 at t = 0


def vp_schedule(num_steps: int) -> Schedule:
    """beta_i = 1 - exp(-b_min/N - (b_max - b_min)(2i - 1)/(2 N^2)), i = 1 .. N = `num_steps`."""
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}; expected at least 1")
    i = np.arange(1, num_steps + 1)
    betas = -np.expm1(-B_MIN / num_steps - (B_MAX - B_MIN) * (2 * i - 1) / (2 * num_steps**2))
    abar = np.cumprod(1.0 - betas)
    before = np.append(1.0, abar[:-1])
    columns = (
        betas,
        np.sqrt(abar),
        np.sqrt(1.0 - abar),
        betas * np.sqrt(before) / (1.0 - abar),
        (1.0 - before) * np.sqrt(1.0 - betas) / (1.0 - abar),
        np.sqrt(betas * (1.0 - before) / (1.0 - abar)),
    )
    return Schedule(*(column.astype(np.float32) for column in columns))


def epsilon_loss(
    network: Network,
    schedule: Schedule,
    actions: Array,
    observations: Array,
    timestep: Array,
    noise: Array,
) -> Array:
    """Mean over batch and action dimensions of (network(x_t) - eps)^2 (equation 14).

    Shapes: actions [B, A], observations [B, O], timestep [B] integers in [0, N), noise eps [B, A].
    """
    signal = jnp.asarray(schedule.signal)[timestep][..., None]
    scale = jnp.asarray(schedule.noise)[timestep][..., None]
    noised = signal * actions + scale * noise
    predicted = network(noised, observations, timestep.astype(jnp.float32))
    return jnp.mean((predicted - noise) ** 2)


class ChainNoise(NamedTuple):
    """The random numbers of one reverse chain, standard normal."""

    initial: Array  # x_N, [..., A]
    steps: Array  # [..., N, A] in the order of use, from t = N-1 down to 0; the last is not used


def chain_noise(key: Array, num_steps: int, shape: tuple[int, ...]) -> ChainNoise:
    """Draws the random numbers of reverse chains of actions of `shape` [..., A]."""
    initial_key, steps_key = jax.random.split(key)
    steps = jax.random.normal(steps_key, (num_steps, *shape))
    return ChainNoise(jax.random.normal(initial_key, shape), jnp.moveaxis(steps, 0, -2))


def sample(
    network: Network,
    schedule: Schedule,
    observations: Array,
    noise: ChainNoise,
    max_action: float,
    *,
    clip: str = "x0",
) -> Array:
    """Ancestral sampling (algorithm 2) through all N steps; gradients flow through the whole chain.

    Args:
      network: predicts the noise.
      schedule: noise schedule of N steps.
      observations: [..., O].
      noise: the chain's only randomness.
      max_action: bound of the action space.
      clip: "x0" (Diffusion-QL) clips the x_0 that each step predicts, before the posterior mean
        (equation 7), and adds noise of the posterior's deviation. "xt" (IDQL) clips each x_{t-1},
        with the mean of algorithm 2 and noise of deviation sqrt(beta_t).

    Returns:
      Actions [..., A] within +-max_action.
    """
    if clip not in ("x0", "xt"):
        raise ValueError(f"clip is {clip!r}; expected 'x0' or 'xt'")

    def bounded(x: Array) -> Array:
        return jnp.clip(x, -max_action, max_action)

    def step(x: Array, inputs: tuple[Array, Schedule, Array]) -> tuple[Array, None]:
        t, c, eps = inputs
        predicted = network(x, observations, jnp.broadcast_to(t, x.shape[:-1]))
        if clip == "x0":
            x0 = bounded(x / c.signal - (c.noise / c.signal) * predicted)
            return c.mean_x0 * x0 + c.mean_xt * x + c.std * eps, None
        mean = (x - c.betas / c.noise * predicted) / jnp.sqrt(1.0 - c.betas)
        return bounded(mean + jnp.where(t > 0, jnp.sqrt(c.betas), 0.0) * eps), None

    number = len(schedule.betas)
    times = jnp.arange(number - 1, -1, -1, dtype=jnp.float32)
    backwards = jax.tree.map(lambda c: jnp.asarray(c[::-1]), schedule)
    # few and short steps: unrolled, the compiler fuses across them
    inputs = (times, backwards, jnp.moveaxis(noise.steps, -2, 0))
    x, _ = jax.lax.scan(step, noise.initial, inputs, unroll=number)
    return bounded(x)
