"""One run from its configuration: data, training, evaluation, pictures, summary.

`start` begins a run in a new folder, `resume` goes on with one, `evaluate` plays a finished one's
checkpoint again. All three put the same parts together, so a resumed run is the same run.
"""

import contextlib
import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
import numpy as np

from dtql_jax.commands import divergence, results
from dtql_jax.commands.cli import StuckError
from dtql_jax.datasets import DatasetInfo
from dtql_jax.errors import UserError
from dtql_jax.evaluation import scores
from dtql_jax.evaluation.pool import SimulatorError
from dtql_jax.evaluation.rollout import EvaluationResult, Evaluator, concatenate
from dtql_jax.plots import curves, mazes
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
from dtql_jax.training.device import (
    describe_device,
    enable_compilation_cache,
    use_cpu_cores,
)
from dtql_jax.training.logging import MetricsLog, read_rows
from dtql_jax.training.progress import Progress, duration
from dtql_jax.training.run_folder import RunFolder, write_json
from dtql_jax.training.trainer import Policy, Trainer
from dtql_jax.types import Transition

Stop = Callable[[], bool]


class Member(NamedTuple):
    """One member of a population.

    Attributes:
      seed: of its networks, batches and evaluation.
      settings: {name: value} of the algorithm's traced numbers in which it differs from the
        configuration; all members have the same names.
    """

    seed: int
    settings: dict[str, float]


class StoppedError(Exception):
    """Ctrl-C in the middle of an evaluation; the checkpoint before it is whole."""


def start(
    config: ml_collections.ConfigDict,
    out: str | Path,
    display: Progress,
    should_stop: Stop,
    members: Sequence[Member] | None = None,
    debug: bool = False,
) -> bool:
    """Trains from the beginning into a new folder; False if it was stopped early.

    Nothing is written before configuration, data and environment have been found good.

    Args:
      config: of the run.
      out: the folder.
      display: what the user sees.
      should_stop: asked between two calls of the device.
      members: of the population; None: one for each of the configuration's seeds.
      debug: names the first operation that was not finite of each member that diverges.

    Raises:
      UserError: something is wrong with the input.
      StuckError: all members' numbers stopped being finite.
    """
    plain = config.to_dict()
    trainer_config(plain)
    algorithm = algorithm_of(plain)
    members = list(members or (Member(seed, {}) for seed in seeds_of(plain)))
    use_cpu_cores()
    display = _of_this_host(display)
    hosts.on_first(lambda: RunFolder.check_free(out))
    data, info, seconds = hosts.together(lambda: load_data(plain, display))
    _check_same(info)
    placement = place(algorithm, len(members), plain["batch_size"], data)
    with open_evaluator(plain, info, members[placement.own]) as evaluator:
        run = {
            "config": plain,
            "members": [member._asdict() for member in members],
            "dataset": info.to_dict(),
            "data_seconds": seconds,
        }
        with RunFolder.shared(out, lambda: RunFolder.create(out, run)) as folder:
            parts = (data, info, evaluator, placement)
            return _run(folder, *parts, display, should_stop, False, debug)


def resume(path: str | Path, display: Progress, should_stop: Stop, debug: bool = False) -> bool:
    """Goes on with a run exactly where its newest checkpoint is; False if stopped again."""
    use_cpu_cores()
    display = _of_this_host(display)
    hosts.together(lambda: RunFolder.read(path))
    with RunFolder.shared(path, lambda: RunFolder.open(path)) as folder:
        if (folder.path / "summary.json").exists():
            raise UserError(f"RUN {path} has ended already; its result is in summary.json")
        config, members = folder.run["config"], members_of(folder.run)
        data, info, _ = hosts.together(lambda: load_data(config, display))
        _check_same(info)
        stored = folder.run["dataset"]
        if info.fingerprint != stored["fingerprint"]:
            raise UserError(
                f"RUN {path} was trained on {stored['dataset_id']} ({stored['fingerprint'][:19]}); "
                f"found {info.dataset_id} ({info.fingerprint[:19]}), other data"
            )
        placement = place(algorithm_of(config), len(members), config["batch_size"], data)
        with open_evaluator(config, info, members[placement.own]) as evaluator:
            parts = (data, info, evaluator, placement)
            return _run(folder, *parts, display, should_stop, True, debug)


def evaluate(path: str | Path, episodes: int, display: Progress) -> dict[str, Any]:
    """Plays the newest checkpoint of a run again; returns its scores, and writes nothing."""
    with RunFolder.open(path) as folder:
        config, members = folder.run["config"], members_of(folder.run)
        use_cpu_cores()
        data, info, _ = load_data(config, display)
        episodes = episodes or final_episodes(config)
        with (
            open_evaluator(config, info, members) as evaluator,
            Checkpoints(folder.path / "checkpoints") as checkpoints,
        ):
            fit = make_trainer(config, data, members, checkpoints=checkpoints, display=display)
            fit.resume()
            with _progress(display, "evaluate", len(fit.seeds) * episodes) as progress:
                result = evaluator.run(fit.policy(), episodes, progress=progress)
        return {"update": fit.update, "episodes": episodes} | results.scores_of(info, result)


def members_of(run: dict[str, Any]) -> list[Member]:
    """The members of a run, from the content of its run.json."""
    if "members" in run:
        return [Member(**member) for member in run["members"]]
    return [Member(seed, {}) for seed in seeds_of(run["config"])]


def _of_this_host(display: Progress) -> Progress:
    """The display of the first host; the others only warn."""
    if hosts.first():
        return display
    display.stop()
    return Progress(quiet=True)


def _check_same(info: DatasetInfo) -> None:
    """UserError where another host has found other data."""
    found = hosts.everyone(info.fingerprint)
    if len(set(found)) > 1:
        short = ", ".join(f"host {i} {each[:19]}" for i, each in enumerate(found))
        raise UserError(f"the hosts' data {info.dataset_id} differ: {short}; copy it from one")


@contextlib.contextmanager
def open_evaluator(
    config: dict[str, Any], info: DatasetInfo, members: Sequence[Member]
) -> Iterator[Evaluator]:
    """The environments of some members; StuckError where one fails within the context."""
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


def _in_short(error: SimulatorError) -> str:
    """Its first line, and the last one of the traceback that may follow."""
    lines = str(error).strip().splitlines()
    return " ".join([lines[0], *lines[1:][-1:]])


def make_trainer(
    config: dict[str, Any], data: Transition, members: Sequence[Member] = (), **arguments: Any
) -> Trainer:
    """The fit of a configuration, by default for the seeds that it names."""
    enable_compilation_cache()
    settings, algorithm = trainer_config(config), algorithm_of(config)
    members = members or [Member(seed, {}) for seed in seeds_of(config)]
    names = members[0].settings
    values = {name: [member.settings[name] for member in members] for name in names}
    seeds = [member.seed for member in members]
    return Trainer(algorithm, data, seeds, settings, hyperparameters=values, **arguments)


# ------------------------------------------------------------------------------------- the run


def _earlier_scores(folder: Path, update: int) -> Iterator[tuple[int, float]]:
    """(update, mean score of the members) of the evaluations up to an update."""
    found: dict[int, list[float]] = {}
    for row in read_rows(folder / "evaluations.csv"):
        found.setdefault(int(row["update"]), []).append(float(row["score"]))
    yield from ((at, float(np.mean(each))) for at, each in found.items() if at <= update)


def _run(
    folder: RunFolder,
    data: Transition,
    info: DatasetInfo,
    evaluator: Evaluator,
    placement: Placement,
    display: Progress,
    should_stop: Stop,
    resume: bool,
    debug: bool,
) -> bool:
    config, members = folder.run["config"], members_of(folder.run)
    seeds = [member.seed for member in members]
    last: dict[str, EvaluationResult] = {}

    def play(policy: Policy, update: int) -> list[dict[str, Any]]:
        final = update == config["pretrain_steps"] + config["train_steps"]
        episodes = final_episodes(config) if final else config["eval_episodes"]
        record = config["record_episodes"] if final else 0
        unseen = contextlib.nullcontext(lambda done, total: None)  # the display shows training
        progress_of = _progress(display, "evaluate", len(members[placement.own]) * episodes)
        with unseen if fit.overlaps_at(update) else progress_of as shown:

            def progress(done: int, total: int) -> None:
                if should_stop():
                    raise StoppedError
                shown(done, total)

            result = evaluator.run(policy, episodes, record, progress)
        last["result"] = result
        return results.rows_of(info, result)

    def make_log(metrics: list[str], resume_at: int | None) -> MetricsLog:
        wandb = folder.run if config.get("wandb") else None
        return MetricsLog(folder.path, seeds, metrics, resume_at=resume_at, wandb=wandb)

    device = describe_device()
    settings = len({tuple(member.settings.items()) for member in members})
    population = f"{len(set(seeds))} seed(s)" + (f" x {settings} settings" * (settings > 1))
    title = f"{config['algorithm']['name']} on {config['task']}"
    hardware = f"{device['devices']} x {device['kind']}"
    display.about(title, f"source {info.source}", population, hardware)
    display.start("init")
    display.say(
        f"{title}: {population}, "
        f"{config['pretrain_steps']:,} + {config['train_steps']:,} updates of "
        f"{config['batch_size']} on {hardware}"
    )
    with Checkpoints(folder.path / "checkpoints") as checkpoints:
        fit = make_trainer(
            config,
            data,
            members,
            placement=placement,
            evaluate=play,
            overlap=background.wanted(overlap_of(config)),
            checkpoints=checkpoints,
            make_log=make_log if hosts.first() else None,
            display=display,
        )
        if resume and checkpoints.latest() is not None:
            fit.resume()
            display.say(f"going on at update {fit.update:,}")
            for update, score in _earlier_scores(folder.path, fit.update):
                display.score(score, update)
        stopped_at = None
        try:
            finished = fit.run(should_stop).finished
        except StoppedError:
            finished = False
            with contextlib.suppress(SaveError):
                checkpoints.wait()
            stopped_at = checkpoints.latest()
        except SimulatorError as error:
            raise StuckError(
                f"{_in_short(error)}; the checkpoint before it is whole, go on with: make resume "
                f"RUN={folder.path}"
            ) from error
        except SaveError as error:
            raise StuckError(
                f"{error}; make room there, then go on with: make resume RUN={folder.path}"
            ) from error
    if debug:
        divergence.explain(fit, data, display)
    if not finished and len(fit.diverged) == len(members):
        raise StuckError(divergence.last_words(fit, folder.path, debug))
    if not finished:
        # an evaluation beside training that was stopped takes the updates since it began with it
        at = stopped_at or fit.update
        display.say(f"stopped at update {at:,}; go on with: make resume RUN={folder.path}")
        return False
    result = concatenate(hosts.everyone(last["result"]))
    if not hosts.first():
        return True
    try:
        _finish(folder, info, fit, result, display)
    except OSError as error:
        raise StuckError(
            f"{folder.path} cannot be written: {error.strerror}; the run has ended, its checkpoint "
            f"is whole: make room there, then write its results by: make resume RUN={folder.path}"
        ) from error
    return True


def _finish(
    folder: RunFolder, info: DatasetInfo, fit: Trainer, result: EvaluationResult, display: Progress
) -> None:
    """Writes episodes.csv, the pictures and summary.json, and says where they are."""
    display.start("pictures")
    config, members = folder.run["config"], members_of(folder.run)
    seeds = [member.seed for member in members]
    _write_episodes(folder.path / "episodes.csv", seeds, result)
    drawn = _draw(folder.path, info, config, result)
    choice = {
        key: config["algorithm"][key]
        for key in ("action_selection", "num_candidates")
        if key in config["algorithm"]
    }
    summary = {
        "task": config["task"],
        "source": info.source,
        "dataset_id": info.dataset_id,
        "dataset_fingerprint": info.fingerprint,
        "algorithm": config["algorithm"]["name"],
        "preset": config["preset"],
        "seeds": sorted(set(seeds)),
        "members": _member_rows(members, info, fit, result),
        "updates": config["train_steps"],
        "pretrain_updates": config["pretrain_steps"],
        "checkpoint": "last",
        "acting": choice,
        "environment": info.env.env_id,
        "episodes": result.returns.shape[1],
        **results.scores_of(info, result),
        "seconds": {"data": folder.run["data_seconds"], **fit.seconds},
        "device": describe_device(),
        "versions": folder.run["versions"],
        "commit": folder.run["commit"],
    }
    write_json(folder.path / "summary.json", summary)
    error = summary["score_standard_error"]
    within = "" if error is None else f" +- {error:.1f}"
    diverged = f", {len(fit.diverged)} of them frozen (diverged)" if fit.diverged else ""
    display.result(
        f"{summary['score_name']} {summary['score_mean']:.1f}{within} on {info.dataset_id} "
        f"(source {info.source}), {len(members)} member(s) x {summary['episodes']} episodes, "
        f"last checkpoint{diverged}"
    )
    spent = ", ".join(f"{name} {duration(s)}" for name, s in summary["seconds"].items())
    display.say(f"time: {spent}")
    display.say(background.share(summary["seconds"]))
    display.say(f"run folder: {folder.path}")
    for name in ("summary.json", *drawn, "evaluations.csv", "metrics.csv", "checkpoints/"):
        display.say(f"  {name}")


def _member_rows(
    members: Sequence[Member], info: DatasetInfo, fit: Trainer, result: EvaluationResult
) -> list[dict[str, Any]]:
    """Each member's seed, own settings and score, and where it diverged (None: nowhere)."""
    _, values = scores.score(result.returns, result.successes, info.env, info.reference_scores)
    rows = []
    for i, member in enumerate(members):
        diverged = fit.diverged[i]._asdict() if i in fit.diverged else None
        rows.append(member._asdict() | {"score": float(values[i].mean()), "diverged": diverged})
    return rows


def _write_episodes(path: Path, seeds: list[int], result: EvaluationResult) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["member", "seed", "episode", "return", "length", "success"])
        for (member, episode), value in np.ndenumerate(result.returns):
            success = "" if result.successes is None else int(result.successes[member, episode])
            length = int(result.lengths[member, episode])
            writer.writerow([member, seeds[member], episode, float(value), length, success])


def _draw(
    folder: Path, info: DatasetInfo, config: dict[str, Any], result: EvaluationResult
) -> list[str]:
    """Draws what there is to see; returns the names of the pictures."""
    name, _ = scores.score(result.returns, result.successes, info.env, info.reference_scores)
    about = {"task": config["task"], "source": info.source, "dataset": info.dataset_id}
    curves.learning_curve(
        read_rows(folder / "evaluations.csv"),
        folder / "learning_curve.png",
        score_name=name,
        **about,
    )
    title = f"{config['algorithm']['name']} on {config['task']}"
    curves.training_curves(read_rows(folder / "metrics.csv"), folder / "losses.png", title=title)
    drawn = ["learning_curve.png", "losses.png"]
    own = [t for t in result.trajectories if t.member == 0]
    if own and result.successes is not None and "maze" in config["task"]:
        placed = [mazes.positions_and_goals(info.env, t.observations) for t in own]
        goals = None if placed[0][1] is None else [g[0] for _, g in placed]
        mazes.trajectories(
            mazes.read_maze(info.env),
            [positions for positions, _ in placed],
            folder / "trajectories.png",
            goals=goals,
            successes=[bool(result.successes[0, t.episode]) for t in own],
            title=title,
            subtitle=f"seed {config['seed']}, first {len(own)} of "
            f"{result.returns.shape[1]} episodes, data: {info.dataset_id}",
        )
        drawn.append("trajectories.png")
    return drawn


@contextlib.contextmanager
def _progress(display: Progress, phase: str, total: int) -> Iterator[Callable[[int, int], None]]:
    display.start(phase, total, unit="episodes")
    try:
        yield lambda done, total: display.advance(done)
    finally:
        display.stop()
