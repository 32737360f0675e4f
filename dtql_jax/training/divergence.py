"""Finds the update, the metric and the operation in which a member's numbers stopped being finite.

A compiled call returns one flag a member. When the flag is set, the call is repeated from its start
state, update by update. The operation is named by repeating the failing update operation by
operation under `jax.debug_nans`. (`jax.experimental.checkify` is not used: with a check after each
operation, the training step of DTQL with 16 units takes minutes to compile.)
"""

import traceback
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from dtql_jax.training.population import Step, became_nonfinite, draw_batch
from dtql_jax.types import Array, Transition

_PACKAGE = Path(__file__).parents[1]


class Divergence(NamedTuple):
    """Where a member's numbers stopped being finite."""

    update: int  # number of the update, from 0
    metric: str  # metrics that were not finite, or the fields of the state where all metrics were
    operation: str  # "div at FILE:LINE"; "" where the update is finite one operation at a time

    def __str__(self) -> str:
        operation = f" (first in {self.operation})" if self.operation else ""
        return f"{self.metric} not finite at update {self.update:,}{operation}"


def find(
    step: Step,
    state: Any,
    data: Transition,
    run_key: Array,
    updates: range,
    batch_size: int,
) -> Divergence:
    """Repeats the updates of one call of one member until one is not finite.

    `step` is jitted, `state` that of the member at the start of the call; data, run_key and
    batch_size are as in `population.scan_updates`.
    """
    for k in updates:
        batch_key, step_key = jax.random.split(jax.random.fold_in(run_key, k))
        inputs = (state, draw_batch(data, batch_key, batch_size), step_key)
        after, metrics = step(*inputs)
        names = [name for name, value in metrics.items() if not np.isfinite(value).all()]
        names = names or _fields(became_nonfinite(state, after))
        if names:
            return Divergence(k, ", ".join(names), _operation(step, inputs))
        state = after
    # another compiled program may round differently
    return Divergence(updates[0], f"a number in updates {updates[0]:,} to {updates[-1]:,}", "")


def _fields(flags: Any) -> list[str]:
    """Names of a state's fields ("critics", "policy", ...) in which a flag is set."""
    paths = [path for path, flag in jax.tree_util.tree_leaves_with_path(flags) if flag]
    names = [jax.tree_util.keystr(path[:1], simple=True) or "state" for path in paths]
    return [f"gradient of {name}" for name in dict.fromkeys(names)]


def _operation(step: Step, inputs: tuple[Any, ...]) -> str:
    """The first operation that returns NaN, or else infinity, and its line in this package."""
    for check in (jax.debug_nans, jax.debug_infs):
        try:
            with jax.disable_jit(), check(True):
                jax.block_until_ready(step(*inputs))
        except FloatingPointError as error:
            name = str(error).partition(" encountered in ")[2].split()[0].rstrip(".")
            frames = traceback.extract_tb(error.__traceback__)
            own = [f for f in frames if Path(f.filename).is_relative_to(_PACKAGE)]
            own = [f for f in own if f.filename != __file__] or frames[-1:]
            place = Path(own[-1].filename)
            return f"{name} at {place.name}:{own[-1].lineno}"
    return ""
