"""Gets a task's data, collecting it in the simulator where that is its source; trains nothing.

python -m experiments.collect --env=pointmaze-umaze --source=generated
python -m experiments.collect --env=antmaze-umaze --behaviour_policy=FILE.npz
"""

import json
from typing import Any

from absl import flags

from experiments import cli


def define(argv: list[str]) -> None:
    """The flags of this command."""
    flags.DEFINE_string("env", "pointmaze-umaze", "Task, for example antmaze-umaze.")
    flags.DEFINE_string("source", "auto", "auto, minari, d4rl, generated or generated:VARIANT.")
    flags.DEFINE_string("d4rl_dir", "", "Folder of D4RL's HDF5 files.")
    flags.DEFINE_integer("transitions", 0, "How many to collect; 0: the task's usual number.")
    flags.DEFINE_integer("seed", 0, "Of a collection.")
    flags.DEFINE_string(
        "behaviour_policy", "", "Policy that plays in a collection: FILE.npz, or FILE.npz,FILE.npz."
    )


def options() -> dict[str, Any]:
    """What the flags say, as keyword arguments of `dtql_jax.datasets.load`."""
    values = flags.FLAGS
    return {
        "d4rl_dir": values.d4rl_dir or None,
        "transitions": values.transitions or None,
        "seed": values.seed,
        "behaviour_policy": values.behaviour_policy or None,
    }


def run() -> None:
    """The command: prints what is known about the dataset as JSON."""
    from dtql_jax.datasets import load

    _, info = load(flags.FLAGS.env, flags.FLAGS.source, **options())
    print(json.dumps(info.to_dict(), indent=2))


if __name__ == "__main__":
    cli.launch(run, __doc__, define)
