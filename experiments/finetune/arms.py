"""One arm of a fine-tuning: the algorithm's `train_step` on old, new or mixed transitions."""

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.commands import results
from dtql_jax.commands.runner import Member
from dtql_jax.datasets import DatasetInfo
from dtql_jax.errors import UserError
from dtql_jax.evaluation.rollout import Evaluator
from dtql_jax.training import population, replay
from dtql_jax.training.background import snapshot
from dtql_jax.training.checkpoint import Checkpoints
from dtql_jax.training.data_parallel import Acting
from dtql_jax.training.logging import MetricsLog
from dtql_jax.training.progress import Progress
from dtql_jax.training.run_folder import RunFolder, write_json
from dtql_jax.training.trainer import Trainer
from dtql_jax.types import Array, Transition
from experiments.finetune.collecting import Collector

DONE = "arm.json"  # written last; an arm without it starts again
_COLLECT = 1  # folded into the keys of collecting, which differ from an evaluation's


class Arm(NamedTuple):
    """One way to continue a run.

    Attributes:
      mixing: of old and new data in a batch, one of replay.MIXINGS.
      pretrained: whether the arm starts from the offline run's networks.
      title: in the table and the figure.
    """

    mixing: str
    pretrained: bool
    title: str


ARMS = {
    "symmetric": Arm("symmetric", True, "fine-tuned, half new data in a batch"),
    "uniform": Arm("uniform", True, "fine-tuned, old and new data as one"),
    "offline": Arm("offline", True, "offline data only"),
    "scratch": Arm("online", False, "from scratch, new data only"),
}


@dataclasses.dataclass(frozen=True)
class Shared:
    """Data and settings that all arms share.

    Attributes:
      settings: the fine-tuning's configuration.
      config: the offline run's, without decay of learning rates.
      members: of the run.
      data: offline, [N, ...], rewards transformed.
      info: of the data.
      transform: (scale, shift) of rewards.
      source: settings and offline run, recorded in each arm's run.json.
    """

    settings: Mapping[str, Any]
    config: dict[str, Any]
    members: list[Member]
    data: Transition
    info: DatasetInfo
    transform: tuple[float, float]
    source: dict[str, Any]


def prepare(folder: Path, source: Mapping[str, Any]) -> bool:
    """Returns whether an arm is finished; removes an interrupted one.

    Raises:
      UserError: the folder is no arm's, or of another fine-tuning.
    """
    if not folder.exists():
        return False
    if not (folder / "run.json").exists():
        if any(folder.iterdir()):
            raise UserError(f"OUT {folder} is not empty, and no arm of a fine-tuning")
        return False
    found, asked = RunFolder.read(folder)["finetuned"], json.loads(json.dumps(source))
    differing = [name for name in asked if found.get(name) != asked[name]]
    if differing:
        raise UserError(
            f"OUT {folder} holds a fine-tuning with another {differing[0]}; choose another OUT"
        )
    if (folder / DONE).exists():
        return True
    shutil.rmtree(folder)
    return False


class Learner:
    """P members under training: state, new transitions, and the two programs over them."""

    def __init__(self, arm: Arm, fit: Trainer, data: Transition, batch_size: int, capacity: int):
        """Puts everything on the device.

        Args:
          arm: how old and new data are mixed.
          fit: algorithm, placement, seeds and first states.
          data: offline, [N, ...].
          batch_size: transitions of a batch.
          capacity: new transitions kept for each member.
        """
        self.placement, self._arm, self._algorithm = fit.placement, arm, fit.algorithm
        self._batch_size = batch_size
        self._keys = self.placement.put(population.member_keys(fit.seeds))
        # copies, because updates donate their state and other arms start from it too
        self._state = snapshot(self.placement.put(fit.state))
        self._data = self.placement.copy(data)
        phases = population.metric_names(
            fit.algorithm, self.placement, self._state, self._data, batch_size
        )
        self.names = sorted({name for names in phases.values() for name in names})
        members = len(fit.seeds)
        self.reported = phases["train"]
        self._sums = self.placement.put(population.empty_sums(len(self.names), members))
        self._new = self._stack([replay.empty(capacity, self._data)] * members)
        self._acting = Acting(fit.algorithm, self.placement, self._keys.evaluation)
        self._add = self.placement.map_members(replay.add, (0, 0), donate=(0,))
        self._programs: dict[int, Any] = {}

    def _stack(self, rows: list[Any]) -> Any:
        return self.placement.put(jax.tree.map(lambda *parts: jnp.stack(parts), *rows))

    @property
    def state(self) -> Any:
        """The members' states, [P, ...]."""
        return self.placement.take(self._state)

    @property
    def sums(self) -> population.MetricSums:
        """Sums of metrics since the last `means`, and the flags of divergence, [P, ...]."""
        return self.placement.take(self._sums)

    def policy(self, collecting: bool = False) -> Callable[..., np.ndarray]:
        """Returns the members' current policies, which follow later updates.

        Args:
          collecting: whether to draw from other keys than an evaluation.
        """
        keys = self._keys.evaluation
        if collecting:
            keys = jax.vmap(lambda key: jax.random.fold_in(key, _COLLECT))(keys)
        # a policy of its own for each state, because an update donates the state before it
        known = (self._state, self._acting.policy(self._state, keys))

        def act(*rows: np.ndarray) -> np.ndarray:
            nonlocal known
            if known[0] is not self._state:
                known = (self._state, self._acting.policy(self._state, keys))
            return known[1](*rows)

        return act

    def add(self, new: Transition) -> None:
        """Adds transitions [P, n, ...]."""
        self._new = self._add(self._new, self.placement.put(new))

    def update(self, start: int, number: int) -> None:
        """Makes updates number `start`, `start` + 1, ... of all members."""
        if number not in self._programs:
            self._programs[number] = self._program(number)
        # a copy, as the state is, so that one compiled program serves all calls
        first = self.placement.copy(jnp.int32(start))
        self._state, self._sums = self._programs[number](
            self._state, self._sums, self._data, self._new, self._keys.run, first
        )

    def _program(self, number: int) -> Any:
        def draw(both: tuple[Transition, replay.Replay], key: Array, size: int) -> Transition:
            return replay.draw(self._arm.mixing, *both, key, size)

        scan = population.scan_updates(
            self._algorithm.train_step, self.names, self._batch_size, number, draw
        )

        def run(state: Any, sums: Any, data: Any, new: Any, key: Array, start: Array) -> Any:
            return scan(state, sums, (data, new), key, start)

        return self.placement.map_members(run, (0, 0, None, 0, 0, None), donate=(0,))

    def means(self, updates_made: int) -> dict[str, np.ndarray]:
        """Returns {metric: [P]}, means over the updates since the last call; resets the sums."""
        sums = self.placement.read(self._sums.sums)
        self._sums = self._sums._replace(sums=jnp.zeros_like(self._sums.sums))
        found = {name: sums[:, self.names.index(name)] for name in self.reported}
        return {name: value / max(updates_made, 1) for name, value in found.items()}

    def diverged(self) -> list[int]:
        """Returns the members with non-finite numbers, frozen at their last finite state."""
        return [int(i) for i in np.flatnonzero(self.placement.read(self._sums.failed_at) >= 0)]


def train(
    name: str,
    study: Shared,
    fit: Trainer,
    evaluator: Evaluator,
    folder: Path,
    display: Progress,
    should_stop: Callable[[], bool],
) -> bool:
    """Trains an arm into a new run folder; returns False if stopped before its end.

    Args:
      name: of ARMS.
      study: data and settings of all arms.
      fit: with the networks to start from.
      evaluator: of the members.
      folder: of the arm, free.
      display: progress.
      should_stop: asked between two device calls.
    """
    arm, settings, members = ARMS[name], study.settings, study.members
    began, first = time.monotonic(), fit.update
    collects = arm.mixing != "offline"
    steps, per_update = settings["steps"], settings["env_steps_per_update"]
    in_all = settings["warmup_steps"] + steps * per_update
    capacity = (settings["capacity"] or in_all) if collects else 1
    learner = Learner(arm, fit, study.data, study.config["batch_size"], capacity)
    updates_of = {"train_steps": study.config["train_steps"] + steps}
    if not arm.pretrained:
        updates_of = {"pretrain_steps": 0, "train_steps": steps}
    run = {
        "config": study.config | updates_of,
        "members": [member._asdict() for member in members],
        "dataset": study.info.to_dict(),
        "data_seconds": 0.0,
        "finetuned": study.source | {"arm": name},
    }
    seeds = [member.seed for member in members]
    with (
        RunFolder.create(folder, run),
        Checkpoints(folder / "checkpoints") as checkpoints,
        Collector(study.info.env, seeds if collects else [], *study.transform) as collector,
    ):
        log = MetricsLog(folder, seeds, learner.names)
        curve: list[list[float]] = []
        policy = learner.policy(collecting=True)

        def evaluate(step: int) -> None:
            episodes = settings["eval_episodes"]
            found = evaluator.run(learner.policy(), episodes)
            rows = results.rows_of(study.info, found)
            curve.append([row["score"] for row in rows])
            log.write_evaluation(first + step, step, rows)
            score = float(np.mean(curve[-1]))
            display.score(score, first + step)
            display.say(f"{name}, update {step:,} of {steps:,}: score {score:.1f}")

        try:
            display.start(name, steps)
            evaluate(0)
            if collects and settings["warmup_steps"]:
                learner.add(collector.collect(policy, settings["warmup_steps"]))
            done = since = 0
            while done < steps:
                if should_stop():
                    return False
                next_look = min(
                    steps, (done // settings["eval_every"] + 1) * settings["eval_every"]
                )
                number = min(settings["updates_per_call"], next_look - done)
                if collects:
                    learner.add(collector.collect(policy, number * per_update))
                learner.update(first + done, number)
                done, since = done + number, since + number
                display.advance(done)
                if done == next_look:
                    means = learner.means(since)
                    since = 0
                    log.write_metrics(first + done, "train", done, means, range(len(seeds)))
                    evaluate(done)
        finally:
            log.close()
        tree = {"state": learner.state, "sums": learner.sums._asdict()}
        meta = {"update": first + steps, "summed": 0, "seconds": {}}
        checkpoints.save(first + steps, tree, meta)
    looks = [*range(0, steps, settings["eval_every"]), steps]
    facts = {
        "arm": name,
        "title": arm.title,
        "steps": looks,
        "scores": curve,  # [looks][members]
        "env_steps": collector.steps,
        "episodes": collector.episodes.tolist(),
        "successes": collector.successes.tolist() if collects else [],
        "diverged": learner.diverged(),
        "seconds": time.monotonic() - began,
    }
    write_json(folder / DONE, facts)
    return True
