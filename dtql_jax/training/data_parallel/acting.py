"""Action choice of a population's members on their devices."""

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from dtql_jax.training.data_parallel.members import Placement
from dtql_jax.training.data_parallel.rows import map_rows
from dtql_jax.types import Array

if TYPE_CHECKING:
    from dtql_jax.algorithms.base import Algorithm

# observations [P, E, O], episodes [P, E], steps [P, E] -> actions [P, E, A]
Policy = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

# Bytes of `act`'s largest array: a core's cache, or memory enough to fill an accelerator.
_BYTES_AT_ONCE_CPU, _BYTES_AT_ONCE = 2 * 2**20, 16 * 2**20


class Acting:
    """The policies of this host's members, as functions over numpy arrays."""

    def __init__(
        self, algorithm: "Algorithm", placement: Placement, keys: Array, alone: bool = False
    ) -> None:
        """Compiles nothing yet.

        Args:
          algorithm: algorithm of the members.
          placement: where they are trained.
          keys: [places], keys that the members draw from.
          alone: whether each member acts on one of its own devices only, because actions in the
            background of training must not wait for a core that training keeps busy.
        """
        self._trained, self._keys = placement, keys
        self._few = placement.local()
        self._many = self._few if alone else placement.acting()
        self._act_few = make_act(algorithm, self._few)
        self._act_many = make_act(algorithm, self._many) if self._shared else self._act_few

    @property
    def _shared(self) -> bool:
        return self._many.share > 1

    def policy(self, state: Any, keys: Array | None = None) -> Policy:
        """Returns the members' policies; `state` [places, ...] must outlive the result.

        `keys` [places] are used in place of the members' own.
        """
        members = (state, self._keys if keys is None else keys)
        few = self._trained.localise(members)

        @functools.cache
        def many() -> Any:
            return self._many.put(self._trained.take(members)) if self._shared else few

        def act(observations: np.ndarray, episodes: np.ndarray, steps: np.ndarray) -> np.ndarray:
            rows = (observations, episodes, steps)
            # a single observation cannot be shared: one program has all cores
            if observations.shape[1] == 1:
                return _call(self._few, self._act_few, few, rows)
            return _call(self._many, self._act_many, many(), rows)

        return act


def _call(placement: Placement, program: Any, members: Any, rows: Any) -> np.ndarray:
    return np.asarray(placement.take(program(*members, *map(placement.fill, rows))))


def make_act(algorithm: "Algorithm", placement: Placement) -> Any:
    """Jits the action choice of a population.

    `act` is called for one observation at a time, vectorised; devices that share a member divide
    its observations. An action's random numbers depend on (member, episode, step) alone, so an
    episode does not depend on the episodes that are played at the same time.

    Returns:
      (state [places, ...], keys [places], observations [places, E, O], episodes [places, E],
      steps [places, E]) -> actions [places, E, A].
    """

    def member(state: Any, key: Array, observations: Array, episodes: Array, steps: Array) -> Array:
        def one(row: tuple[Array, Array, Array]) -> Array:
            observation, episode, step = row
            row_key = jax.random.fold_in(jax.random.fold_in(key, episode), step)
            return algorithm.act(state, observation, row_key)

        rows = (observations, episodes, steps)
        at_once = observations_at_once(algorithm, state, observations[0], key)
        return map_rows(lambda own: jax.lax.map(one, own, batch_size=at_once), rows)

    return placement.map_members(member, (0, 0, 0, 0, 0))


def observations_at_once(algorithm: "Algorithm", state: Any, observation: Array, key: Array) -> int:
    """Observations for which one call of `act` chooses, by the size of its largest array.

    State and observation [O] are those of one member, or their shapes.
    """
    arguments = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (state, observation, key)
    )
    largest = max(_array_bytes(jax.make_jaxpr(algorithm.act)(*arguments).jaxpr), default=1)
    budget = _BYTES_AT_ONCE_CPU if jax.default_backend() == "cpu" else _BYTES_AT_ONCE
    return max(1, budget // largest)


def _array_bytes(jaxpr: Any) -> Iterator[int]:
    """Bytes of each array that a program computes, those of its loops and calls included."""
    for equation in jaxpr.eqns:
        for variable in equation.outvars:
            if hasattr(variable.aval, "shape"):
                yield max(1, variable.aval.size * variable.aval.dtype.itemsize)
        inner = jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns"))
        for program in filter(lambda x: hasattr(x, "eqns"), inner):
            yield from _array_bytes(program)
