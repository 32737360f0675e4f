"""Continues an offline run with new data from its environment; draws the learning curves.

    python -m experiments.finetune --run=runs/mine --steps=3000 --out=runs/finetuned

Arms (--config.arms): symmetric (half of each batch is new data), uniform (old and new data as one
dataset), offline (the same number of updates without new data), scratch (fresh networks, new data
only). All members of the run are fine-tuned at once. Each arm is a run folder below --out, which
make evaluate and make export take. Finished arms are not repeated; an interrupted one starts
again. Writes finetune.png, table.md, table.json and run.json.
"""

import json
from typing import Any

import numpy as np
from absl import flags

from dtql_jax.commands import cli, restore, runner
from dtql_jax.datasets.transitions import transform_rewards
from dtql_jax.errors import UserError, near_matches
from dtql_jax.presets import parts
from dtql_jax.training.checkpoint import SaveError
from dtql_jax.training.device import describe_device
from dtql_jax.training.run_folder import RunFolder
from experiments import study
from experiments.finetune import arms, curves
from experiments.finetune.settings import get_config


def define(argv: list[str]) -> None:
    """Defines the flags of this command."""
    study.define(argv, get_config, None)
    flags.DEFINE_string("run", None, "Folder of the offline run; it is not changed.")
    flags.DEFINE_integer("steps", None, "Updates of each arm (config.steps).")


def check(settings: dict[str, Any]) -> list[str]:
    """Returns the arms of a configuration; raises UserError if a setting is wrong."""
    study.check_least(settings, steps=1, env_steps_per_update=1, updates_per_call=1, capacity=0)
    study.check_least(settings, warmup_steps=0, eval_every=1, eval_episodes=1)
    names = [name.strip() for name in settings["arms"].split(",")]
    for name in names:
        if name not in arms.ARMS:
            raise UserError(f"config.arms: no arm {name!r}; {near_matches(name, arms.ARMS)}")
    at_once = settings["updates_per_call"] * settings["env_steps_per_update"]
    if 0 < settings["capacity"] < max(at_once, settings["warmup_steps"]):
        raise UserError(
            f"capacity is {settings['capacity']}; expected at least the warmup_steps "
            f"({settings['warmup_steps']}) and the steps between two calls ({at_once})"
        )
    return list(dict.fromkeys(names))


def load(run: dict[str, Any], settings: dict[str, Any], display: Any) -> arms.Shared:
    """Returns what all arms share; raises UserError if the data is not the offline run's."""
    config = run["config"] | {"algorithm": dict(run["config"]["algorithm"])}
    if "lr_decay" in config["algorithm"]:
        config["algorithm"]["lr_decay"] = False  # the run's cosine has decayed to 0
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
    offline = {name: stored[name] for name in ("dataset_id", "fingerprint")}
    source = {
        # arms may be added to a study
        "settings": {key: value for key, value in settings.items() if key != "arms"},
        "offline": {"config": run["config"]} | offline,
    }
    return arms.Shared(settings, config, runner.members_of(run), data, info, transform, source)


def run() -> int:
    """Trains the missing arms and writes the results."""
    values = flags.FLAGS
    folder = cli.run_folder()
    if values.steps is not None:
        values.config.steps = values.steps
    settings = study.settings()
    names = check(settings)
    record = RunFolder.read(folder)
    with study.Study(
        "fine-tuning", settings, str(folder), out=values.out or f"{folder}-finetuned"
    ) as s:
        shared = load(record, settings, s.display)
        with RunFolder.open(folder) as opened:
            offline = restore.trainer_of(opened, shared.config)
        with (
            cli.stop_requested() as should_stop,
            runner.open_evaluator(shared.config, shared.info, shared.members) as evaluator,
        ):
            for name in names:
                path = s.out / name
                if arms.is_finished(path, shared.source):
                    s.display.say(f"{name}: already in {path}")
                    continue
                start = offline
                if not arms.ARMS[name].pretrained:
                    sample = study.sample_of(record["dataset"])
                    start = runner.make_trainer(shared.config, sample, shared.members)
                try:
                    finished = arms.train(
                        name, shared, start, evaluator, path, s.display, should_stop
                    )
                except SaveError as error:
                    raise cli.StuckError(f"{error}; make room there, then call again") from error
                if not finished:
                    s.display.say(f"stopped; arm {name} starts again when called again")
                    return cli.STOPPED
        _write(s, record, shared, offline.update, names)
    return 0


def _write(
    s: study.Study, record: dict[str, Any], shared: arms.Shared, update: int, names: list[str]
) -> None:
    """Writes table and figure from the arms' facts."""
    facts = [json.loads((s.out / name / arms.DONE).read_text()) for name in names]
    for one in facts:
        s.record(one["arm"], one["seconds"])
    info, device = shared.info, describe_device()
    goals = info.env.success == "reward"
    score = "success rate" if goals else "return"
    if info.reference_scores is not None:
        score = "normalised score"
    rows = curves.rows_of(facts, goals)
    budget = f"{len(shared.members)} seed(s) x {shared.settings['eval_episodes']} episodes"
    head = (
        f"{record['config']['algorithm']['name']} on {info.dataset_id} (source {info.source}, "
        f"{info.transitions:,} transitions), {budget}, from an offline run of {update:,} updates; "
        f"{device['devices']} x {device['kind']}"
    )
    title = f"{record['config']['task']}: online fine-tuning"
    subtitle = f"{info.transitions:,} offline transitions; mean ± standard error of {budget}"
    text = f"{head}\n\n{study.table(curves.COLUMNS, rows)}\n\n"
    s.write(
        f"{text}Scores: {score}, mean ± standard error over seeds.",
        {"head": head, "score": score, "rows": rows, "arms": facts},
        {"finetune.png": lambda path: curves.draw(facts, path, title, subtitle, score)},
    )


if __name__ == "__main__":
    cli.launch(run, __doc__, define, live=True)
