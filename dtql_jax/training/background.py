"""Evaluation beside training: a snapshot of the policy plays while the next updates are made.

The rule that keeps a run the same however it ends: no checkpoint is saved while an evaluation is
under way. So every evaluation before the newest checkpoint is in evaluations.csv, and a run that
goes on repeats the one of the checkpoint itself, as one that does not overlap.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from dtql_jax.errors import UserError
from dtql_jax.training.progress import duration

CHOICES = ("auto", "on", "off")


def check(choice: str) -> None:
    """UserError unless `choice` is a value of the setting eval_overlap."""
    if choice not in CHOICES:
        raise UserError(f"eval_overlap is {choice!r}; expected one of {', '.join(CHOICES)}")


def wanted(choice: str) -> bool:
    """Whether evaluations overlap with training; "auto": where the updates leave the CPU free."""
    check(choice)
    return choice == "on" or (choice == "auto" and jax.devices()[0].platform != "cpu")


def share(seconds: Mapping[str, float]) -> str:
    """How much of the wall time went into evaluation, from a fit's seconds by phase.

    >>> share({"train": 90.0, "evaluate": 10.0, "evaluate_hidden": 45.0})
    'evaluation: 10.0 % of the wall time, and 45 s beside training'
    """
    hidden = seconds.get("evaluate_hidden", 0.0)
    wall = sum(seconds.values()) - hidden
    text = f"evaluation: {100 * seconds.get('evaluate', 0.0) / wall:.1f} % of the wall time"
    return text + f", and {duration(hidden)} beside training" * (hidden > 0)


@jax.jit
def snapshot(state: Any) -> Any:
    """A copy of a state, which outlives the donation of the state."""
    return jax.tree.map(jnp.copy, state)


class AbandonedError(Exception):
    """The evaluation was given up."""


class BackgroundEvaluation:
    """One evaluation in a thread of its own.

    Attributes:
      update: the one whose policy plays.
      seconds: that it took, once it has ended.
    """

    def __init__(
        self, evaluate: Callable[[Any, int], Any], policy: Callable[..., Any], update: int
    ) -> None:
        """Starts `evaluate(policy, update)`; `policy` must not depend on what training changes."""
        self.update, self.seconds = update, 0.0
        self._abandoned = False
        self._result: Any = None
        self._error: BaseException | None = None

        def act(*arguments: Any) -> Any:
            if self._abandoned:
                raise AbandonedError
            return policy(*arguments)

        def play() -> None:
            began = time.monotonic()
            try:
                self._result = evaluate(act, update)
            except BaseException as error:  # raised again by `result`, in the thread that asks
                self._error = error
            self.seconds = time.monotonic() - began

        # a daemon: a second Ctrl-C must not wait for an environment that hangs
        self._thread = threading.Thread(target=play, name=f"evaluation-{update}", daemon=True)
        self._thread.start()

    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return not self._thread.is_alive()

    def result(self) -> Any:
        """Waits for the end; returns what `evaluate` returned, or raises what it raised."""
        while not self.done():
            self._thread.join(1.0)  # a join without a limit would not let Ctrl-C through
        if self._error is not None:
            raise self._error
        return self._result

    def abandon(self, timeout: float = 5.0) -> None:
        """Lets it end at its next step, and waits up to `timeout` seconds for that."""
        self._abandoned = True
        self._thread.join(timeout)
