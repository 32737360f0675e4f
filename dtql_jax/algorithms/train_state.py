"""A network under training: parameters, Adam's state and the number of updates."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from dtql_jax.training.data_parallel.rows import gradients
from dtql_jax.types import Array

# PyTorch's Adam is the same formula with the same defaults (0.9, 0.999, 1e-8). The learning rate is
# applied outside of it, as a traced number, so that a sweep over it never recompiles.
_ADAM = optax.scale_by_adam()


class TrainState(flax.struct.PyTreeNode):
    """One network under training."""

    params: optax.Params
    opt_state: optax.OptState  # Adam's moments
    step: Array  # int32, updates made so far

    @classmethod
    def create(cls, params: optax.Params) -> "TrainState":
        """A state before its first update."""
        return cls(params=params, opt_state=_ADAM.init(params), step=jnp.zeros((), jnp.int32))

    def minimise(
        self, loss_fn: Callable[..., Any], learning_rate: Any, rows: tuple[Any, ...], *rest: Any
    ) -> tuple["TrainState", Any]:
        """One Adam update of loss_fn(params, *rows, *rest); also returns its metrics."""
        grads, metrics = gradients(loss_fn, self.params, rows, *rest)
        return self.apply_gradients(grads, learning_rate), metrics

    def apply_gradients(self, grads: optax.Updates, learning_rate: Any) -> "TrainState":
        """One Adam update; `learning_rate` is a scalar and may be traced."""
        updates, opt_state = _ADAM.update(grads, self.opt_state)
        params = jax.tree.map(lambda p, u: p - learning_rate * u, self.params, updates)
        return self.replace(params=params, opt_state=opt_state, step=self.step + 1)
