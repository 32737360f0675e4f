"""Trains and measures a behaviour policy for collecting data (needs the extra `behaviours`).

    python -m experiments.train_behaviour --body=hopper
    python -m experiments.train_behaviour --body=hopper --notrain   # measures and chooses again

Writes OUT/BODY/: snapshots/STEPS.npz, training.json, and the chosen policies with BODY.json.
"""

import importlib.util
import json
import pathlib
import shutil

from absl import flags

from dtql_jax.commands import cli
from dtql_jax.errors import UserError
from experiments import study
from experiments.train_behaviour import bodies, selection


def define(argv: list[str]) -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string(
        "body",
        "hopper",
        "hopper, walker2d, halfcheetah, antmaze-d4rl-ant, antmaze-gymnasium-ant or pen.",
    )
    flags.DEFINE_string("out", "runs/behaviour", "Folder that BODY/ is made in.")
    flags.DEFINE_integer("seed", 0, "Of the training.")
    flags.DEFINE_integer("stop", 0, "Ends the training after so many steps; 0: after all.")
    flags.DEFINE_integer("snapshots", 30, "How many are written along the training.")
    flags.DEFINE_integer("episodes", 100, "That each chosen policy is measured with.")
    flags.DEFINE_boolean("train", True, "--notrain takes the snapshots that are there.")


def run() -> None:
    """Trains, measures and chooses policies."""
    values = flags.FLAGS
    body = bodies.get_body(values.body)
    study.check_least(values.flag_values_dict(), "--", snapshots=1, episodes=1, seed=0, stop=0)
    folder = pathlib.Path(values.out) / body.name
    if values.train:
        if importlib.util.find_spec("sbx") is None:
            raise UserError(
                'training needs sbx-rl; install it with: pip install -e ".[behaviours]"'
            )
        from experiments.train_behaviour import ppo

        shutil.rmtree(folder / "snapshots", ignore_errors=True)
        (folder / "snapshots").mkdir(parents=True)
        record = ppo.train(
            body, values.seed, folder / "snapshots", values.snapshots, values.stop, _report
        )
        stop = f" --stop={values.stop}" if values.stop else ""
        record["command"] = (
            f"python -m experiments.train_behaviour --body={body.name} --seed={values.seed}{stop}"
        )
        (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n")
    elif not (folder / "training.json").is_file():
        raise UserError(f"no training in {folder}; --notrain measures one that is there")
    selection.choose(body, folder, values.episodes, _report)


def _report(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    cli.launch(run, __doc__, define)
