"""The interface of an algorithm: four pure functions, as an optax optimiser is two."""

from collections.abc import Callable
from typing import Any, NamedTuple

from dtql_jax.types import Array, Transition

State = Any  # a pytree of arrays: parameters, optimiser states, steps, the configuration
Metrics = dict[str, Array]


class Algorithm(NamedTuple):
    """An offline-RL algorithm as pure functions over a state.

    The loop, populations, checkpoints, evaluation and benchmarks are written against these four
    functions and know no algorithm by name. The leaves of the state's `config` are the numbers
    that a sweep may vary, so a population with other hyperparameters is a vmap.

    Attributes:
      init: (key, sample_transition) -> state. The sample, [B, ...] or [...], gives the sizes O
        and A; its values are not used.
      pretrain_step: (state, batch, key) -> (state, scalar metrics). One update before the policy
        learns.
      train_step: (state, batch, key) -> (state, scalar metrics). One whole update.
      act: (state, observations [..., O], key) -> actions [..., A].
    """

    init: Callable[[Array, Transition], State]
    pretrain_step: Callable[[State, Transition, Array], tuple[State, Metrics]]
    train_step: Callable[[State, Transition, Array], tuple[State, Metrics]]
    act: Callable[[State, Array, Array], Array]
