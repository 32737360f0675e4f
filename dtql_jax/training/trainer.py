"""The training loop: pretrain, train, evaluate, checkpoint, log. It knows no algorithm by name.

The loop counts updates from 0, pretraining included; that count names checkpoints and log rows.
Within a phase, "step" counts from the phase's start. All that the device computes between two
boundaries (a log row, an evaluation, a checkpoint) is a few calls of one compiled program.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.algorithms.base import Algorithm
from dtql_jax.errors import UserError
from dtql_jax.training import hosts, population
from dtql_jax.training.background import BackgroundEvaluation, snapshot
from dtql_jax.training.checkpoint import Checkpoints, SaveError
from dtql_jax.training.data_parallel import Acting, Placement, Policy
from dtql_jax.training.logging import MetricsLog
from dtql_jax.training.progress import Progress, duration
from dtql_jax.training.trouble import Trouble
from dtql_jax.training.watch import Divergence, DivergenceMonitor, largest_value
from dtql_jax.types import Transition

_MOST = 2**31
LONG_RUN = 3600.0  # seconds; a run that will take longer says so
SURE_AFTER = 3.0  # seconds of measured updates before the estimate is made

# (policy, update) -> a row for each of this host's members, with the fields of an evaluation
Evaluate = Callable[[Policy, int], Sequence[dict[str, Any]]]


@dataclasses.dataclass(frozen=True)
class TrainerConfig:
    """The loop's settings, in updates unless another unit is named."""

    batch_size: int = 256  # transitions
    pretrain_steps: int = 50_000
    train_steps: int = 1_000_000
    updates_per_call: int = 100  # length of one compiled scan; Ctrl-C waits for its end
    log_every: int = 1_000  # metrics are means over this many updates
    eval_every: int = 50_000  # training steps; the end is always evaluated
    checkpoint_every: int = 50_000  # and before each evaluation, and at the end of pretraining

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name == "pretrain_steps" else 1
            if not isinstance(value, int) or value < least:
                raise UserError(f"{field.name} is {value!r}; expected an integer >= {least}")
        # updates are counted in 32 bits on the device
        for name, value in (("batch_size", self.batch_size), ("updates", self.total)):
            if value >= _MOST:
                raise UserError(f"{name} are {value:,}; expected less than {_MOST:,}")

    @property
    def total(self) -> int:
        """Updates of the whole run."""
        return self.pretrain_steps + self.train_steps

    def phase(self, update: int) -> tuple[str, int, int]:
        """(name, first update, length) of the phase that `update` belongs to."""
        if update < self.pretrain_steps:
            return "pretrain", 0, self.pretrain_steps
        return "train", self.pretrain_steps, self.train_steps

    def boundary(self, update: int) -> int:
        """The next update after `update` at which the host has something to do."""
        _, first, length = self.phase(update)
        step = update - first
        ends = [length, *((step // n + 1) * n for n in (self.log_every, self.checkpoint_every))]
        if update >= self.pretrain_steps:
            ends.append((step // self.eval_every + 1) * self.eval_every)
        return first + min(ends)

    def evaluates_at(self, update: int) -> bool:
        """Whether the policy is evaluated after `update` updates."""
        step = update - self.pretrain_steps
        return step > 0 and (step % self.eval_every == 0 or step == self.train_steps)

    def call_of(self, update: int) -> int:
        """First update of the call of the device that update number `update` belongs to."""
        _, first, _ = self.phase(update)
        begins = first
        while (boundary := self.boundary(begins)) <= update:
            begins = boundary
        return update - (update - begins) % self.updates_per_call

    def checkpoints_at(self, update: int) -> bool:
        """Whether a checkpoint is due after `update` updates."""
        _, first, _ = self.phase(update)
        due = update > first and (update - first) % self.checkpoint_every == 0
        return due or update in (self.pretrain_steps, self.total) or self.evaluates_at(update)


@dataclasses.dataclass
class TrainResult:
    """How a fit ended.

    Attributes:
      finished: False if it was stopped early, or because no member's numbers are finite.
      update: updates made in all.
      state: the members' states, [P, ...].
      evaluation: the rows of the last evaluation, or [] if there was none.
      seconds: wall time by phase: init, compile, pretrain, train, evaluate, checkpoint; and, where
        evaluations overlap with training, evaluate_hidden: their time that nothing waited for.
      diverged: by member; empty where all numbers were finite.
    """

    finished: bool
    update: int
    state: Any
    evaluation: list[dict[str, Any]]
    seconds: dict[str, float]
    diverged: dict[int, Divergence]


class Trainer:
    """One run of an algorithm over a dataset, for all members of a population at once."""

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
        """Puts the data on the device and makes fresh states.

        Args:
          algorithm: four pure functions.
          data: [N, ...], rewards already transformed for the task.
          seeds: one for each member.
          settings: of the loop.
          hyperparameters: {name: one number for each member} of the algorithm's traced numbers
            that differ between members.
          placement: where the members are computed; None: on all devices of all hosts.
          evaluate: called with a policy and the update; None: no evaluation.
          overlap: whether `evaluate` is called in a thread, beside the next updates, but for the
            last evaluation.
          checkpoints: where states are saved; None: nowhere.
          make_log: (names of the metrics, update resumed at or None) -> log; None: no log. Of
            several hosts one logs.
          display: what the user sees; None: nothing but warnings.
        """
        # jitted within the jitted update: traced once for all the places that call them
        algorithm = algorithm._replace(
            pretrain_step=jax.jit(algorithm.pretrain_step), train_step=jax.jit(algorithm.train_step)
        )
        self.algorithm, self.seeds, self.settings = algorithm, list(seeds), settings
        self._evaluate, self._checkpoints, self._make_log = evaluate, checkpoints, make_log
        self._display = display or Progress(quiet=True)
        self._overlap = overlap
        self._beside: BackgroundEvaluation | None = None
        self.seconds: dict[str, float] = {}
        began = time.monotonic()
        self.placement = placement or Placement(len(self.seeds))
        self._data = self.placement.copy(data)
        self._keys = self.placement.put(population.member_keys(self.seeds))
        state = population.init(algorithm, self.placement, self._keys.init, data)
        self._state = population.set_hyperparameters(self.placement, state, hyperparameters or {})
        self._metrics = population.metric_names(
            algorithm, self.placement, self._state, self._data, settings.batch_size
        )
        self._names = sorted({name for of_phase in self._metrics.values() for name in of_phase})
        empty = population.empty_sums(len(self._names), len(self.seeds))
        self._tally = self.placement.put(empty)
        self._counted = 0  # updates in the tally's sums
        config = jax.tree.map(self.placement.read, getattr(self._state, "config", None))
        largest = largest_value(np.asarray(data.rewards), config)
        warn = self._display.warn
        self._watch = DivergenceMonitor(self.seeds, self._names, self._state, largest, warn)
        self._logged_at = 0  # update of the last row of the log
        self.update = 0
        self._acting = Acting(algorithm, self.placement, self._keys.evaluation, alone=overlap)
        self._programs: dict[tuple[str, int], Any] = {}
        self._cost: dict[str, float] = {}
        self._estimated = False
        self._trouble = Trouble(self._display.warn)
        self._shown, self._measured, self._clock = "", (0, 0.0), 0.0
        self._resumed = False
        jax.block_until_ready(self._state)
        self._spend("init", began)

    @property
    def state(self) -> Any:
        """The members' states, [P, ...]."""
        return self.placement.take(self._state)

    @property
    def diverged(self) -> dict[int, Divergence]:
        """The members whose numbers are no longer finite, and where that began."""
        return self._watch.diverged

    # ------------------------------------------------------------------------------ checkpoints

    def resume(self) -> None:
        """Goes back to the newest checkpoint; UserError where there is none that fits."""
        if self._checkpoints is None:
            raise UserError("this fit has no checkpoints to resume from")
        tree, meta = self._checkpoints.restore(self._tree())
        self._state = self.placement.put(tree["state"])
        self._tally = self.placement.put(population.MetricSums(**tree["tally"]))
        self.update, self._counted = meta["update"], meta["counted"]
        self._logged_at = self.update - self._counted
        self._find_divergence(self._tally)
        self.seconds = dict(meta["seconds"])
        self._resumed = True

    def _tree(self) -> dict[str, Any]:
        # plain dicts and lists: what Orbax stores does not depend on this program's classes
        return {"state": self.state, "tally": self.placement.take(self._tally)._asdict()}

    def _save(self, log: MetricsLog | None) -> None:
        if self._checkpoints is None:
            return
        began = time.monotonic()
        meta = {"update": self.update, "counted": self._counted, "seconds": dict(self.seconds)}
        try:
            if hosts.agreed(lambda: not self._written(log))():
                # a run that goes on behind this update would not write the rows that are kept back
                self._checkpoints.wait()
            else:
                checkpoints, tree = self._checkpoints, self._tree()
                hosts.on_first(lambda: checkpoints.check_room(self.update, tree))
                checkpoints.save(self.update, tree, meta)
                self._display.detail(f"update {self.update:,}: saving a checkpoint")
        except SaveError as error:
            self._trouble.checkpoint(str(error), self._checkpoints.whole())
        self._spend("checkpoint", began)

    def _save_last(self, log: MetricsLog | None) -> None:
        """Saves where the run stands now; SaveError if that cannot be written."""
        if self._checkpoints is None:
            return
        with contextlib.suppress(SaveError):  # of an earlier one, perhaps: this one decides
            self._checkpoints.wait()
        self._save(log)
        with contextlib.suppress(SaveError):
            self._checkpoints.wait()
        if self._checkpoints.latest() != self.update:
            raise SaveError(
                f"the checkpoint of update {self.update:,} cannot be written to "
                f"{self._checkpoints.folder}"
            )

    # ----------------------------------------------------------------------------- the programs

    def _step(self, phase: str) -> Any:
        return self.algorithm.pretrain_step if phase == "pretrain" else self.algorithm.train_step

    def _program(self, phase: str, length: int) -> Any:
        """The compiled update of `length` steps, compiled at its first use."""
        if (phase, length) not in self._programs:
            began = time.monotonic()
            update = population.make_update(
                self._step(phase), self._names, self.settings.batch_size, length, self.placement
            )
            lowered = update.lower(
                self._state, self._tally, self._data, self._keys.run, self._number(0)
            )
            program = lowered.compile()
            # a list of dicts on some backends, None where the backend does not count
            cost = program.cost_analysis() or {}
            cost = cost[0] if isinstance(cost, list) else cost
            self._cost.setdefault(phase, float(cost.get("flops", 0.0)))
            self._programs[phase, length] = program
            self._spend("compile", began)
        return self._programs[phase, length]

    def _number(self, update: int) -> Any:
        return self.placement.copy(jnp.int32(update))

    def _compile(self) -> None:
        """Compiles what the rest of the run needs most, so that later nothing stops to compile."""
        self._display.say("compiling the update")
        self._display.start("compile")
        for phase in ("pretrain", "train"):
            steps = getattr(self.settings, f"{phase}_steps")
            if steps and (phase == "train" or self.update < self.settings.pretrain_steps):
                length = min(self.settings.updates_per_call, self.settings.log_every, steps)
                self._program(phase, length)

    # --------------------------------------------------------------------------------- the loop

    def run(self, should_stop: Callable[[], bool] = lambda: False) -> TrainResult:
        """Runs to the end, or until `should_stop` says so between two calls of the device.

        A run that is stopped saves a checkpoint first; `resume` goes on exactly there.

        Raises:
          SaveError: the last checkpoint or rows of the log could not be written. Earlier ones
            that could not are warned of, and training goes on.
        """
        log = hosts.together(self._open_log)
        evaluation: list[dict[str, Any]] = []
        try:
            self._compile()
            finished = self.update >= self.settings.total
            if self._resumed and self.settings.evaluates_at(self.update):
                # the run may have died between this checkpoint and the end of its evaluation
                evaluation = self._run_evaluation(log)
            while not finished and len(self.diverged) < len(self.seeds):
                if not self._run_to_boundary(should_stop):
                    break
                self._write_metrics(log)
                if len(self.diverged) == len(self.seeds):
                    break
                finished = self.update >= self.settings.total
                saves = self.settings.checkpoints_at(self.update)
                evaluation = self._end_evaluation(log, wait=saves) or evaluation
                if saves:
                    self._save(log)
                if self.settings.evaluates_at(self.update):
                    evaluation = self._run_evaluation(log) or evaluation
            evaluation = self._end_evaluation(log) or evaluation
        finally:
            if self._beside is not None:
                self._beside.abandon()
            self._display.stop()
            if log is not None:
                log.close()
        hosts.together(lambda: self._save_all(log))
        return TrainResult(
            finished, self.update, self.state, evaluation, self.seconds, dict(self.diverged)
        )

    def _save_all(self, log: MetricsLog | None) -> None:
        lost = [problem for problem in hosts.everyone(log.problem if log else "") if problem]
        if lost:
            raise SaveError(f"{lost[0]}, its last rows are lost")
        self._save_last(log)

    def _written(self, log: MetricsLog | None) -> bool:
        """Whether the log has all its rows; says once where it has not."""
        if log is None:
            return True
        problem = log.flush()
        newest = None if self._checkpoints is None else self._checkpoints.whole()
        self._trouble.rows(problem, newest)
        return not problem

    def _open_log(self) -> MetricsLog | None:
        if self._make_log is None:
            return None
        try:
            return self._make_log(self._names, self.update if self._resumed else None)
        except OSError as error:
            raise SaveError(f"{error.filename} cannot be written: {error.strerror}") from error

    def _run_to_boundary(self, should_stop: Callable[[], bool]) -> bool:
        """Updates up to the next boundary; False if stopped before it."""
        should_stop = hosts.agreed(should_stop)
        phase, first, length = self.settings.phase(self.update)
        boundary = self.settings.boundary(self.update)
        began = time.monotonic()
        compiling = self.seconds.get("compile", 0.0)
        if self._shown != phase:
            self._shown = phase
            self._display.start(phase, length, self.update - first)
            self._measured = (0, 0.0)
        sizes: list[int] = []
        while self.update < boundary and not should_stop():
            sizes.append(min(self.settings.updates_per_call, boundary - self.update))
            program = self._program(phase, sizes[-1])
            before, start = self._tally, self._number(self.update)
            if len(sizes) == 1:
                self._clock = time.monotonic()
            self._state, self._tally = program(
                self._state, before, self._data, self._keys.run, start
            )
            self.update += sizes[-1]
            self._counted += sizes[-1]
            if len(sizes) > 1:
                # wait for the call before this one: one call is always queued behind it
                self._completed(before, sizes[-2], self.update - sizes[-1] - first)
        if sizes:
            self._completed(self._tally, sizes[-1], self.update - first)
            if hosts.several():
                self._find_divergence(self._tally)
        compiled = self.seconds.get("compile", 0.0) - compiling
        self._spend(phase, began + compiled)
        return self.update == boundary

    def _completed(self, tally: population.MetricSums, size: int, step: int) -> None:
        """Waits for a call of `size` updates to end and tells the user."""
        if hosts.several():
            jax.block_until_ready(tally)  # what it says is asked at the boundary, of all hosts
        else:
            self._find_divergence(tally)
        now = time.monotonic()
        updates, seconds = self._measured
        self._measured = (updates + size, seconds + now - self._clock)
        self._clock = now
        self._display.advance(step)
        self._estimate()

    def _find_divergence(self, tally: population.MetricSums) -> None:
        """Waits for a tally and says of each member whose numbers are no longer finite where."""
        self._watch.look(self.placement.read(tally.broken))

    def _estimate(self) -> None:
        """Once, early: how long the rest will take; a long run is told how to be shorter."""
        phase = self._shown
        updates, seconds = self._measured
        if self._estimated or seconds < SURE_AFTER:
            return
        self._estimated = True
        per_update = {phase: seconds / updates}
        if phase == "pretrain":
            # the training step has not run yet: its share of operations stands for its time
            ratio = self._cost.get("train", 0.0) / max(self._cost.get("pretrain", 0.0), 1.0)
            per_update["train"] = per_update["pretrain"] * max(ratio, 1.0)
        left = max(self.settings.pretrain_steps - self.update, 0) * per_update.get("pretrain", 0.0)
        left += (self.settings.total - max(self.update, self.settings.pretrain_steps)) * per_update[
            "train"
        ]
        device = jax.devices()[0]
        text = f"about {duration(left)} of updates ahead on this device ({device.device_kind})"
        if left > LONG_RUN:
            self._display.warn(
                f"{text}, evaluation apart; shorter with fewer steps (STEPS=..., or "
                "--config.train_steps), PRESET=quick, or on a GPU"
            )
        else:
            self._display.say(text)

    def _write_metrics(self, log: MetricsLog | None) -> None:
        phase, first, _ = self.settings.phase(self.update - 1)
        step = self.update - first
        if self._counted == 0 or (step % self.settings.log_every and not self._ends_phase()):
            return
        sums = self.placement.read(self._tally.sums)
        names = self._metrics[phase]
        means = {n: sums[:, self._names.index(n)] / self._counted for n in names}
        self._watch.check_growth(self.update, means)
        # a frozen member's last row is the one that has its update
        written = [
            i
            for i in range(len(self.seeds))
            if i not in self.diverged or self.diverged[i].update >= self._logged_at
        ]
        if written:
            shown = {name: float(np.mean(value[written])) for name, value in means.items()}
            self._display.metrics(shown, self.update)
        if log is not None:
            log.write_metrics(self.update, phase, step, means, written)
            updates, seconds = self._measured
            if seconds > 0:
                log.scalar("speed/updates_per_second", updates / seconds, self.update)
            self._written(log)
        self._tally = self._tally._replace(sums=jnp.zeros_like(self._tally.sums))
        self._counted, self._logged_at = 0, self.update

    def _ends_phase(self) -> bool:
        return self.update in (self.settings.pretrain_steps, self.settings.total)

    # ------------------------------------------------------------------------------- evaluation

    def policy(self, state: Any = None) -> Policy:
        """The policies of this host's members as one function over numpy arrays.

        Args:
          state: whose policies, [places, ...]; None: of the state as it is now.
        """
        return self._acting.policy(self._state if state is None else state)

    def overlaps_at(self, update: int) -> bool:
        """Whether the evaluation after `update` updates runs beside the next ones."""
        return self._overlap and update < self.settings.total

    def _run_evaluation(self, log: MetricsLog | None) -> list[dict[str, Any]]:
        """Evaluates, or begins to where evaluations overlap; the rows, [] where there are none."""
        if self._evaluate is None:
            return []
        if self.overlaps_at(self.update):
            policy = self.policy(snapshot(self._state))
            self._beside = BackgroundEvaluation(self._evaluate, policy, self.update)
            return []
        self._display.stop()
        self._shown = ""
        began = time.monotonic()
        play = self._evaluate
        rows = self._of_all(lambda: list(play(self.policy(), self.update)))
        self._spend("evaluate", began)
        self._write_evaluation(log, self.update, rows, time.monotonic() - began)
        return rows

    def _end_evaluation(self, log: MetricsLog | None, wait: bool = True) -> list[dict[str, Any]]:
        """The rows of the evaluation under way; [] where there is none, or it need not end yet."""
        beside = self._beside
        if beside is None or not (wait or (beside.done() and not hosts.several())):
            return []
        began = time.monotonic()
        rows = self._of_all(lambda: list(beside.result()))
        self._beside = None
        hidden = beside.seconds - (time.monotonic() - began)
        self._spend("evaluate", began)
        self.seconds["evaluate_hidden"] = self.seconds.get("evaluate_hidden", 0) + max(hidden, 0.0)
        self._write_evaluation(log, beside.update, rows, beside.seconds)
        return rows

    def _of_all(self, evaluate: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """The rows of all hosts' members, where `evaluate` returns those of this one's."""
        return [row for part in hosts.everyone(hosts.together(evaluate)) for row in part]

    def _write_evaluation(
        self, log: MetricsLog | None, update: int, rows: list[dict[str, Any]], seconds: float
    ) -> None:
        if log is not None and not log.evaluated(update):
            log.write_evaluation(update, update - self.settings.pretrain_steps, rows)
            self._written(log)
        score = float(np.mean([row["score"] for row in rows]))
        self._display.score(score, update)
        self._display.say(
            f"update {update:,}: score {score:.1f} over {len(rows)} seed(s) x "
            f"{rows[0]['episodes']} episodes ({duration(seconds)})"
        )

    def _spend(self, phase: str, began: float) -> None:
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.monotonic() - began
