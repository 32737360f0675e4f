"""Runs one configuration: data, training, evaluation, figures and summary.

`start` trains into a new folder, `resume` continues from a folder's newest checkpoint, and
`evaluate` evaluates that checkpoint. All three make the same parts from the configuration.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections

from dtql_jax.commands import results
from dtql_jax.commands.cli import StuckError
from dtql_jax.datasets import DatasetInfo
from dtql_jax.errors import UserError, disk_trouble
from dtql_jax.evaluation.pool import SimulatorError
from dtql_jax.evaluation.rollout import EvaluationResult, Evaluator
from dtql_jax.presets.parts import (
    algorithm_of,
    final_episodes,
    load_data,
    overlap_of,
    seeds_of,
    trainer_config,
)
from dtql_jax.training import background, hosts
from dtql_jax.training.checkpoint import Checkpoints, SaveError
from dtql_jax.training.data_parallel import Placement, place
from dtql_jax.training.device import describe_device, enable_compilation_cache, use_cpu_cores
from dtql_jax.training.logging import MetricsLog
from dtql_jax.training.progress import Progress
from dtql_jax.training.run_folder import RunFolder
from dtql_jax.training.trainer import Policy, Trainer
from dtql_jax.types import Transition

Stop = Callable[[], bool]


class Member(NamedTuple):
    """One member of a population: its seed, and {name: value} of its own hyperparameters."""

    seed: int
    settings: dict[str, float]


class Parts(NamedTuple):
    """The data, environments and devices of a run; `seconds` is the time to load the data."""

    data: Transition
    info: DatasetInfo
    seconds: float
    evaluator: Evaluator
    placement: Placement


class StoppedError(Exception):
    """Ctrl-C during an evaluation; the checkpoint before it is whole."""


def start(
    config: ml_collections.ConfigDict,
    out: str | Path,
    display: Progress,
    should_stop: Stop,
    members: Sequence[Member] | None = None,
) -> bool:
    """Trains into the new folder `out`; returns False if stopped early.

    Nothing is written before configuration, data and environment have been checked. By default
    there is one member for each seed of the configuration.

    Raises:
      UserError: the configuration or the data are wrong.
      StuckError: all members diverged, or the disk is full.
    """
    plain = config.to_dict()
    trainer_config(plain)
    members = list(members or members_of({"config": plain}))
    use_cpu_cores()
    display = _of_this_host(display)
    hosts.on_first(lambda: RunFolder.check_free(out))
    with _open(plain, members, display) as parts:
        run = {
            "config": plain,
            "members": [member._asdict() for member in members],
            "dataset": parts.info.to_dict(),
            "data_seconds": parts.seconds,
        }
        with RunFolder.shared(out, lambda: RunFolder.create(out, run)) as folder:
            return _run(folder, parts, display, should_stop)


def resume(path: str | Path, display: Progress, should_stop: Stop) -> bool:
    """Continues a run from its newest checkpoint; returns False if stopped again."""
    use_cpu_cores()
    display = _of_this_host(display)
    with RunFolder.shared(path, lambda: RunFolder.open(path)) as folder:
        if (folder.path / "summary.json").exists():
            raise UserError(f"RUN {path} has ended already; its result is in summary.json")
        with _open_again(folder, display) as parts:
            return _run(folder, parts, display, should_stop, resume=True)


def evaluate(path: str | Path, episodes: int, display: Progress) -> dict[str, Any]:
    """Evaluates the newest checkpoint of a run; returns its scores and writes nothing."""
    use_cpu_cores()
    with RunFolder.open(path) as folder:
        config, members = folder.run["config"], members_of(folder.run)
        episodes = episodes or final_episodes(config)
        with (
            _open_again(folder, display) as parts,
            Checkpoints(folder.path / "checkpoints") as checkpoints,
        ):
            trainer = make_trainer(
                config, parts.data, members, checkpoints=checkpoints, display=display
            )
            trainer.resume()
            display.start("evaluate", len(members) * episodes, unit="episodes")
            result = parts.evaluator.run(trainer.policy(), episodes, progress=display.advance)
        scores = results.scores_of(parts.info, result)
        return {"update": trainer.update, "episodes": episodes} | scores


def members_of(run: dict[str, Any]) -> list[Member]:
    """Returns the members of a run, given the content of its run.json."""
    if "members" in run:
        return [Member(**member) for member in run["members"]]
    return [Member(seed, {}) for seed in seeds_of(run["config"])]


def make_trainer(
    config: dict[str, Any], data: Transition, members: Sequence[Member] = (), **arguments: Any
) -> Trainer:
    """Makes the trainer of a configuration, by default for the configuration's seeds."""
    enable_compilation_cache()
    settings, algorithm = trainer_config(config), algorithm_of(config)
    members = members or members_of({"config": config})
    names = members[0].settings
    values = {name: [member.settings[name] for member in members] for name in names}
    seeds = [member.seed for member in members]
    return Trainer(algorithm, data, seeds, settings, hyperparameters=values, **arguments)


@contextlib.contextmanager
def open_evaluator(
    config: dict[str, Any], info: DatasetInfo, members: Sequence[Member]
) -> Iterator[Evaluator]:
    """Opens the environments of some members; StuckError if one fails within the context."""
    workers = None if config["eval_workers"] < 0 else config["eval_workers"]
    seeds = [member.seed for member in members]
    with Evaluator(info.env, seeds, config["eval_envs"] or None, workers) as evaluator:
        found = (evaluator.observation_dim, evaluator.action_dim)
        expected = (info.observation_dim, info.action_dim)
        if found != expected:
            raise UserError(
                f"dataset {info.dataset_id} has {expected[0]} observations and {expected[1]} "
                f"actions, its environment {info.env.env_id} {found[0]} and {found[1]}"
            )
        try:
            yield evaluator
        except SimulatorError as error:
            raise StuckError(_in_short(error)) from error


@contextlib.contextmanager
def _open(config: dict[str, Any], members: Sequence[Member], display: Progress) -> Iterator[Parts]:
    """Loads the data and opens the environments of this host's members."""
    algorithm = algorithm_of(config)
    data, info, seconds = hosts.together(lambda: load_data(config, display))
    placement = place(algorithm, len(members), config["batch_size"], data)
    found = hosts.texts(info.fingerprint)
    if len(set(found)) > 1:
        short = ", ".join(f"host {i} {each[:19]}" for i, each in enumerate(found))
        raise UserError(f"the hosts' data {info.dataset_id} differ: {short}; copy it from one")
    with open_evaluator(config, info, members[placement.own]) as evaluator:
        yield Parts(data, info, seconds, evaluator, placement)


@contextlib.contextmanager
def _open_again(folder: RunFolder, display: Progress) -> Iterator[Parts]:
    """Opens the parts of an earlier run; UserError where the data have changed."""
    stored = folder.run["dataset"]
    with _open(folder.run["config"], members_of(folder.run), display) as parts:
        info = parts.info
        if info.fingerprint != stored["fingerprint"]:
            raise UserError(
                f"RUN {folder.path} was trained on {stored['dataset_id']} "
                f"({stored['fingerprint'][:19]}); found {info.dataset_id} "
                f"({info.fingerprint[:19]}), other data"
            )
        yield parts


def _of_this_host(display: Progress) -> Progress:
    """The display of the first host; the other hosts only warn."""
    if hosts.first():
        return display
    display.stop()
    return Progress(quiet=True)


def _in_short(error: SimulatorError) -> str:
    """The first line of an error, and the last one of the traceback below it."""
    lines = str(error).strip().splitlines()
    return " ".join([lines[0], *lines[1:][-1:]])


@contextlib.contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Turns failures of simulator and disk into StuckError with the command that continues."""
    try:
        yield
    except (SimulatorError, SaveError, OSError) as error:
        reason, room = str(error), "make room there, then "
        if isinstance(error, SimulatorError):
            reason, room = _in_short(error), ""
        elif isinstance(error, OSError):
            if not disk_trouble(error):
                raise
            reason = f"{error.filename or folder} cannot be written: {disk_trouble(error)}"
        raise StuckError(
            f"{reason}; the last checkpoint is whole, {room}continue with: make resume RUN={folder}"
        ) from error


def _run(
    folder: RunFolder, parts: Parts, display: Progress, should_stop: Stop, resume: bool = False
) -> bool:
    """Trains and writes the results; returns False if stopped early."""
    config, members = folder.run["config"], members_of(folder.run)
    last: list[EvaluationResult] = []

    def play(policy: Policy, update: int) -> list[dict[str, Any]]:
        final = update == trainer.settings.total
        episodes = final_episodes(config) if final else config["eval_episodes"]
        shown = not trainer.overlaps_at(update)
        if shown:
            own = len(members[parts.placement.own])
            display.start("evaluate", own * episodes, unit="episodes")

        def progress(done: int, total: int) -> None:
            if should_stop():
                raise StoppedError
            if shown:
                display.advance(done)

        record = config["record_episodes"] if final else 0
        last[:] = [parts.evaluator.run(policy, episodes, record, progress)]
        return results.rows_of(parts.info, last[0])

    def make_log(metrics: Sequence[str], resume_at: int | None) -> MetricsLog:
        seeds = [member.seed for member in members]
        wandb = folder.run if config.get("wandb") else None
        return MetricsLog(folder.path, seeds, metrics, resume_at=resume_at, wandb=wandb)

    _introduce(config, members, parts.info, display)
    stopped_at = None
    with _resumable(folder.path), Checkpoints(folder.path / "checkpoints") as checkpoints:
        trainer = make_trainer(
            config,
            parts.data,
            members,
            placement=parts.placement,
            evaluate=play,
            overlap=background.wanted(overlap_of(config)),
            checkpoints=checkpoints,
            make_log=make_log if hosts.first() else None,
            display=display,
        )
        if resume and checkpoints.latest() is not None:
            trainer.resume()
            display.say(f"resuming at update {trainer.update:,}")
            for update, score in results.earlier_scores(folder.path, trainer.update):
                display.score(score, update)
        try:
            finished = trainer.run(should_stop).finished
        except StoppedError:
            finished = False
            checkpoints.wait()
            stopped_at = checkpoints.latest()
    if not finished and len(trainer.diverged) == len(members):
        first = min(trainer.diverged.values())
        raise StuckError(
            f"{first}, no member is left; the last finite state is in "
            f"{folder.path / 'checkpoints'}; try a smaller learning rate"
        )
    if not finished:
        # stopping a background evaluation loses the updates since it began
        at = stopped_at or trainer.update
        display.say(f"stopped at update {at:,}; continue with: make resume RUN={folder.path}")
        return False
    result = _of_all_hosts(last[0])
    if hosts.first():
        with _resumable(folder.path):
            results.write(folder, parts.info, trainer, result, display)
    return True


def _of_all_hosts(result: EvaluationResult) -> EvaluationResult:
    """The episodes of the members of all hosts."""
    names = ("returns", "lengths", "successes", "nonfinite_actions")
    own = {name: getattr(result, name) for name in names}
    known = {name: array for name, array in own.items() if array is not None}
    return dataclasses.replace(result, **hosts.concatenate(known))


def _introduce(
    config: dict[str, Any], members: Sequence[Member], info: DatasetInfo, display: Progress
) -> None:
    """Shows what is trained, and where."""
    device = describe_device()
    settings = len({tuple(member.settings.items()) for member in members})
    seeds = len({member.seed for member in members})
    population = f"{seeds} seed(s)" + (f" x {settings} settings" * (settings > 1))
    title = f"{config['algorithm']['name']} on {config['task']}"
    hardware = f"{device['devices']} x {device['kind']}"
    display.about(title, f"source {info.source}", population, hardware)
    display.start("init")
    display.say(
        f"{title}: {population}, "
        f"{config['pretrain_steps']:,} + {config['train_steps']:,} updates of "
        f"{config['batch_size']} on {hardware}"
    )
