"""Goes on with a run that was stopped, exactly where its newest checkpoint is.

python -m experiments.resume --run=runs/antmaze-umaze-dtql-paper-20260101-120000
"""

from absl import flags

from dtql_jax.errors import UserError
from experiments import cli


def define(argv: list[str]) -> None:
    """The flags of this command."""
    flags.DEFINE_string("run", None, "Folder of the run.")
    cli.define_hosts()
    cli.define_display()
    flags.DEFINE_boolean("debug", False, "Name the first operation that is not finite, if any.")


def run() -> int:
    """The command."""
    if not flags.FLAGS.run:
        raise UserError("--run is missing; expected the folder of a run (make resume RUN=...)")
    cli.join_hosts()
    display = cli.open_display(f"going on with {flags.FLAGS.run}")
    with display, cli.stop_requested() as should_stop:
        from experiments import runner

        finished = runner.resume(flags.FLAGS.run, display, should_stop, flags.FLAGS.debug)
    return 0 if finished else cli.STOPPED


if __name__ == "__main__":
    cli.launch(run, __doc__, define, live=True)
