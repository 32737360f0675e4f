"""Evaluates the newest checkpoint of a run and prints its scores as JSON; writes no file.

dtql-jax evaluate --run=runs/... --episodes=100
"""

import json

from absl import flags

from dtql_jax.commands import cli

EXTRAS = ("envs",)


def define(argv: list[str]) -> None:
    """Defines the flags of this command."""
    cli.define_run()
    flags.DEFINE_integer("episodes", 0, "Episodes of each seed; 0: the run's number.", 0)
    cli.define_display()


def run() -> None:
    """Runs the command."""
    path = cli.run_folder()
    with cli.open_display(f"evaluating {path}") as display:
        from dtql_jax.commands import runner

        found = runner.evaluate(path, flags.FLAGS.episodes, display)
    print(json.dumps(found, indent=2))
