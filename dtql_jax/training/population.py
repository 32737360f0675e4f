"""Populations: P members (seeds, hyper-parameters) as a leading axis on the state, one program.

A single run is a population of one. Member i draws the same numbers as the plain run with its seed.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.algorithms.base import Algorithm
from dtql_jax.errors import UserError, near_matches
from dtql_jax.training import updates
from dtql_jax.training.placement import Placement
from dtql_jax.types import Array, Transition


class MemberKeys(NamedTuple):
    """The three streams of random numbers of each member, typed keys [P]."""

    init: Array
    run: Array
    evaluation: Array


def member_keys(seeds: Sequence[int]) -> MemberKeys:
    """The keys that follow from the members' seeds."""
    keys = [jax.random.split(jax.random.key(seed), 3) for seed in seeds]
    return MemberKeys(*jnp.stack(keys, axis=1))


def init(algorithm: Algorithm, placement: Placement, keys: Array, sample: Transition) -> Any:
    """Fresh states of all members, [places, ...] on every leaf, each from its own key."""
    function = placement.spread(algorithm.init, (0, None))
    return function(keys, placement.copy(jax.tree.map(lambda x: x[:1], sample)))


def set_hyperparameters(
    placement: Placement, state: Any, values: Mapping[str, Sequence[float]]
) -> Any:
    """Gives each member its own numbers.

    Args:
      placement: of the members.
      state: [places, ...] with a field `hyper`, a NamedTuple of traced numbers.
      values: {name: one number for each of the P members}.

    Raises:
      UserError: the algorithm has no such number, or it is not one for each member.
    """
    if not values:
        return state
    known = state.hyper._fields
    changed = {}
    for name, numbers in values.items():
        if name not in known:
            raise UserError(f"{name!r} cannot differ between members; {near_matches(name, known)}")
        if len(numbers) != placement.members:
            raise UserError(
                f"{name} has {len(numbers)} values; expected one for each of the "
                f"{placement.members} members"
            )
        changed[name] = placement.put(np.asarray(numbers, np.float32))
    return state.replace(hyper=state.hyper._replace(**changed))


def metric_names(
    algorithm: Algorithm, placement: Placement, state: Any, data: Transition, batch_size: int
) -> dict[str, list[str]]:
    """Names of the metrics that each phase's step reports: {"pretrain": ..., "train": ...}.

    A jitted step is traced here as `make_update` has it traced, which then need not do it again.
    """
    rows = jnp.zeros((batch_size,), jnp.int32)
    batch = jax.eval_shape(lambda d: jax.tree.map(lambda x: x[rows], d), data)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), placement.places))

    def reported(step: updates.Step) -> list[str]:
        metrics = placement.spread(lambda *arguments: step(*arguments)[1], (0, None, 0))
        return list(jax.eval_shape(metrics, state, batch, keys))

    return {
        "pretrain": reported(algorithm.pretrain_step),
        "train": reported(algorithm.train_step),
    }


def make_update(
    step: updates.Step,
    metrics: Sequence[str],
    batch_size: int,
    num_updates: int,
    placement: Placement,
) -> Any:
    """The jitted update of a whole population; the state is donated.

    The tally is not, so that the host can wait for one call while the next is under way.

    Returns:
      (state [places, ...], tally, data [N, ...], run_keys [places], start) -> (state, tally).
    """
    update = updates.scan_updates(step, metrics, batch_size, num_updates)
    return placement.spread(update, (0, 0, None, 0, None), donate=(0,))


def member(state: Any, index: int) -> Any:
    """The state of one member, without the leading axis."""
    return jax.tree.map(lambda x: x[index], state)
