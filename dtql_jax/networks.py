"""The networks as Flax modules: DTQL's (paper, appendix; sizes and initialisers of the authors'
program), then those that only a baseline has.

Parameters are float32. Kernels are (in, out); layers are named dense_0, norm_0, ... in the order
in which they are applied, so that stored weights read like the lists in the papers.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from dtql_jax.types import Array

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0


@jax.custom_vjp
def mish(x: Array) -> Array:
    """Mish, x * tanh(softplus(x)) (Misra 2019, arXiv 1908.08681), elementwise.

    With n = e^x (e^x + 2), tanh(log(1 + e^x)) = n / (n + 2): one exponential and no logarithm. The
    gradient is written out too, (n + 4x e^x w / (w^2 + 1)) / (w^2 + 1) with w = e^x + 1: derived,
    it would keep five arrays of x's size between the passes, where this one keeps x. w^2 + 1 is
    n + 2, but where n stands once, XLA makes one loop of all this and stores no n.
    """
    exp = _bounded_exp(x)
    n = exp * (exp + 2.0)
    return x * (n / (n + 2.0))


def _bounded_exp(x: Array) -> Array:
    """e^x. Above 20, n / (n + 2) is 1 in float32, and e^x must not overflow."""
    return jnp.exp(jnp.minimum(x, 20.0))


def _mish_forward(x: Array) -> tuple[Array, Array]:
    return mish(x), x


def _mish_backward(x: Array, cotangent: Array) -> tuple[Array]:
    exp = _bounded_exp(x)
    w = exp + 1.0
    inverse = 1.0 / (w * w + 1.0)
    slope = (exp * (exp + 2.0) + 4.0 * x * (exp * w) * inverse) * inverse
    return (cotangent * slope,)


mish.defvjp(_mish_forward, _mish_backward)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def normalize(x: Array, epsilon: float) -> Array:
    """(x - mean) / sqrt(variance + epsilon) over the last axis (Ba et al. 2016, arXiv 1607.06450).

    The variance is that of the centred x (two passes): the one-pass form loses digits where the
    mean is large. The gradient is written out for what `mish` says: it keeps the result and one
    number a row.
    """
    return _normalize_parts(x, epsilon)[0]


def _normalize_parts(x: Array, epsilon: float) -> tuple[Array, Array]:
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(centred**2, axis=-1, keepdims=True)
    scale = jax.lax.rsqrt(variance + epsilon)
    return centred * scale, scale


def _normalize_forward(x: Array, epsilon: float) -> tuple[Array, tuple[Array, Array]]:
    y, scale = _normalize_parts(x, epsilon)
    return y, (y, scale)


def _normalize_backward(
    epsilon: float, kept: tuple[Array, Array], cotangent: Array
) -> tuple[Array]:
    y, scale = kept
    mean = jnp.mean(cotangent, axis=-1, keepdims=True)
    along = jnp.mean(cotangent * y, axis=-1, keepdims=True)
    return (scale * (cotangent - mean - y * along),)


normalize.defvjp(_normalize_forward, _normalize_backward)


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


class LayerNorm(nn.Module):
    """`normalize`, then times scale plus bias, which start as 1 and 0: [..., H] -> [..., H]."""

    epsilon: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", nn.initializers.ones_init(), (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros_init(), (x.shape[-1],))
        return normalize(x, self.epsilon) * scale + bias


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
    """Linear without activation (`input_layer`), three of Linear and Mish, Linear."""

    hidden_dim: int
    out_dim: int
    input_layer: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        first = int(self.input_layer)
        if self.input_layer:
            x = Linear(self.hidden_dim, name="dense_0")(x)
        for i in range(first, first + 3):
            x = mish(Linear(self.hidden_dim, name=f"dense_{i}")(x))
        return Linear(self.out_dim, name=f"dense_{first + 3}")(x)


class Denoiser(nn.Module):
    """The raw network F of the diffusion policy; `diffusion.edm.denoise` puts EDM's scaling around.

    Call: noised actions [..., A] (already scaled), observations [..., O], time [...] -> [..., A].
    """

    action_dim: int
    hidden_dim: int = 256
    time_dim: int = 16

    @nn.compact
    def __call__(self, noised_actions: Array, observations: Array, time: Array) -> Array:
        embedding = TimeEmbedding(self.time_dim, name="time")(time)
        x = jnp.concatenate([noised_actions, observations, embedding], axis=-1)
        return _Trunk(self.hidden_dim, self.action_dim, name="trunk")(x)


class NoisePredictor(nn.Module):
    """DQL's actor: as `Denoiser`, but without the first Linear and with the time before the state.

    Call: noised actions [..., A], observations [..., O], step [...] -> noise [..., A].
    """

    action_dim: int
    hidden_dim: int = 256
    time_dim: int = 16

    @nn.compact
    def __call__(self, noised_actions: Array, observations: Array, time: Array) -> Array:
        embedding = TimeEmbedding(self.time_dim, name="time")(time)
        x = jnp.concatenate([noised_actions, embedding, observations], axis=-1)
        return _Trunk(self.hidden_dim, self.action_dim, input_layer=False, name="trunk")(x)


class GaussianPolicy(nn.Module):
    """The one-step policy's Gaussian before the tanh: [..., O] -> mean, log_std, each [..., A].

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
    """max_action * tanh(mean + exp(log_std) * eps): an action of the one-step policy [..., A]."""
    return max_action * jnp.tanh(mean + jnp.exp(log_std) * eps)


class Critic(nn.Module):
    """One Q function: observations [..., O], actions [..., A] -> [...].

    Attributes:
      hidden_dim: width.
      depth: hidden layers.
      layer_norm: LayerNorm before each activation, as DTQL has it.
      activation: Mish; IQL has ReLU.
    """

    hidden_dim: int = 256
    depth: int = 3
    layer_norm: bool = True
    activation: Callable[[Array], Array] = mish

    @nn.compact
    def __call__(self, observations: Array, actions: Array) -> Array:
        x = jnp.concatenate([observations, actions], axis=-1)
        for i in range(self.depth):
            x = Linear(self.hidden_dim, name=f"dense_{i}")(x)
            if self.layer_norm:
                x = LayerNorm(1e-5, name=f"norm_{i}")(x)
            x = self.activation(x)
        return Linear(1, name=f"dense_{self.depth}")(x)[..., 0]


class DoubleCritic(nn.Module):
    """Q1 and Q2 as one module with a leading axis of 2 on every parameter: -> [2, ...].

    The attributes are those of `Critic`.
    """

    hidden_dim: int = 256
    depth: int = 3
    layer_norm: bool = True
    activation: Callable[[Array], Array] = mish

    @nn.compact
    def __call__(self, observations: Array, actions: Array) -> Array:
        twins = nn.vmap(
            Critic,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=0,
            axis_size=2,
        )
        critic = twins(self.hidden_dim, self.depth, self.layer_norm, self.activation, name="q")
        # both get their own input: shared, XLA makes one wide product of the first layer and
        # transposes all of its results
        return critic(*(jnp.broadcast_to(x, (2, *x.shape)) for x in (observations, actions)))


class Value(nn.Module):
    """The state value V: observations [..., O] -> [...]. No LayerNorm."""

    hidden_dim: int = 256
    depth: int = 3
    activation: Callable[[Array], Array] = mish

    @nn.compact
    def __call__(self, observations: Array) -> Array:
        x = observations
        for i in range(self.depth):
            x = self.activation(Linear(self.hidden_dim, name=f"dense_{i}")(x))
        return Linear(1, name=f"dense_{self.depth}")(x)[..., 0]


class FixedStdPolicy(nn.Module):
    """IQL's Gaussian policy: observations [..., O] -> mean [..., A], log_std [A].

    The mean is max_action * tanh of two hidden ReLU layers' output, log_std a parameter that does
    not depend on the observation, clipped to [-5, 2]. The action itself is not squashed.
    """

    action_dim: int
    hidden_dim: int = 256
    max_action: float = 1.0

    @nn.compact
    def __call__(self, observations: Array) -> tuple[Array, Array]:
        x = observations
        for i in range(2):
            x = nn.relu(Linear(self.hidden_dim, name=f"dense_{i}")(x))
        mean = self.max_action * jnp.tanh(Linear(self.action_dim, name="dense_2")(x))
        log_std = self.param("log_std", nn.initializers.zeros_init(), (self.action_dim,))
        return mean, jnp.clip(log_std, LOG_STD_MIN, LOG_STD_MAX)


class FourierFeatures(nn.Module):
    """Learnable Fourier features of a scalar: [...] -> [..., dim], cosines then sines.

    Frequencies start normal with standard deviation 0.2 (IDQL).
    """

    dim: int = 64

    @nn.compact
    def __call__(self, time: Array) -> Array:
        frequencies = self.param("kernel", nn.initializers.normal(0.2), (self.dim // 2,))
        angles = 2.0 * jnp.pi * time[..., None] * frequencies
        return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class _ResidualBlock(nn.Module):
    """x + Linear(Mish(Linear(LayerNorm(Dropout(x))))), four times as wide inside."""

    hidden_dim: int
    dropout: float

    @nn.compact
    def __call__(self, x: Array, kept: Array | None) -> Array:
        y = x
        if kept is not None and self.dropout > 0.0:
            # all dropped is 0, not 0 / 0
            scale = 1.0 / (1.0 - self.dropout) if self.dropout < 1.0 else 0.0
            y = jnp.where(kept, scale * x, 0.0)
        y = LayerNorm(1e-6, name="norm")(y)
        y = mish(Linear(4 * self.hidden_dim, name="dense_0")(y))
        return x + Linear(self.hidden_dim, name="dense_1")(y)


class ResidualDenoiser(nn.Module):
    """IDQL's behaviour network (arXiv 2304.10573): a LayerNorm residual MLP.

    Call: noised actions [..., A], observations [..., O], time [...] -> noise [..., A]. With
    `training` it drops inputs of the blocks and needs a key named "dropout".

    Attributes:
      action_dim: A.
      hidden_dim: width; each block is four times as wide inside.
      num_blocks: residual blocks.
      time_dim: learnable Fourier features; the time MLP has 2 * time_dim units in both layers.
      dropout: share of a block's inputs that is dropped in training.
    """

    action_dim: int
    hidden_dim: int = 256
    num_blocks: int = 3
    time_dim: int = 64
    dropout: float = 0.1

    @nn.compact
    def __call__(
        self,
        noised_actions: Array,
        observations: Array,
        time: Array,
        kept: Array | None = None,
    ) -> Array:
        embedding = FourierFeatures(self.time_dim, name="fourier")(time)
        embedding = mish(Linear(2 * self.time_dim, name="time_0")(embedding))
        embedding = Linear(2 * self.time_dim, name="time_1")(embedding)
        x = jnp.concatenate([noised_actions, observations, embedding], axis=-1)
        x = Linear(self.hidden_dim, name="dense_0")(x)
        for i in range(self.num_blocks):
            own = None if kept is None else kept[..., i, :]
            x = _ResidualBlock(self.hidden_dim, self.dropout, name=f"block_{i}")(x, own)
        return Linear(self.action_dim, name="dense_1")(mish(x))
