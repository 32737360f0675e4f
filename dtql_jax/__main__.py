"""The command line: `dtql-jax COMMAND [--FLAG=VALUE ...]`, or `python -m dtql_jax COMMAND ...`."""

import importlib
import sys

from dtql_jax.commands import cli
from dtql_jax.errors import near_matches

COMMANDS = {
    "train": "Get the data, train, evaluate.",
    "resume": "Continue a stopped run.",
    "evaluate": "Evaluate the newest checkpoint of a run.",
    "reproduce": "Repeat a run from its record and compare bit for bit.",
    "sweep": "Train a grid of hyperparameters, seeds and tasks.",
    "report": "Write an HTML report of one or several runs.",
    "export": "Write a run's policy as one file.",
    "video": "Film episodes of a run's policy.",
    "decisions": "Plot candidate actions and Q-values at states of a point maze.",
    "data": "Get or collect a task's data.",
    "data-info": "Describe a task's data, with figures.",
}


def main(argv: list[str] | None = None) -> None:
    """Runs a command; leaves the process with its exit code."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help", "help"):
        print(__doc__, end="\n\n")
        for name, description in COMMANDS.items():
            print(f"  {name:<10} {description}")
        print("\n`dtql-jax COMMAND --help` lists the flags of a command.")
        sys.exit(0 if words else 2)
    name, *rest = words
    if name not in COMMANDS:
        near = near_matches(name, COMMANDS)
        print(f"error: dtql-jax has no command {name!r}; {near}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [f"dtql-jax {name}", *rest]
    command = importlib.import_module(f"dtql_jax.commands.{name.replace('-', '_')}")
    extras = getattr(command, "EXTRAS", ())
    cli.launch(command.run, command.__doc__, command.define, live=True, extras=extras)


if __name__ == "__main__":
    main()
