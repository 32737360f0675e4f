"""Weights & Biases as a reader of a run's events, beside TensorBoard; the extra `wandb`."""

import hashlib
import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dtql_jax.errors import UserError

PROJECT = "dtql-jax"  # unless $WANDB_PROJECT says another


def check() -> None:
    """UserError unless Weights & Biases is installed."""
    try:
        importlib.import_module("wandb")
    except ImportError as error:
        raise UserError(
            "--wandb: Weights & Biases is not installed; expected the extra wandb: "
            'pip install -e ".[wandb]" (TensorBoard events and metrics.csv need nothing)'
        ) from error


class WandbEvents:
    """Sends scalars to Weights & Biases; a resumed run goes on in the same one.

    $WANDB_MODE=offline keeps them in the run's folder, for `wandb sync`.
    """

    def __init__(self, folder: str | Path, config: Mapping[str, Any]) -> None:
        """Begins or goes on with the run that belongs to a folder.

        Args:
          folder: of the run; its name is the run's, its path says which run it is.
          config: what is shown as the run's configuration.

        Raises:
          UserError: wandb is not installed, or cannot begin (no login, no network).
        """
        check()
        import wandb  # pyright: ignore[reportMissingImports]

        folder = Path(folder).resolve()
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                name=folder.name,
                id=hashlib.sha256(str(folder).encode()).hexdigest()[:16],
                dir=str(folder),
                config=dict(config),
                resume="allow",
            )
        except Exception as error:  # wandb's own kinds of errors differ between versions
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"--wandb: the run cannot begin ({reason}); try `wandb login`, or "
                "WANDB_MODE=offline"
            ) from error

    def add_scalar(self, name: str, value: float, update: int) -> None:
        """One scalar, as TensorBoard's writer takes it."""
        self._run.log({name: value}, step=update)

    def close(self) -> None:
        """Sends what is left."""
        self._run.finish()
