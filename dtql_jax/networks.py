"""The networks of DTQL as Flax modules (paper, appendix; sizes and initialisers of the authors' program).

Parameters are float32. Kernels are (in, out); layers are named dense_0, norm_0, ... in the order
in which they are applied, so that stored weights read like the lists in the papers.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from dtql_jax.types import Array

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0


def mish(x: Array) -> Array:
    """Mish, x * tanh(softplus(x)) (Misra 2019, arXiv 1908.08681), elementwise.

    With n = e^x (e^x + 2), tanh(log(1 + e^x)) = n / (n + 2): one exponential and no logarithm.
    Above 20 the ratio is 1 in float32, and e^x must not overflow.
    """
    exp = jnp.exp(jnp.minimum(x, 20.0))
    n = exp * (exp + 2.0)
    return x * (n / (n + 2.0))


def _uniform_fan_in(fan_in: int) -> nn.initializers.Initializer:
    bound = fan_in**-0.5

    def init(key: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Linear(nn.Module):
    """x @ kernel + bias, kernel and bias uniform(+-1/sqrt(fan_in)): PyTorch's default."""

    features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        init = _uniform_fan_in(x.shape[-1])
        kernel = self.param("kernel", init, (x.shape[-1], self.features))
        bias = self.param("bias", init, (self.features,))
        return x @ kernel + bias


class TimeEmbedding(nn.Module):
    """Sinusoidal features of a scalar, then Linear, Mish, Linear: [...] -> [..., dim].

    Attributes:
      dim: number of sinusoidal features (even) and of outputs; the hidden layer has 2 * dim.
    """

    dim: int = 16

    @nn.compact
    def __call__(self, time: Array) -> Array:
        half = self.dim // 2
        frequencies = jnp.exp(-jnp.log(10_000.0) * jnp.arange(half) / (half - 1))
        angles = time[..., None] * frequencies
        features = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
        hidden = mish(Linear(2 * self.dim, name="dense_0")(features))
        return Linear(self.dim, name="dense_1")(hidden)


class _Trunk(nn.Module):
    """Linear without activation, three of Linear and Mish, Linear."""

    hidden_dim: int
    out_dim: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = Linear(self.hidden_dim, name="dense_0")(x)
        for i in range(1, 4):
            x = mish(Linear(self.hidden_dim, name=f"dense_{i}")(x))
        return Linear(self.out_dim, name="dense_4")(x)


class Denoiser(nn.Module):
    """The raw network F of the diffusion policy; `diffusion.edm.denoise` puts EDM's scaling around it.

    Call: noised actions [..., A] (already scaled by c_in), observations [..., O], time [...] -> [..., A].
    """

    action_dim: int
    hidden_dim: int = 256
    time_dim: int = 16

    @nn.compact
    def __call__(self, noised_actions: Array, observations: Array, time: Array) -> Array:
        embedding = TimeEmbedding(self.time_dim, name="time")(time)
        x = jnp.concatenate([noised_actions, observations, embedding], axis=-1)
        return _Trunk(self.hidden_dim, self.action_dim, name="trunk")(x)


class GaussianPolicy(nn.Module):
    """The one-step policy's Gaussian before the tanh: observations [..., O] -> mean, log_std [..., A].

    log_std is clipped to [-5, 2]. Orthogonal kernels, zero biases.
    """

    action_dim: int
    hidden_dim: int = 256

    @nn.compact
    def __call__(self, observations: Array) -> tuple[Array, Array]:
        x = observations
        init = nn.initializers.orthogonal()
        for i in range(3):
            x = nn.relu(nn.Dense(self.hidden_dim, kernel_init=init, name=f"dense_{i}")(x))
        x = nn.Dense(2 * self.action_dim, kernel_init=init, name="dense_3")(x)
        mean, log_std = jnp.split(x, 2, axis=-1)
        return mean, jnp.clip(log_std, LOG_STD_MIN, LOG_STD_MAX)


def squash(mean: Array, log_std: Array, eps: Array, max_action: float) -> Array:
    """Returns max_action * tanh(mean + exp(log_std) * eps): an action of the one-step policy [..., A]."""
    return max_action * jnp.tanh(mean + jnp.exp(log_std) * eps)


class Critic(nn.Module):
    """One Q function: observations [..., O], actions [..., A] -> [...]."""

    hidden_dim: int = 256

    @nn.compact
    def __call__(self, observations: Array, actions: Array) -> Array:
        x = jnp.concatenate([observations, actions], axis=-1)
        for i in range(3):
            x = Linear(self.hidden_dim, name=f"dense_{i}")(x)
            # the two-pass variance: the one-pass form loses digits where the mean is large
            x = mish(nn.LayerNorm(1e-5, use_fast_variance=False, name=f"norm_{i}")(x))
        return Linear(1, name="dense_3")(x)[..., 0]


class DoubleCritic(nn.Module):
    """Q1 and Q2 as one module with a leading axis of 2 on every parameter: -> [2, ...]."""

    hidden_dim: int = 256

    @nn.compact
    def __call__(self, observations: Array, actions: Array) -> Array:
        twins = nn.vmap(
            Critic,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=None,
            axis_size=2,
        )
        return twins(self.hidden_dim, name="q")(observations, actions)


class Value(nn.Module):
    """The state value V: observations [..., O] -> [...]. No LayerNorm."""

    hidden_dim: int = 256

    @nn.compact
    def __call__(self, observations: Array) -> Array:
        x = observations
        for i in range(3):
            x = mish(Linear(self.hidden_dim, name=f"dense_{i}")(x))
        return Linear(1, name="dense_3")(x)[..., 0]
