"""Trains an algorithm on a task, evaluates it, and says where everything lies.

python -m dtql_jax train --env=antmaze-umaze --seeds=5 --config.batch_size=512
"""

import datetime
from pathlib import Path

from absl import flags

from dtql_jax.commands import cli
from dtql_jax.errors import UserError


def define(argv: list[str]) -> None:
    """The flags of this command."""
    cli.define_config(argv)
    flags.DEFINE_integer("seeds", None, "Seeds trained at once (config.seeds).")
    flags.DEFINE_integer("steps", None, "Training updates (config.train_steps).")
    flags.DEFINE_string("source", None, "Data: auto, minari, d4rl or generated (config.source).")
    flags.DEFINE_string("out", None, "Folder of the run; by default a new one under runs/.")
    flags.DEFINE_boolean("wandb", False, "Events to Weights & Biases too (config.wandb).")
    cli.define_hosts()
    cli.define_display()


def run() -> int:
    """The command."""
    values, config = flags.FLAGS, flags.FLAGS.config
    for flag, field in (("seeds", "seeds"), ("steps", "train_steps"), ("source", "source")):
        if values[flag].value is not None:
            config[field] = values[flag].value
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
        # late: JAX and the simulators cost seconds, which the first line need not wait for
        from dtql_jax.commands import runner

        finished = runner.start(config, out, display, should_stop)
    return 0 if finished else cli.STOPPED


def main() -> None:
    """Runs the command line."""
    cli.launch(run, __doc__, define, live=True)
