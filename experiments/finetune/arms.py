"""One arm of a fine-tuning: the algorithm's `train_step` on old, new or mixed transitions."""

import itertools
import json
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import closing
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
from dtql_jax.training.data_parallel import Acting, Policy
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


class Shared(NamedTuple):
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


def is_finished(folder: Path, source: Mapping[str, Any]) -> bool:
    """Returns whether an arm is finished; removes an interrupted one.

    Raises:
      UserError: the folder is of another fine-tuning, or of a run that is no arm.
    """
    if not (folder / "run.json").exists():
        return False
    found, asked = RunFolder.read(folder).get("finetuned", {}), json.loads(json.dumps(source))
    for name in asked:
        if found.get(name) != asked[name]:
            raise UserError(
                f"OUT {folder} holds a fine-tuning with another {name}; choose another OUT"
            )
    if (folder / DONE).exists():
        return True
    shutil.rmtree(folder)
    return False


class Learner:
    """P members under training: their states, their new transitions, and updates from both."""

    def __init__(
        self, arm: Arm, trainer: Trainer, data: Transition, batch_size: int, capacity: int
    ) -> None:
        """Puts everything on the device.

        Args:
          arm: how old and new data are mixed.
          trainer: algorithm, placement, seeds and first states.
          data: offline, [N, ...].
          batch_size: transitions of a batch.
          capacity: new transitions kept for each member.
        """
        self._arm, self._algorithm, self._batch_size = arm, trainer.algorithm, batch_size
        self.placement, members = trainer.placement, len(trainer.seeds)
        self._keys = self.placement.put(population.member_keys(trainer.seeds))
        # a copy, because updates donate their state and other arms start from it too
        self._state = snapshot(self.placement.put(trainer.state))
        self._data = self.placement.copy(data)
        phases = population.metric_names(
            self._algorithm, self.placement, self._state, self._data, batch_size
        )
        self.names = sorted({name for names in phases.values() for name in names})
        self._reported = phases["train"]
        self._sums = self.placement.put(population.empty_sums(len(self.names), members))
        empty = [replay.empty(capacity, self._data)] * members
        self._new = self.placement.put(jax.tree.map(lambda *parts: jnp.stack(parts), *empty))
        self._add = self.placement.map_members(replay.add, (0, 0), donate=(0,))
        self._acting = Acting(self._algorithm, self.placement, self._keys.evaluation)
        self._programs: dict[int, Any] = {}

    @property
    def state(self) -> Any:
        """The members' states, [P, ...]."""
        return self.placement.take(self._state)

    @property
    def diverged(self) -> list[int]:
        """The members with non-finite numbers, frozen at their last finite state."""
        return np.flatnonzero(self.placement.read(self._sums.failed_at) >= 0).tolist()

    def policy(self, collecting: bool = False) -> Policy:
        """Returns the members' policies until the next update; `collecting` has its own keys."""
        keys = self._keys.evaluation
        if collecting:
            keys = jax.vmap(lambda key: jax.random.fold_in(key, _COLLECT))(keys)
        return self._acting.policy(self._state, keys)

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

    def means(self, updates: int) -> dict[str, np.ndarray]:
        """Returns {metric: [P]}, means over the updates since the last call; resets the sums."""
        sums = self.placement.read(self._sums.sums)
        self._sums = self._sums._replace(sums=jnp.zeros_like(self._sums.sums))
        return {name: sums[:, self.names.index(name)] / updates for name in self._reported}

    def tree(self) -> dict[str, Any]:
        """Returns the content of a checkpoint, as a Trainer's."""
        return {"state": self.state, "sums": self.placement.take(self._sums)._asdict()}


def train(
    name: str,
    shared: Shared,
    trainer: Trainer,
    evaluator: Evaluator,
    folder: Path,
    display: Progress,
    should_stop: Callable[[], bool],
) -> bool:
    """Trains an arm into a new run folder; returns False if stopped before its end.

    Args:
      name: of ARMS.
      shared: data and settings of all arms.
      trainer: with the networks to start from.
      evaluator: of the members.
      folder: of the arm, free.
      display: progress.
      should_stop: asked between two calls of the device.
    """
    arm, settings = ARMS[name], shared.settings
    began, first = time.monotonic(), trainer.update
    collects = arm.mixing != "offline"
    steps, per_update = settings["steps"], settings["env_steps_per_update"]
    capacity = settings["capacity"] or settings["warmup_steps"] + steps * per_update
    learner = Learner(
        arm, trainer, shared.data, shared.config["batch_size"], capacity if collects else 1
    )
    updates = {"train_steps": shared.config["train_steps"] + steps}
    if not arm.pretrained:
        updates = {"pretrain_steps": 0, "train_steps": steps}
    run = {
        "config": shared.config | updates,
        "members": [member._asdict() for member in shared.members],
        "dataset": shared.info.to_dict(),
        "data_seconds": 0.0,
        "finetuned": shared.source | {"arm": name},
    }
    seeds = trainer.seeds
    looks = [*range(0, steps, settings["eval_every"]), steps]
    scores: list[list[float]] = []  # [looks][members]
    with (
        RunFolder.create(folder, run),
        Checkpoints(folder / "checkpoints") as checkpoints,
        closing(MetricsLog(folder, seeds, learner.names)) as log,
        closing(
            Collector(shared.info.env, seeds if collects else [], *shared.transform)
        ) as collector,
    ):

        def evaluate(step: int) -> None:
            found = evaluator.run(learner.policy(), settings["eval_episodes"])
            rows = results.rows_of(shared.info, found)
            scores.append([row["score"] for row in rows])
            log.write_evaluation(first + step, step, rows)
            score = float(np.mean(scores[-1]))
            display.score(score, first + step)
            display.say(f"{name}, update {step:,} of {steps:,}: score {score:.1f}")

        def collect(number: int) -> None:
            if collects and number:
                learner.add(collector.collect(learner.policy(collecting=True), number))

        display.start(name, steps)
        evaluate(0)
        collect(settings["warmup_steps"])
        for before, look in itertools.pairwise(looks):
            for start in range(before, look, settings["updates_per_call"]):
                if should_stop():
                    return False
                number = min(settings["updates_per_call"], look - start)
                collect(number * per_update)
                learner.update(first + start, number)
                display.advance(start + number)
            means = learner.means(look - before)
            log.write_metrics(first + look, "train", look, means, range(len(seeds)))
            evaluate(look)
        meta = {"update": first + steps, "summed": 0, "seconds": {}}
        checkpoints.save(first + steps, learner.tree(), meta)
    facts = {
        "arm": name,
        "title": arm.title,
        "steps": looks,
        "scores": scores,
        "env_steps": collector.steps,
        "episodes": collector.episodes.tolist(),
        "successes": collector.successes.tolist(),
        "diverged": learner.diverged,
        "seconds": time.monotonic() - began,
    }
    write_json(folder / DONE, facts)
    return True
