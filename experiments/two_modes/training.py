"""One algorithm of the study, all of its seeds as one population."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.algorithms import make_algorithm
from dtql_jax.errors import UserError
from dtql_jax.training import population
from dtql_jax.training.progress import Progress
from dtql_jax.training.trainer import Trainer, TrainerConfig
from dtql_jax.types import Transition
from experiments import study

UPDATES_PER_CALL = 100


def check(part: str, entries: Mapping[str, Any]) -> None:
    """Raises UserError if an algorithm of a part ("bandit", "maze") cannot be trained."""
    if not entries:
        raise UserError(f"{part}.algorithms is empty; expected at least one")
    for name, entry in entries.items():
        study.check_least(entry, f"{part}.algorithms.{name}.", pretrain_steps=0, train_steps=1)
        make_algorithm(entry["algorithm"], dict(entry["settings"]))


def fit(
    entry: Mapping[str, Any],
    data: Transition,
    seeds: Sequence[int],
    batch_size: int,
    display: Progress,
    **settings: Any,
) -> Trainer:
    """Trains to the end.

    Args:
      entry: "algorithm", its "settings", "pretrain_steps" and "train_steps".
      data: rewards as they are trained.
      seeds: one for each member.
      batch_size: transitions in an update.
      display: progress.
      **settings: of the algorithm, beside the entry's.

    Raises:
      UserError: the numbers of a member are no longer finite.
    """
    algorithm = make_algorithm(entry["algorithm"], dict(entry["settings"]) | settings)
    pretrain, train = entry["pretrain_steps"], entry["train_steps"]
    every = max(train, pretrain)  # nothing is logged or saved on the way
    loop = TrainerConfig(batch_size, pretrain, train, min(UPDATES_PER_CALL, every), every)
    made = Trainer(algorithm, data, seeds, loop, display=display)
    result = made.run()
    if result.diverged or not result.finished:
        raise UserError(f"{entry['algorithm']} ended early: its numbers are not finite")
    return made


def draw(fitted: Trainer, entry: Mapping[str, Any], number: int, **settings: Any) -> np.ndarray:
    """Draws actions of every member in the state 0 of a bandit: [P, number, A].

    Args:
      fitted: returned by `fit`.
      entry: the same as for `fit`.
      number: of actions.
      **settings: of the algorithm, beside the entry's: how it chooses an action.
    """
    algorithm = make_algorithm(entry["algorithm"], dict(entry["settings"]) | settings)
    act = jax.jit(lambda state, key: algorithm.act(state, jnp.zeros((number, 1)), key))
    keys = population.member_keys(fitted.seeds).evaluation
    # one member after the other: the memory of many candidates counts once
    drawn = [act(population.member(fitted.state, i), key) for i, key in enumerate(keys)]
    return np.stack([np.asarray(actions) for actions in drawn])
