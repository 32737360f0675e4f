"""Continues a stopped run from its newest checkpoint; the result is the one of an unstopped run.

dtql-jax resume --run=runs/antmaze-umaze-dtql-paper-20260101-120000
"""

from dtql_jax.commands import cli

EXTRAS = ("envs", "reports", "tensorboard")


def define(argv: list[str]) -> None:
    """Defines the flags of this command."""
    cli.define_run()
    cli.define_hosts()
    cli.define_display()


def run() -> int:
    """Runs the command."""
    path = cli.run_folder()
    cli.join_hosts()
    with cli.open_display(f"resuming {path}") as display, cli.stop_requested() as should_stop:
        from dtql_jax.commands import runner

        finished = runner.resume(path, display, should_stop)
    return 0 if finished else cli.STOPPED
