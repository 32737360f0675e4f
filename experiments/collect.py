"""Gets a task's data, collecting it in the simulator where that is its source; trains nothing.

python -m experiments.collect --env=pointmaze-umaze --source=generated
"""

import json

from absl import flags

from experiments import cli


def define(argv: list[str]) -> None:
    """The flags of this command."""
    flags.DEFINE_string("env", "pointmaze-umaze", "Task, for example antmaze-umaze.")
    flags.DEFINE_string("source", "auto", "auto, minari, d4rl or generated.")
    flags.DEFINE_string("d4rl_dir", "", "Folder of D4RL's HDF5 files.")
    flags.DEFINE_integer("transitions", 0, "How many to collect; 0: the task's usual number.")
    flags.DEFINE_integer("seed", 0, "Of a collection.")


def run() -> None:
    """The command: prints what is known about the dataset as JSON."""
    from dtql_jax.datasets import load

    values = flags.FLAGS
    _, info = load(
        values.env,
        values.source,
        d4rl_dir=values.d4rl_dir or None,
        transitions=values.transitions or None,
        seed=values.seed,
    )
    print(json.dumps(info.to_dict(), indent=2))


if __name__ == "__main__":
    cli.launch(run, __doc__, define)
