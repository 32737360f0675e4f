"""Restores the trainer of a run's newest checkpoint, without its dataset."""

from typing import Any

import numpy as np

from dtql_jax.commands import runner
from dtql_jax.errors import UserError
from dtql_jax.training.checkpoint import Checkpoints
from dtql_jax.training.run_folder import RunFolder
from dtql_jax.training.trainer import Trainer
from dtql_jax.types import Transition


def trainer_of(folder: RunFolder, config: dict[str, Any] | None = None, member: int = 0) -> Trainer:
    """Returns a trainer with the run's newest states, for acting and not for more training.

    Args:
      folder: folder of the run.
      config: the run's configuration, possibly with another action selection; None: its own.
      member: a member that the run must have, given as --member.

    Raises:
      UserError: there is no such member, no checkpoint, or none that fits this version's networks.
    """
    members, dataset = runner.members_of(folder.run), folder.run["dataset"]
    if not 0 <= member < len(members):
        raise UserError(f"--member is {member}; the run's members are 0 to {len(members) - 1}")
    with Checkpoints(folder.path / "checkpoints") as checkpoints:
        trainer = runner.make_trainer(
            config or folder.run["config"],
            sample_of(dataset["observation_dim"], dataset["action_dim"]),
            members,
            checkpoints=checkpoints,
        )
        trainer.resume()
    return trainer


def sample_of(observation_dim: int, action_dim: int) -> Transition:
    """Returns one transition of zeros; states depend only on the sizes of the data."""
    observation = np.zeros((1, observation_dim), np.float32)
    action, one = np.zeros((1, action_dim), np.float32), np.zeros(1, np.float32)
    return Transition(observation, action, observation, one, one)
