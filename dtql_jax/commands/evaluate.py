"""Plays the newest checkpoint of a run again and prints its scores as JSON; writes nothing.

python -m dtql_jax evaluate --run=runs/... --episodes=100
"""

import json

from absl import flags

from dtql_jax.commands import cli
from dtql_jax.errors import UserError


def define(argv: list[str]) -> None:
    """The flags of this command."""
    flags.DEFINE_string("run", None, "Folder of the run.")
    flags.DEFINE_integer("episodes", 0, "Episodes of each seed; 0: as the run's configuration.")
    cli.define_display()


def run() -> None:
    """The command."""
    if not flags.FLAGS.run:
        raise UserError("--run is missing; expected the folder of a run (make evaluate RUN=...)")
    if flags.FLAGS.episodes < 0:
        raise UserError(f"--episodes is {flags.FLAGS.episodes}; expected at least 0")
    with cli.open_display(f"playing {flags.FLAGS.run}") as display:
        from dtql_jax.commands import runner

        found = runner.evaluate(flags.FLAGS.run, flags.FLAGS.episodes, display)
    print(json.dumps(found, indent=2))


def main() -> None:
    """Runs the command line."""
    cli.launch(run, __doc__, define, live=True)
