"""Goes on with a run that was stopped, exactly where its newest checkpoint is.

python -m dtql_jax resume --run=runs/antmaze-umaze-dtql-paper-20260101-120000
"""

from absl import flags

from dtql_jax.commands import cli
from dtql_jax.errors import UserError


def define(argv: list[str]) -> None:
    """The flags of this command."""
    flags.DEFINE_string("run", None, "Folder of the run.")
    cli.define_hosts()
    cli.define_display()


def run() -> int:
    """The command."""
    if not flags.FLAGS.run:
        raise UserError("--run is missing; expected the folder of a run (make resume RUN=...)")
    cli.join_hosts()
    display = cli.open_display(f"going on with {flags.FLAGS.run}")
    with display, cli.stop_requested() as should_stop:
        from dtql_jax.commands import runner

        finished = runner.resume(flags.FLAGS.run, display, should_stop)
    return 0 if finished else cli.STOPPED


def main() -> None:
    """Runs the command line."""
    cli.launch(run, __doc__, define, live=True)
