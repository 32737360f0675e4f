"""A run's newest checkpoint as a `Trainer`, without its dataset."""

from typing import Any

import numpy as np

from dtql_jax.commands import runner
from dtql_jax.errors import UserError
from dtql_jax.training.checkpoint import Checkpoints
from dtql_jax.training.run_folder import RunFolder
from dtql_jax.training.trainer import Trainer
from dtql_jax.types import Transition


def trainer_of(folder: RunFolder, config: dict[str, Any] | None = None) -> Trainer:
    """The run's states, as far as they were trained, for acting and not for more training.

    Args:
      folder: of the run.
      config: the run's, possibly with another action selection; by default its own.

    Raises:
      UserError: there is no checkpoint, or it does not fit this version's networks.
    """
    dataset = folder.run["dataset"]
    observation = np.zeros((1, dataset["observation_dim"]), np.float32)
    action = np.zeros((1, dataset["action_dim"]), np.float32)
    one = np.zeros(1, np.float32)
    # sizes are all that a state takes from its data
    data = Transition(observation, action, observation, one, one)
    members = runner.members_of(folder.run)
    with Checkpoints(folder.path / "checkpoints") as checkpoints:
        fit = runner.make_trainer(
            config or folder.run["config"], data, members, checkpoints=checkpoints
        )
        fit.resume()
    return fit


def check_member(fit: Trainer, member: int) -> None:
    """UserError unless the run has a member of this number."""
    if not 0 <= member < len(fit.seeds):
        raise UserError(f"--member is {member}; the run's members are 0 to {len(fit.seeds) - 1}")
