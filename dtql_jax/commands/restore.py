"""Restores the trainer of a run's newest checkpoint, without its dataset."""

from typing import Any

import numpy as np

from dtql_jax.commands import runner
from dtql_jax.errors import UserError
from dtql_jax.training.checkpoint import Checkpoints
from dtql_jax.training.run_folder import RunFolder
from dtql_jax.training.trainer import Trainer
from dtql_jax.types import Transition


def trainer_of(folder: RunFolder, config: dict[str, Any] | None = None) -> Trainer:
    """Returns a trainer with the run's newest states, for acting and not for more training.

    Args:
      folder: folder of the run.
      config: the run's configuration, possibly with another action selection; None: its own.

    Raises:
      UserError: there is no checkpoint, or it does not fit this version's networks.
    """
    dataset = folder.run["dataset"]
    observation = np.zeros((1, dataset["observation_dim"]), np.float32)
    action = np.zeros((1, dataset["action_dim"]), np.float32)
    one = np.zeros(1, np.float32)
    # a state depends only on the sizes of its data
    data = Transition(observation, action, observation, one, one)
    members = runner.members_of(folder.run)
    with Checkpoints(folder.path / "checkpoints") as checkpoints:
        trainer = runner.make_trainer(
            config or folder.run["config"], data, members, checkpoints=checkpoints
        )
        trainer.resume()
    return trainer


def check_member(trainer: Trainer, member: int) -> None:
    """Raises UserError unless the run has a member of this number."""
    last = len(trainer.seeds) - 1
    if not 0 <= member <= last:
        raise UserError(f"--member is {member}; the run's members are 0 to {last}")
