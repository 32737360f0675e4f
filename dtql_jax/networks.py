"""The networks as Flax modules: DTQL's (paper, appendix; sizes and initialisers of the authors'
program), then those of single baselines.

Parameters are float32. Kernels are (in, out); layers are named dense_0, norm_0, ... in the order
in which they are applied, so that stored weights read like the lists in the papers. Denoisers take
the action dimension A from their input.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dtql_jax.layers import LayerNorm, dense, mish
from dtql_jax.types import Array

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0


class TimeEmbedding(nn.Module):
    """Sinusoidal features of a scalar, then Linear, Mish, Linear: [...] -> [..., dim]."""

    dim: int = 16  # sinusoidal features (even) and outputs; the hidden layer has 2 * dim

    @nn.compact
    def __call__(self, time: Array) -> jax.Array:
        half = self.dim // 2
        frequencies = jnp.exp(-jnp.log(10_000.0) * jnp.arange(half) / (half - 1))
        angles = time[..., None] * frequencies
        features = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
        hidden = mish(dense(features, 2 * self.dim, "dense_0"))
        return dense(hidden, self.dim, "dense_1")


class _Trunk(nn.Module):
    """Linear without activation (`input_layer`), three of Linear and Mish, Linear."""

    hidden_dim: int
    out_dim: int
    input_layer: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        first = int(self.input_layer)
        if self.input_layer:
            x = dense(x, self.hidden_dim, "dense_0")
        for i in range(first, first + 3):
            x = mish(dense(x, self.hidden_dim, f"dense_{i}"))
        return dense(x, self.out_dim, f"dense_{first + 3}")


class Denoiser(nn.Module):
    """The raw network F of the diffusion policy, without EDM's scaling (`diffusion.edm.denoise`).

    Call: noised actions [..., A] (already scaled), observations [..., O], time [...] -> [..., A].
    """

    hidden_dim: int = 256
    time_dim: int = 16

    @nn.compact
    def __call__(self, noised_actions: Array, observations: Array, time: Array) -> jax.Array:
        embedding = TimeEmbedding(self.time_dim, name="time")(time)
        x = jnp.concatenate([noised_actions, observations, embedding], axis=-1)
        return _Trunk(self.hidden_dim, noised_actions.shape[-1], name="trunk")(x)


class NoisePredictor(nn.Module):
    """DQL's actor: as `Denoiser`, but without the first Linear and with the time before the state.

    Call: noised actions [..., A], observations [..., O], step [...] -> noise [..., A].
    """

    hidden_dim: int = 256
    time_dim: int = 16

    @nn.compact
    def __call__(self, noised_actions: Array, observations: Array, time: Array) -> jax.Array:
        embedding = TimeEmbedding(self.time_dim, name="time")(time)
        x = jnp.concatenate([noised_actions, embedding, observations], axis=-1)
        action_dim = noised_actions.shape[-1]
        return _Trunk(self.hidden_dim, action_dim, input_layer=False, name="trunk")(x)


class GaussianPolicy(nn.Module):
    """The one-step policy's Gaussian before the tanh.

    Call: observations [..., O], action dimension A -> mean, log_std, each [..., A]. log_std is
    clipped to [-5, 2]. Orthogonal kernels, zero biases.
    """

    hidden_dim: int = 256

    @nn.compact
    def __call__(self, observations: Array, action_dim: int) -> tuple[jax.Array, jax.Array]:
        x = jnp.asarray(observations)
        init = nn.initializers.orthogonal()
        for i in range(3):
            x = nn.relu(nn.Dense(self.hidden_dim, kernel_init=init, name=f"dense_{i}")(x))
        x = nn.Dense(2 * action_dim, kernel_init=init, name="dense_3")(x)
        mean, log_std = jnp.split(x, 2, axis=-1)
        return mean, jnp.clip(log_std, LOG_STD_MIN, LOG_STD_MAX)


def squash(mean: Array, log_std: Array, eps: Array, max_action: float) -> jax.Array:
    """max_action * tanh(mean + exp(log_std) * eps): an action of the one-step policy [..., A]."""
    return max_action * jnp.tanh(mean + jnp.exp(log_std) * eps)


class Critic(nn.Module):
    """One Q function: observations [..., O], actions [..., A] -> [...]."""

    hidden_dim: int = 256
    depth: int = 3  # hidden layers
    layer_norm: bool = True  # before each activation, as in DTQL
    activation: Callable[[jax.Array], jax.Array] = mish  # IQL uses ReLU

    @nn.compact
    def __call__(self, observations: Array, actions: Array) -> jax.Array:
        x = jnp.concatenate([observations, actions], axis=-1)
        for i in range(self.depth):
            x = dense(x, self.hidden_dim, f"dense_{i}")
            if self.layer_norm:
                x = LayerNorm(1e-5, name=f"norm_{i}")(x)
            x = self.activation(x)
        return dense(x, 1, f"dense_{self.depth}")[..., 0]


def _twins(module: type[nn.Module]) -> Any:
    """Two of a module with a leading axis of 2 on every parameter, input and output."""
    return nn.vmap(
        module, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=0, axis_size=2
    )


class DoubleCritic(nn.Module):
    """Q1 and Q2, two `Critic`s with a leading axis of 2 on every parameter: -> [2, ...]."""

    hidden_dim: int = 256
    depth: int = 3
    layer_norm: bool = True
    activation: Callable[[jax.Array], jax.Array] = mish

    @nn.compact
    def __call__(self, observations: Array, actions: Array) -> jax.Array:
        critic = _twins(Critic)(
            self.hidden_dim, self.depth, self.layer_norm, self.activation, name="q"
        )
        # each gets its own copy of the input: with a shared one, XLA makes one wide product of the
        # first layer and transposes all of its results
        return critic(*(jnp.broadcast_to(x, (2, *x.shape)) for x in (observations, actions)))


class Value(nn.Module):
    """The state value V: observations [..., O] -> [...].

    Attributes:
      hidden_dim: width.
      depth: hidden layers.
      activation: Mish; IQL uses ReLU.
      input_norm: whether a LayerNorm acts on the observation (IDQL); there is no other.
    """

    hidden_dim: int = 256
    depth: int = 3
    activation: Callable[[jax.Array], jax.Array] = mish
    input_norm: bool = False

    @nn.compact
    def __call__(self, observations: Array) -> jax.Array:
        x = jnp.asarray(observations)
        if self.input_norm:
            x = LayerNorm(1e-6, name="norm_0")(x)
        for i in range(self.depth):
            x = self.activation(dense(x, self.hidden_dim, f"dense_{i}"))
        return dense(x, 1, f"dense_{self.depth}")[..., 0]


class FixedStdPolicy(nn.Module):
    """IQL's Gaussian policy: observations [..., O], A -> mean [..., A], log_std [A].

    The mean is max_action * tanh of two hidden ReLU layers' output, log_std a parameter that does
    not depend on the observation, clipped to [-5, 2]. The action itself is not squashed.
    """

    hidden_dim: int = 256
    max_action: float = 1.0

    @nn.compact
    def __call__(self, observations: Array, action_dim: int) -> tuple[jax.Array, jax.Array]:
        x = jnp.asarray(observations)
        for i in range(2):
            x = nn.relu(dense(x, self.hidden_dim, f"dense_{i}"))
        mean = self.max_action * jnp.tanh(dense(x, action_dim, "dense_2"))
        log_std = self.param("log_std", nn.initializers.zeros_init(), (action_dim,))
        return mean, jnp.clip(log_std, LOG_STD_MIN, LOG_STD_MAX)


class FourierFeatures(nn.Module):
    """Learnable Fourier features of a scalar: [...] -> [..., dim], cosines then sines.

    Frequencies are initially normal with standard deviation 0.2 (IDQL).
    """

    dim: int

    @nn.compact
    def __call__(self, time: Array) -> jax.Array:
        frequencies = self.param("kernel", nn.initializers.normal(0.2), (self.dim // 2,))
        angles = 2.0 * jnp.pi * time[..., None] * frequencies
        return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class _ResidualBlock(nn.Module):
    """x + Linear(activation(Linear(LayerNorm(Dropout(x))))), four times as wide inside."""

    hidden_dim: int
    dropout: float
    activation: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, x: jax.Array, kept: Array | None) -> jax.Array:
        y = x
        if kept is not None and self.dropout > 0.0:
            # all dropped is 0, not 0 / 0
            scale = 1.0 / (1.0 - self.dropout) if self.dropout < 1.0 else 0.0
            y = jnp.where(kept, scale * x, 0.0)
        y = LayerNorm(1e-6, name="norm_0")(y)
        y = self.activation(nn.Dense(4 * self.hidden_dim, name="dense_0")(y))
        return x + nn.Dense(self.hidden_dim, name="dense_1")(y)


class ResidualDenoiser(nn.Module):
    """IDQL's behaviour network (arXiv 2304.10573): a LayerNorm residual MLP.

    Call: noised actions [..., A], observations [..., O], time [...] -> noise [..., A]; in training
    also `kept`, booleans [..., num_blocks, hidden_dim], the inputs of each block that dropout
    keeps.
    """

    hidden_dim: int = 256  # each block is four times as wide inside
    num_blocks: int = 3
    time_dim: int = 128  # learnable Fourier features; the time MLP has 2 * time_dim units
    dropout: float = 0.1  # share of a block's inputs that is dropped in training
    activation: Callable[[jax.Array], jax.Array] = nn.silu  # the first release: Mish

    @nn.compact
    def __call__(
        self,
        noised_actions: Array,
        observations: Array,
        time: Array,
        kept: Array | None = None,
    ) -> jax.Array:
        def linear(x: jax.Array, features: int, name: str) -> jax.Array:
            return nn.Dense(features, kernel_init=nn.initializers.xavier_uniform(), name=name)(x)

        embedding = FourierFeatures(self.time_dim, name="fourier")(time)
        embedding = self.activation(linear(embedding, 2 * self.time_dim, "time_0"))
        embedding = linear(embedding, 2 * self.time_dim, "time_1")
        x = jnp.concatenate([noised_actions, observations, embedding], axis=-1)
        x = linear(x, self.hidden_dim, "dense_0")
        for i in range(self.num_blocks):
            block = _ResidualBlock(
                self.hidden_dim, self.dropout, self.activation, name=f"block_{i}"
            )
            x = block(x, None if kept is None else kept[..., i, :])
        return linear(self.activation(x), noised_actions.shape[-1], "dense_1")


class MLP(nn.Module):
    """FQL's network: hidden layers of Linear, GELU and, where set, LayerNorm, then a Linear.

    Call: arrays [..., I_1], [..., I_2], ... that are joined -> [..., out_dim]. Kernels are Glorot
    uniform, biases 0. GELU is the tanh form.

    Attributes:
      out_dim: number of outputs.
      hidden_dim: width.
      depth: hidden layers.
      layer_norm: whether a LayerNorm follows each activation.
    """

    out_dim: int
    hidden_dim: int = 512
    depth: int = 4
    layer_norm: bool = False

    @nn.compact
    def __call__(self, *inputs: Array) -> jax.Array:
        init = nn.initializers.glorot_uniform()
        x = jnp.concatenate(inputs, axis=-1)
        for i in range(self.depth):
            x = nn.gelu(nn.Dense(self.hidden_dim, kernel_init=init, name=f"dense_{i}")(x))
            if self.layer_norm:
                x = LayerNorm(1e-6, name=f"norm_{i}")(x)
        return nn.Dense(self.out_dim, kernel_init=init, name=f"dense_{self.depth}")(x)


class TwinMLP(nn.Module):
    """Two `MLP`s with a leading axis of 2 on every parameter: -> [2, ..., out_dim]."""

    out_dim: int
    hidden_dim: int = 512
    depth: int = 4
    layer_norm: bool = False

    @nn.compact
    def __call__(self, *inputs: Array) -> jax.Array:
        network = _twins(MLP)(self.out_dim, self.hidden_dim, self.depth, self.layer_norm, name="q")
        return network(*(jnp.broadcast_to(x, (2, *x.shape)) for x in inputs))
