"""One algorithm of the study, all of its seeds as one population."""

from collections.abc import Mapping, Sequence
from typing import Any

from dtql_jax.algorithms import make_algorithm
from dtql_jax.errors import UserError
from dtql_jax.training.progress import Progress
from dtql_jax.training.trainer import Trainer, TrainerConfig
from dtql_jax.types import Transition

UPDATES_PER_CALL = 100


def fit(
    name: str,
    config: Mapping[str, Any],
    data: Transition,
    seeds: Sequence[int],
    display: Progress,
    **settings: Any,
) -> Trainer:
    """Trains to the end.

    Args:
      name: of the algorithm.
      config: of one part of the study.
      data: rewards as they are trained.
      seeds: one for each member.
      display: progress.
      **settings: of the algorithm, beside the configuration's.

    Raises:
      UserError: the numbers of a member are no longer finite.
    """
    entry = config["algorithms"][name]
    algorithm = make_algorithm(name, entry["settings"] | settings)
    pretrain, train = entry["pretrain_steps"], entry["train_steps"]
    every = max(train, pretrain)  # nothing is logged or saved before the end
    calls = min(UPDATES_PER_CALL, every)
    loop = TrainerConfig(config["batch_size"], pretrain, train, calls, every)
    trainer = Trainer(algorithm, data, seeds, loop, display=display)
    result = trainer.run()
    if result.diverged or not result.finished:
        raise UserError(f"{name} ended early: its numbers are not finite")
    return trainer


def updates(config: Mapping[str, Any], name: str) -> int:
    """Returns the updates of an algorithm, pretraining included."""
    entry = config["algorithms"][name]
    return entry["pretrain_steps"] + entry["train_steps"]
