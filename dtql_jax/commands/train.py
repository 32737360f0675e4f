"""Trains an algorithm on a task and evaluates it, in a run folder.

dtql-jax train --env=antmaze-umaze --seeds=5 --config.batch_size=512
"""

import datetime
from pathlib import Path

from absl import flags

from dtql_jax.commands import cli
from dtql_jax.errors import UserError

EXTRAS = ("envs", "reports", "tensorboard")


def define(argv: list[str]) -> None:
    """Defines the flags of this command."""
    cli.define_config(argv)
    cli.define_run_fields()
    flags.DEFINE_string("out", None, "Folder of the run; by default a new one under runs/.")
    flags.DEFINE_boolean("wandb", False, "Also send events to Weights & Biases (config.wandb).")
    cli.define_hosts()
    cli.define_display()


def run() -> int:
    """Runs the command."""
    values, config = flags.FLAGS, flags.FLAGS.config
    cli.set_run_fields(config)
    config.wandb = config.get("wandb", False) or values.wandb
    if config.wandb:
        from dtql_jax.training.logging import check_wandb

        check_wandb()
    if values.coordinator and not values.out:
        raise UserError("--out is missing; several hosts need a folder that all of them see")
    cli.join_hosts()
    name = f"{config.task}-{config.algorithm.name}-{config.preset}"
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    out = Path(values.out or Path("runs") / f"{name}-{stamp}")
    display = cli.open_display(f"{config.algorithm.name} on {config.task}", f"({config.preset})")
    with display, cli.stop_requested() as should_stop:
        # imported here because JAX and the simulators take seconds
        from dtql_jax.commands import runner

        finished = runner.start(config, out, display, should_stop)
    return 0 if finished else cli.STOPPED
