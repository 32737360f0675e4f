"""Downloads or collects a task's data, and prints its record as JSON; trains nothing.

dtql-jax data --env=pointmaze-umaze --source=generated
dtql-jax data --env=antmaze-umaze --behaviour_policy=FILE.npz
"""

import json
from typing import TYPE_CHECKING

from absl import flags

from dtql_jax.commands import cli

if TYPE_CHECKING:
    from dtql_jax.datasets.load import Loaded
    from dtql_jax.training.progress import Progress


def define(argv: list[str]) -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("env", "pointmaze-umaze", "Task, for example antmaze-umaze.")
    flags.DEFINE_string("source", "auto", "auto, minari, d4rl, generated or generated:VARIANT.")
    flags.DEFINE_string("d4rl_dir", "", "Folder of D4RL's HDF5 files.")
    flags.DEFINE_integer("transitions", 0, "How many to collect; 0: the task's usual number.")
    flags.DEFINE_integer("seed", 0, "Seed of a collection.")
    flags.DEFINE_string(
        "behaviour_policy", "", "Policy that collects: FILE.npz, or FILE.npz,FILE.npz."
    )
    cli.define_display()


def get(display: "Progress") -> "Loaded":
    """Returns the data that the flags ask for: (arrays, info, transitions of each episode)."""
    from dtql_jax.datasets import load_episodes

    values = flags.FLAGS
    display.start("data", unit="transitions")
    return load_episodes(
        values.env,
        values.source,
        d4rl_dir=values.d4rl_dir or None,
        transitions=values.transitions or None,
        seed=values.seed,
        behaviour_policy=values.behaviour_policy or None,
        report=display.say,
        progress=display.advance,
    )


def run() -> None:
    """Runs the command."""
    with cli.open_display(f"data of {flags.FLAGS.env}") as display:
        _, info, _ = get(display)
    print(json.dumps(info.to_dict(), indent=2))
