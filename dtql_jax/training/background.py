"""Evaluation in the background: a snapshot of the policy plays while training continues.

No checkpoint is saved while an evaluation runs. So every evaluation before the newest checkpoint is
in evaluations.csv, and a resumed run repeats only the one at the checkpoint itself, as a run
without background evaluations does.
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
    """Raises UserError unless `choice` is a value of the setting eval_overlap."""
    if choice not in CHOICES:
        raise UserError(f"eval_overlap is {choice!r}; expected one of {', '.join(CHOICES)}")


def wanted(choice: str) -> bool:
    """Whether evaluations overlap with training; "auto": on accelerators."""
    check(choice)
    return choice == "on" or (choice == "auto" and jax.devices()[0].platform != "cpu")


def share(seconds: Mapping[str, float]) -> str:
    """The share of the wall time that evaluation took, from a run's seconds by phase.

    >>> share({"train": 90.0, "evaluate": 10.0, "evaluate_hidden": 45.0})
    'evaluation: 10.0 % of the wall time, and 45 s in the background'
    """
    hidden = seconds.get("evaluate_hidden", 0.0)
    wall = sum(seconds.values()) - hidden
    text = f"evaluation: {100 * seconds.get('evaluate', 0.0) / wall:.1f} % of the wall time"
    return text + f", and {duration(hidden)} in the background" * (hidden > 0)


@jax.jit
def snapshot(state: Any) -> Any:
    """Copies a state, because the next update donates its memory."""
    return jax.tree.map(jnp.copy, state)


class AbandonedError(Exception):
    """The evaluation was abandoned."""


class BackgroundEvaluation:
    """An evaluation of the policy after `update` updates in a thread; it takes `seconds`."""

    def __init__(
        self, evaluate: Callable[[Any, int], Any], policy: Callable[..., Any], update: int
    ) -> None:
        """Starts `evaluate(policy, update)`; `policy` must not use arrays that training donates."""
        self.update, self.seconds = update, 0.0
        self._evaluate, self._policy, self._abandoned = evaluate, policy, False
        self._result: Any = None
        self._error: BaseException | None = None
        # a daemon, so that a second Ctrl-C does not wait for an environment that hangs
        self._thread = threading.Thread(target=self._play, daemon=True)
        self._thread.start()

    def _play(self) -> None:
        began = time.monotonic()
        try:
            self._result = self._evaluate(self._act, self.update)
        except BaseException as error:  # raised again by `result`
            self._error = error
        self.seconds = time.monotonic() - began

    def _act(self, *arguments: Any) -> Any:
        if self._abandoned:
            raise AbandonedError
        return self._policy(*arguments)

    def done(self) -> bool:
        """Whether it has ended or failed."""
        return not self._thread.is_alive()

    def result(self) -> Any:
        """Waits for the end; returns the result of `evaluate`, or raises its exception."""
        while not self.done():
            self._thread.join(1.0)  # a join without timeout would block Ctrl-C
        if self._error is not None:
            raise self._error
        return self._result

    def abandon(self, timeout: float = 5.0) -> None:
        """Ends the evaluation at its next step, and waits up to `timeout` seconds for it."""
        self._abandoned = True
        self._thread.join(timeout)
