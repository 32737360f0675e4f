"""The interface of an algorithm: four pure functions, as an optax optimiser is two."""

from collections.abc import Callable
from typing import Any, NamedTuple

from dtql_jax.types import Array, Transition

State = Any  # a pytree of arrays: parameters, optimiser states, steps, hyper-parameters
Metrics = dict[str, Array]


class Algorithm(NamedTuple):
    """An offline-RL algorithm as pure functions over a state.

    Everything else (the loop, populations, checkpoints, evaluation, benchmarks)
    is written against these four functions and knows no algorithm by name. Numbers
    that a sweep may vary are leaves of the state, so a population with other
    hyper-parameters is a vmap and never a recompile.

    Attributes:
      init: (key, sample_transition) -> state. The sample gives the sizes O and A;
        its values are not used. Arrays are [B, ...] or a single row [...].
      pretrain_step: (state, batch, key) -> (state, metrics). One update before the
        policy learns; metrics are scalars.
      train_step: (state, batch, key) -> (state, metrics). One whole update.
      act: (state, observations [..., O], key) -> actions [..., A].
      by_rows: whether cores that a run leaves over are to share a batch: every gradient of a step
        is `common.mean_gradients`, and small enough to be added up. A step with gradients of its
        own is right with it too, but every core then computes the whole batch.
      candidates: actions that `act` compares for one observation: how many observations are
        treated at once is chosen by it, not what comes out.
    """

    init: Callable[[Array, Transition], State]
    pretrain_step: Callable[[State, Transition, Array], tuple[State, Metrics]]
    train_step: Callable[[State, Transition, Array], tuple[State, Metrics]]
    act: Callable[[State, Array, Array], Array]
    by_rows: bool = False
    candidates: int = 1024
