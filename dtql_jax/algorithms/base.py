"""The interface of an algorithm: four pure functions, as an optax optimiser is two."""

from collections.abc import Callable
from typing import Any, NamedTuple

from dtql_jax.types import Array, Transition

State = Any  # a pytree of arrays: parameters, optimiser states, steps, the configuration
Metrics = dict[str, Array]


class Algorithm(NamedTuple):
    """An offline-RL algorithm as pure functions over a state.

    Everything else (the loop, populations, checkpoints, evaluation, benchmarks) is written against
    these four functions and knows no algorithm by name. The state's `config` has the numbers that
    a sweep may vary as leaves, so a population with other hyperparameters is a vmap and never a
    recompile.

    Attributes:
      init: (key, sample_transition) -> state. The sample gives the sizes O and A;
        its values are not used. Arrays are [B, ...] or a single row [...].
      pretrain_step: (state, batch, key) -> (state, metrics). One update before the
        policy learns; metrics are scalars.
      train_step: (state, batch, key) -> (state, metrics). One whole update.
      act: (state, observations [..., O], key) -> actions [..., A].
    """

    init: Callable[[Array, Transition], State]
    pretrain_step: Callable[[State, Transition, Array], tuple[State, Metrics]]
    train_step: Callable[[State, Transition, Array], tuple[State, Metrics]]
    act: Callable[[State, Array, Array], Array]
