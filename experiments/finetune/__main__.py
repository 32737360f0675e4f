"""Goes on from an offline run with new data from its environment; draws the learning curves.

    python -m experiments.finetune --run=runs/mine --steps=3000 --out=runs/finetuned

Arms (--config.arms): symmetric (half of each batch is new data), uniform (old and new data as one
dataset), offline (the same number of updates without new data), scratch (fresh networks, new data
only). All members of the run are fine-tuned at once. Each arm is a folder of a run, below --out,
that make evaluate and make export take; an arm that has ended is not repeated, one that was killed
begins again. Writes finetune.png, table.md, table.json and run.json.
"""

import json
from pathlib import Path
from typing import Any

from absl import flags

from dtql_jax.commands import cli
from dtql_jax.errors import UserError, near_matches
from experiments.finetune import settings as finetune_config


def define(argv: list[str]) -> None:
    """The flags of this command."""
    cli.define_own_config(argv, finetune_config.get_config)
    flags.DEFINE_string("run", None, "Folder of the offline run; it is not changed.")
    flags.DEFINE_integer("steps", None, "Updates of each arm (config.steps).")
    flags.DEFINE_string("out", None, "Folder of arms and results; by default RUN-finetuned.")
    cli.define_display()


def check(settings: dict[str, Any]) -> list[str]:
    """The arms that a configuration names; UserError where a setting is wrong."""
    from experiments.finetune.arms import ARMS

    at_least = dict.fromkeys(settings, 1) | {"warmup_steps": 0, "capacity": 0}
    for name, least in at_least.items():
        if name != "arms" and settings[name] < least:
            raise UserError(f"{name} is {settings[name]}; expected at least {least}")
    names = [name.strip() for name in settings["arms"].split(",")]
    for name in names:
        if name not in ARMS:
            raise UserError(f"config.arms: no arm {name!r}; {near_matches(name, ARMS)}")
    at_once = settings["updates_per_call"] * settings["env_steps_per_update"]
    if 0 < settings["capacity"] < max(at_once, settings["warmup_steps"]):
        raise UserError(
            f"capacity is {settings['capacity']}; expected at least the warmup_steps "
            f"({settings['warmup_steps']}) and the steps between two calls ({at_once})"
        )
    return list(dict.fromkeys(names))


def _open(out: Path, about: dict[str, Any], circumstances: dict[str, Any]) -> None:
    """Makes the folder of a study; UserError where it holds another one."""
    from dtql_jax.training.run_folder import commit, versions, write_json

    record = out / "run.json"
    if record.exists():
        found = json.loads(record.read_text())
        differing = [name for name in about if found.get(name) != about[name]]
        if differing:
            raise UserError(
                f"OUT {out} holds a fine-tuning with another {differing[0]}; choose another OUT"
            )
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"OUT {out} cannot be made: {error.strerror}") from error
    circumstances = circumstances | {"versions": versions(), "commit": commit()}
    write_json(record, about | circumstances)


def _study(run: dict[str, Any], settings: dict[str, Any], display: Any) -> Any:
    """The data of the run and all that its arms share; UserError where the data are others."""
    import numpy as np

    from dtql_jax.commands import runner
    from dtql_jax.datasets.transitions import transform_rewards
    from dtql_jax.presets import parts
    from experiments.finetune.arms import Study

    config = dict(run["config"])
    algorithm = dict(config["algorithm"])
    if "lr_decay" in algorithm:
        algorithm["lr_decay"] = False  # the run's cosine has come to 0
    config["algorithm"] = algorithm
    data, info, _ = parts.load_raw(config, display)
    stored = run["dataset"]
    if info.fingerprint != stored["fingerprint"]:
        raise UserError(
            f"the run was trained on {stored['dataset_id']} ({stored['fingerprint'][:19]}); found "
            f"{info.dataset_id} ({info.fingerprint[:19]}), other data"
        )
    rewards = np.asarray(data.rewards)
    transform = parts.reward_transform(config, rewards)
    data = data._replace(rewards=transform_rewards(rewards, *transform))
    return Study(settings, config, runner.members_of(run), data, info, transform, {})


def run() -> int:
    """The command."""
    values = flags.FLAGS
    if not values.run:
        raise UserError("--run is missing; expected the folder of a run (make finetune RUN=...)")
    if values.steps is not None:
        values.config.steps = values.steps
    settings = values.config.to_dict()
    path, out = Path(values.run), Path(values.out or f"{values.run.rstrip('/')}-finetuned")
    display = cli.open_display("fine-tuning", str(path))
    with display, cli.stop_requested() as should_stop:
        from dtql_jax.commands import restore, runner
        from dtql_jax.training.checkpoint import SaveError
        from dtql_jax.training.device import describe_device, use_cpu_cores
        from dtql_jax.training.run_folder import RunFolder, write_json
        from experiments.finetune import arms, curves

        names = check(settings)
        with RunFolder.open(path) as folder:
            record = folder.run
            use_cpu_cores()
            study = _study(record, settings, display)
            offline = restore.trainer_of(folder, study.config)
        about = {
            # arms may be added to a study
            "settings": {k: v for k, v in settings.items() if k != "arms"},
            "offline": {
                "config": record["config"],
                "updates": offline.update,
                "dataset_id": study.info.dataset_id,
                "fingerprint": study.info.fingerprint,
            },
        }
        _open(out, about, {"device": describe_device()})
        sample = study.data._replace(**{k: v[:1] for k, v in study.data._asdict().items()})
        with runner.open_evaluator(study.config, study.info, study.members) as evaluator:
            for name in names:
                if arms.prepare(out / name):
                    display.say(f"{name}: has ended already, in {out / name}")
                    continue
                begin = offline
                if not arms.ARMS[name].pretrained:
                    begin = runner.make_trainer(study.config, sample, study.members)
                try:
                    if not arms.train(
                        name, study, begin, evaluator, out / name, display, should_stop
                    ):
                        display.say(f"stopped; arm {name} begins again when called again")
                        return cli.STOPPED
                except SaveError as error:
                    raise cli.StuckError(f"{error}; make room there, then call again") from error
        facts = [json.loads((out / name / arms.DONE).read_text()) for name in names]
    rows = curves.table(facts)
    maze = study.info.env.success == "reward"
    for row in rows:
        row["goals"] = maze
    device = describe_device()
    seeds = len(study.members)
    head = (
        f"{record['config']['algorithm']['name']} on {study.info.dataset_id} "
        f"(source {study.info.source}, {study.info.transitions:,} transitions), {seeds} seed(s) x "
        f"{settings['eval_episodes']} episodes, from an offline run of {offline.update:,} updates; "
        f"{device['devices']} x {device['kind']}"
    )
    score = "success rate" if maze else "return"
    if study.info.reference_scores is not None:
        score = "normalised score"
    text = (
        f"{head}\n\n{curves.markdown(rows)}\n\nScores: {score}, mean ± standard error over seeds.\n"
    )
    (out / "table.md").write_text(text)
    write_json(out / "table.json", {"head": head, "score": score, "rows": rows, "arms": facts})
    curves.figure(
        facts,
        out / "finetune.png",
        title=f"{record['config']['task']}: online fine-tuning",
        subtitle=f"{study.info.transitions:,} offline transitions; mean ± standard error of "
        f"{seeds} seeds x {settings['eval_episodes']} episodes",
        score_name=score,
    )
    print(text)
    for name in ("finetune.png", "table.md", "table.json", *(f"{name}/" for name in names)):
        display.say(f"  {out / name}")
    return 0


if __name__ == "__main__":
    cli.launch(run, __doc__, define, live=True)
