"""Writes a run's policy into one file that runs with JAX alone: dtql_jax.load_policy(FILE).

dtql-jax export --run=runs/... --out=policy.zip --selection=single

The file holds the program (StableHLO, for CPUs and accelerators), the weights and the record of the
training. --npz adds the weights as a plain .npz, for readers without JAX
(examples/act_with_numpy.py).
"""

from pathlib import Path
from typing import Any

from absl import flags

from dtql_jax.commands import cli
from dtql_jax.errors import UserError


def define(argv: list[str]) -> None:
    """Defines the flags of this command."""
    cli.define_run()
    flags.DEFINE_integer("member", 0, "Which of the run's seeds, from 0.")
    flags.DEFINE_string("selection", "", "How an action is chosen; by default as in the run.")
    flags.DEFINE_string("out", "", "The file; by default policy.zip in the run's folder.")
    flags.DEFINE_boolean("npz", False, "Also write the weights as a plain .npz.")


def run() -> None:
    """Runs the command."""
    values = flags.FLAGS
    path = cli.run_folder()
    import numpy as np

    from dtql_jax import export
    from dtql_jax.commands import restore
    from dtql_jax.datasets.registry import ACTION_HIGH, ACTION_LOW
    from dtql_jax.training.population import member
    from dtql_jax.training.run_folder import RunFolder

    with RunFolder.open(path) as folder:
        config, dataset = folder.run["config"], folder.run["dataset"]
        algorithm = config["algorithm"]
        if values.selection and "action_selection" not in algorithm:
            raise UserError(
                f"--selection={values.selection}: {algorithm['name']} has one way to act only"
            )
        if values.selection:
            config = config | {"algorithm": algorithm | {"action_selection": values.selection}}
        trainer = restore.trainer_of(folder, config, values.member)
        about = metadata(folder.run, config, values.member, trainer.update)
        ones = np.ones(dataset["action_dim"], np.float32)
        policy = (trainer.algorithm.act, member(trainer.state, values.member))
        sizes: dict[str, Any] = {"observation_dim": dataset["observation_dim"]}
        files = [Path(values.out or folder.path / "policy.zip")]
        facts = export.export_policy(
            files[0],
            *policy,
            **sizes,
            action_low=ACTION_LOW * ones,
            action_high=ACTION_HIGH * ones,
            metadata=about,
        )
        if values.npz:
            files.append(files[0].with_suffix(".npz"))
            plain = about | {key: facts[key] for key in export.SIZES}
            export.export_weights(files[1], *policy, **sizes, metadata=plain)
    acting = about["acting"].get("action_selection", "its one way")
    print(
        f"{about['algorithm']} on {about['task']} (source {about['source']}), seed "
        f"{about['seed']}, update {about['update']:,}, acting by {acting}, for "
        f"{', '.join(facts['platforms'])}"
    )
    for file in files:
        print(f"  {file} ({file.stat().st_size / 1e6:.1f} MB)")


def metadata(
    run: dict[str, Any], config: dict[str, Any], member: int, update: int
) -> dict[str, Any]:
    """Returns the file's metadata: where the policy comes from and how it acts."""
    from dtql_jax.commands.runner import members_of
    from dtql_jax.training.run_folder import commit, versions

    dataset, own = run["dataset"], members_of(run)[member]
    algorithm = config["algorithm"] | own.settings
    copied = ("source", "dataset_id", "fingerprint", "observation_layout")
    acting = ("action_selection", "num_candidates")
    return {
        "task": config["task"],
        **{name: dataset[name] for name in copied},
        "environment": dataset["env"],
        "algorithm": algorithm["name"],
        "seed": own.seed,
        "member": member,
        "update": update,
        "checkpoint": "last",
        "acting": {name: algorithm[name] for name in acting if name in algorithm},
        "settings": algorithm,
        "trained_with": {key: run[key] for key in ("versions", "commit") if key in run},
        "exported_with": {"versions": versions(), "commit": commit()},
    }
