"""How the members of a population choose their actions, and on which devices."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from dtql_jax.algorithms import common
from dtql_jax.algorithms.base import Algorithm
from dtql_jax.training.placement import Placement
from dtql_jax.types import Array

# observations [P, E, O], episodes [P, E], steps [P, E] -> actions [P, E, A]
Policy = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class Acting:
    """The policies of this host's members, as functions over numpy arrays."""

    def __init__(
        self, algorithm: Algorithm, placement: Placement, keys: Array, alone: bool = False
    ) -> None:
        """Compiles nothing yet.

        Args:
          algorithm: of the members.
          placement: where they are trained.
          keys: from which they draw, [places].
          alone: whether each member acts on one of its own devices only. Beside training nothing
            may wait for a core that training keeps busy.
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
        """The members' policies.

        Args:
          state: theirs, [places, ...]; it must outlive what is returned.
          keys: in place of their own, [places].
        """
        members = (state, self._keys if keys is None else keys)
        few = self._trained.localise(members)

        @functools.cache
        def many() -> Any:
            return self._many.put(self._trained.take(members)) if self._shared else few

        def act(observations: np.ndarray, episodes: np.ndarray, steps: np.ndarray) -> np.ndarray:
            rows = (observations, episodes, steps)
            # of a single observation there is nothing to share: one program has all cores
            if observations.shape[1] == 1:
                return _call(self._few, self._act_few, few, rows)
            return _call(self._many, self._act_many, many(), rows)

        return act


def _call(placement: Placement, program: Any, members: Any, rows: Any) -> np.ndarray:
    return np.asarray(placement.take(program(*members, *map(placement.fill, rows))))


def make_act(algorithm: Algorithm, placement: Placement) -> Any:
    """The jitted action choice of a whole population.

    The numbers behind an action come from (member, episode, step) alone: an episode's course does
    not depend on which others are played beside it.

    Args:
      algorithm: whose `act` is called for one observation at a time, vectorised.
      placement: of the members; devices that share one choose for some of its observations each.

    Returns:
      (state [places, ...], keys [places], observations [places, E, O], episodes [places, E],
      steps [places, E]) -> actions [places, E, A].
    """
    chunk = max(1, _candidates_at_once() // algorithm.candidates)

    def member(state: Any, key: Array, observations: Array, episodes: Array, steps: Array) -> Array:
        def one(row: tuple[Array, Array, Array]) -> Array:
            observation, episode, step = row
            row_key = jax.random.fold_in(jax.random.fold_in(key, episode), step)
            return algorithm.act(state, observation, row_key)

        rows = (observations, episodes, steps)
        return common.of_all_rows(lambda own: jax.lax.map(one, own, batch_size=chunk), rows)

    return placement.spread(member, (0, 0, 0, 0, 0))


def _candidates_at_once() -> int:
    """Candidates that one member's policy computes at once: bounds the memory that they take.

    On a CPU their activations are to stay in a core's cache.
    """
    return 1_024 if jax.default_backend() == "cpu" else 8_192
