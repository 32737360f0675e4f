"""The training loop: pretrain, train, evaluate, save checkpoints and log, for any `Algorithm`.

Updates are counted from 0, pretraining included; this count names checkpoints and log rows. A
"step" counts from the start of its phase. Between two boundaries (a log row, an evaluation, a
checkpoint) the device runs a few calls of one compiled program.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.algorithms.base import Algorithm
from dtql_jax.errors import UserError
from dtql_jax.training import divergence, hosts, population
from dtql_jax.training.background import BackgroundEvaluation, snapshot
from dtql_jax.training.checkpoint import Checkpoints
from dtql_jax.training.config import TrainerConfig
from dtql_jax.training.data_parallel import Acting, Placement, Policy
from dtql_jax.training.divergence import Divergence
from dtql_jax.training.logging import MetricsLog
from dtql_jax.training.progress import Progress, duration
from dtql_jax.types import Transition

__all__ = ["Evaluate", "Policy", "TrainResult", "Trainer", "TrainerConfig"]

_LONG_RUN = 3600.0  # seconds of updates from which on the estimate is a warning
_MEASURED = 3.0  # seconds of updates to measure before the estimate

# (policy, update) -> one row for each of this host's members, {field: number}
Evaluate = Callable[[Policy, int], Sequence[Mapping[str, Any]]]


@dataclasses.dataclass
class TrainResult:
    """How a training run ended.

    Attributes:
      finished: False if it was stopped early, or because all members diverged.
      update: updates made in all.
      state: the members' states, [P, ...].
      evaluation: the rows of the last evaluation; [] if there was none.
      seconds: wall time by phase: init, compile, pretrain, train, evaluate, checkpoint, and
        evaluate_hidden, the time of background evaluations in which training did not wait.
      diverged: by member; empty where all numbers were finite.
    """

    finished: bool
    update: int
    state: Any
    evaluation: list[dict[str, Any]]
    seconds: dict[str, float]
    diverged: dict[int, Divergence]


class Trainer:
    """Trains the members of a population on a dataset."""

    def __init__(
        self,
        algorithm: Algorithm,
        data: Transition,
        seeds: Sequence[int],
        settings: TrainerConfig,
        *,
        hyperparameters: Mapping[str, Sequence[float]] | None = None,
        placement: Placement | None = None,
        evaluate: Evaluate | None = None,
        overlap: bool = False,
        checkpoints: Checkpoints | None = None,
        make_log: Callable[[Sequence[str], int | None], MetricsLog] | None = None,
        display: Progress | None = None,
    ) -> None:
        """Puts the data on the device and initialises the states.

        Args:
          algorithm: four pure functions.
          data: [N, ...], rewards already transformed for the task.
          seeds: one for each member.
          settings: settings of the loop.
          hyperparameters: {name: one number for each member} of the algorithm's traced
            hyperparameters that differ between members.
          placement: the members' devices; None: all devices of all hosts.
          evaluate: called with a policy and the update; None: no evaluation.
          overlap: whether evaluations, except the last, run in the background of the next updates.
          checkpoints: where states are saved; None: nowhere.
          make_log: (names of the metrics, update resumed at or None) -> log; None: no log. Only
            the first of several hosts logs.
          display: shows progress; None: only warnings.
        """
        began = time.monotonic()
        self.algorithm = algorithm = _jitted(algorithm)
        self.seeds, self.settings = list(seeds), settings
        self.seconds: dict[str, float] = {}
        self.diverged: dict[int, Divergence] = {}
        self.update = 0
        self._evaluate, self._checkpoints, self._make_log = evaluate, checkpoints, make_log
        self._display = display or Progress(quiet=True)
        self._overlap = overlap
        self._background: BackgroundEvaluation | None = None
        self._log: MetricsLog | None = None
        self.placement = placement or Placement(len(self.seeds))
        self._source, self._data = data, self.placement.copy(data)
        self._keys = self.placement.put(population.member_keys(self.seeds))
        state = population.init(algorithm, self.placement, self._keys.init, data)
        self._state = population.set_hyperparameters(self.placement, state, hyperparameters or {})
        self._metrics = population.metric_names(
            algorithm, self.placement, self._state, self._data, settings.batch_size
        )
        self._names = sorted({name for names in self._metrics.values() for name in names})
        self._sums = self.placement.put(population.empty_sums(len(self._names), len(self.seeds)))
        self._summed = self._logged_at = 0  # updates in the sums; update of the last log row
        self._acting = Acting(algorithm, self.placement, self._keys.evaluation, alone=overlap)
        self._programs: dict[tuple[str, int], Any] = {}
        self._phase, self._resumed, self._estimated = "", False, False
        self._measured, self._clock = (0, 0.0), 0.0  # (updates, seconds) of this phase
        jax.block_until_ready(self._state)
        self._spend("init", began)

    @property
    def state(self) -> Any:
        """The members' states, [P, ...]."""
        return self.placement.take(self._state)

    def policy(self, state: Any = None) -> Policy:
        """This host's members as one function over numpy arrays; `state` is [places, ...]."""
        return self._acting.policy(self._state if state is None else state)

    def resume(self) -> None:
        """Restores the newest checkpoint; UserError where there is none that fits."""
        if self._checkpoints is None:
            raise UserError("this trainer has no checkpoints to resume from")
        tree, meta = self._checkpoints.restore(self._tree())
        self._state = self.placement.put(tree["state"])
        self._sums = self.placement.put(population.MetricSums(**tree["sums"]))
        self.update, self._summed = meta["update"], meta["summed"]
        self._logged_at = self.update - self._summed
        self.seconds = dict(meta["seconds"])
        self._resumed = True
        self._find_divergence(self._sums)

    def _tree(self) -> dict[str, Any]:
        # dicts, so that a stored checkpoint does not depend on the name of a class
        return {"state": self.state, "sums": self.placement.take(self._sums)._asdict()}

    def _save(self) -> None:
        if self._checkpoints is None:
            return
        began = time.monotonic()
        meta = {"update": self.update, "summed": self._summed, "seconds": dict(self.seconds)}
        self._checkpoints.save(self.update, self._tree(), meta)
        self._display.detail(f"update {self.update:,}: saving a checkpoint")
        self._spend("checkpoint", began)

    def run(self, should_stop: Callable[[], bool] = lambda: False) -> TrainResult:
        """Trains to the end, or until `should_stop` returns True between two calls of the device.

        A run that is stopped saves a checkpoint first, from which `resume` continues.

        Raises:
          SaveError: a checkpoint cannot be written; the one before it is whole.
          OSError: the log cannot be written; the last checkpoint is whole.
        """
        make, resumed_at = self._make_log, self.update if self._resumed else None
        self._log = hosts.together(lambda: make and make(self._names, resumed_at))
        evaluation: list[dict[str, Any]] = []
        try:
            self._compile()
            finished = self.update >= self.settings.total
            if self._resumed and self.settings.evaluates_at(self.update):
                # the run may have been killed between this checkpoint and its evaluation
                evaluation = self._start_evaluation()
            while not finished and self._alive():
                if not self._run_to_boundary(should_stop):
                    break
                self._write_metrics()
                if not self._alive():
                    break
                finished = self.update >= self.settings.total
                saves = self.settings.checkpoints_at(self.update)
                evaluation = self._end_evaluation(wait=saves) or evaluation
                if saves:
                    self._save()
                if self.settings.evaluates_at(self.update):
                    evaluation = self._start_evaluation() or evaluation
            evaluation = self._end_evaluation() or evaluation
            self._save()
            if self._checkpoints is not None:
                self._checkpoints.wait()
        finally:
            if self._background is not None:
                self._background.abandon()
            self._display.stop()
            if self._log is not None:
                self._log.close()
        return TrainResult(
            finished, self.update, self.state, evaluation, self.seconds, dict(self.diverged)
        )

    def _alive(self) -> bool:
        """Whether a member is left whose numbers are finite."""
        return len(self.diverged) < len(self.seeds)

    def _run_to_boundary(self, should_stop: Callable[[], bool]) -> bool:
        """Updates up to the next boundary; returns False if stopped before it."""
        should_stop = hosts.agreed(should_stop)
        phase, first, length = self.settings.phase(self.update)
        boundary = self.settings.boundary(self.update)
        began, compiling = time.monotonic(), self.seconds.get("compile", 0.0)
        if self._phase != phase:
            self._phase = phase
            self._display.start(phase, length, self.update - first)
            self._measured = (0, 0.0)
        waiting: tuple[population.MetricSums, int, int] | None = None  # one call is always queued
        while self.update < boundary and not should_stop():
            size = min(self.settings.updates_per_call, boundary - self.update)
            program = self._program(phase, size)
            start = self.placement.copy(jnp.int32(self.update))
            if waiting is None:
                self._clock = time.monotonic()
            self._state, self._sums = program(
                self._state, self._sums, self._data, self._keys.run, start
            )
            self.update += size
            self._summed += size
            if waiting is not None:
                self._wait(*waiting)
            waiting = (self._sums, size, self.update - first)
        if waiting is not None:
            self._wait(*waiting)
            if hosts.several():
                self._find_divergence(self._sums)
        compiled = self.seconds.get("compile", 0.0) - compiling
        self._spend(phase, began + compiled)
        return self.update == boundary

    def _wait(self, sums: population.MetricSums, size: int, step: int) -> None:
        """Waits for the end of a call of `size` updates and shows progress."""
        if hosts.several():
            jax.block_until_ready(sums)  # all hosts look at the flags together, at the boundary
        else:
            self._find_divergence(sums)
        now = time.monotonic()
        self._measured = (self._measured[0] + size, self._measured[1] + now - self._clock)
        self._clock = now
        self._display.advance(step)
        count, seconds = self._measured
        if seconds > _MEASURED and not self._estimated and self._phase == "train":
            self._estimated = True
            left = (self.settings.total - self.update) * seconds / count
            device = jax.devices()[0].device_kind
            text = f"about {duration(left)} of updates left on this device ({device})"
            (self._display.warn if left > _LONG_RUN else self._display.say)(text)

    def _compile(self) -> None:
        """Compiles the longest call of each phase, so that later few updates wait for it."""
        self._display.say("compiling the update")
        self._display.start("compile")
        for phase in ("pretrain", "train"):
            steps = getattr(self.settings, f"{phase}_steps")
            if steps and (phase == "train" or self.update < self.settings.pretrain_steps):
                length = min(self.settings.updates_per_call, self.settings.log_every, steps)
                self._program(phase, length)

    def _program(self, phase: str, length: int) -> Any:
        """The compiled call of `length` updates, compiled at its first use."""
        if (phase, length) not in self._programs:
            began = time.monotonic()
            update = population.make_update(
                self._step(phase), self._names, self.settings.batch_size, length, self.placement
            )
            start = self.placement.copy(jnp.int32(0))
            arguments = (self._state, self._sums, self._data, self._keys.run, start)
            self._programs[phase, length] = update.lower(*arguments).compile()
            self._spend("compile", began)
        return self._programs[phase, length]

    def _step(self, phase: str) -> population.Step:
        return self.algorithm.pretrain_step if phase == "pretrain" else self.algorithm.train_step

    def _find_divergence(self, sums: population.MetricSums) -> None:
        """Waits for the flags of a call; names the cause for each member that they report."""
        failed_at = self.placement.read(sums.failed_at)
        new = [int(i) for i in np.flatnonzero(failed_at >= 0) if int(i) not in self.diverged]
        # a diverged member keeps the state at the start of its failing call
        states = jax.tree.map(self.placement.read, self._state) if new else None
        for member in new:
            start = int(failed_at[member])
            end = min(start + self.settings.updates_per_call, self.settings.boundary(start))
            found = self.diverged[member] = divergence.find(
                self._step(self.settings.phase(start)[0]),
                population.member(states, member),
                self._source,
                population.member_keys(self.seeds).run[member],
                range(start, end),
                self.settings.batch_size,
            )
            action = "frozen" if len(self.seeds) > 1 else "stopped"
            self._display.warn(
                f"member {member} (seed {self.seeds[member]}): {found}; {action} at the last "
                "finite state"
            )

    def _write_metrics(self) -> None:
        phase, first, length = self.settings.phase(self.update - 1)
        step = self.update - first
        if self._summed == 0 or (step % self.settings.log_every and step != length):
            return
        sums = self.placement.read(self._sums.sums)
        names = self._metrics[phase]
        means = {n: sums[:, self._names.index(n)] / self._summed for n in names}
        # the last row of a frozen member is the one with the update in which it diverged
        written = [
            i
            for i in range(len(self.seeds))
            if i not in self.diverged or self.diverged[i].update >= self._logged_at
        ]
        if written:
            shown = {name: float(np.mean(value[written])) for name, value in means.items()}
            self._display.metrics(shown, self.update)
        if self._log is not None:
            self._log.write_metrics(self.update, phase, step, means, written)
            count, seconds = self._measured
            if seconds > 0:
                self._log.scalar("speed/updates_per_second", count / seconds, self.update)
        self._sums = self._sums._replace(sums=jnp.zeros_like(self._sums.sums))
        self._summed, self._logged_at = 0, self.update

    def overlaps_at(self, update: int) -> bool:
        """Whether the evaluation after `update` updates runs in the background."""
        return self._overlap and update < self.settings.total

    def _start_evaluation(self) -> list[dict[str, Any]]:
        """Evaluates and returns the rows; starts only, and returns [], in the background."""
        if self._evaluate is None:
            return []
        if self.overlaps_at(self.update):
            policy = self.policy(snapshot(self._state))
            self._background = BackgroundEvaluation(self._evaluate, policy, self.update)
            return []
        self._display.stop()
        self._phase = ""
        began, evaluate = time.monotonic(), self._evaluate
        rows = hosts.together(lambda: evaluate(self.policy(), self.update))
        self._spend("evaluate", began)
        return self._write_evaluation(self.update, rows, time.monotonic() - began)

    def _end_evaluation(self, wait: bool = True) -> list[dict[str, Any]]:
        """Returns the rows of the background evaluation; [] if there is none or it need not end."""
        background = self._background
        if background is None or not (wait or (background.done() and not hosts.several())):
            return []
        began = time.monotonic()
        rows = hosts.together(background.result)
        self._background = None
        hidden = background.seconds - (time.monotonic() - began)
        self._spend("evaluate", began)
        self.seconds["evaluate_hidden"] = self.seconds.get("evaluate_hidden", 0) + max(hidden, 0.0)
        return self._write_evaluation(background.update, rows, background.seconds)

    def _write_evaluation(
        self, update: int, own: Sequence[Mapping[str, Any]], seconds: float
    ) -> list[dict[str, Any]]:
        """Logs the rows of all members, given those of this host's; returns them."""
        columns = hosts.concatenate({name: np.array([r[name] for r in own]) for name in own[0]})
        rows = [
            dict(zip(columns, row, strict=True))
            for row in zip(*(column.tolist() for column in columns.values()), strict=True)
        ]
        if self._log is not None and not self._log.evaluated(update):
            self._log.write_evaluation(update, update - self.settings.pretrain_steps, rows)
        score = float(np.mean([row["score"] for row in rows]))
        self._display.score(score, update)
        self._display.say(
            f"update {update:,}: score {score:.1f} over {len(rows)} seed(s) x "
            f"{rows[0]['episodes']} episodes ({duration(seconds)})"
        )
        return rows

    def _spend(self, phase: str, began: float) -> None:
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.monotonic() - began


def _jitted(algorithm: Algorithm) -> Algorithm:
    """The algorithm with jitted steps, which all programs that call them trace once."""
    pretrain, train = algorithm.pretrain_step, algorithm.train_step
    step = jax.jit(train)
    return algorithm._replace(
        pretrain_step=step if pretrain is train else jax.jit(pretrain), train_step=step
    )
