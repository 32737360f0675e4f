"""Where numbers stop being finite: an update repeated operation by operation.

A compiled update says only that a metric is not finite. Here the same update is made again from
the same state, batch and key, one primitive at a time, and the first one that turns finite inputs
into something else is named with its line. Operations that did so in the update before, which was
good, are passed over: an infinity that a mask removes again is no fault.
"""

import dataclasses
import os
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from dtql_jax.training import population
from dtql_jax.training.population import Step, draw_batch
from dtql_jax.training.trainer import Trainer
from dtql_jax.types import Array, Transition

_OWN = str(Path(__file__).parents[1])
_STANDARD = sysconfig.get_paths()["stdlib"]
_NESTED = ("jaxpr", "call_jaxpr", "fun_jaxpr")  # of calls that only wrap other operations
_WRAPPERS = (
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "custom_jvp_call",
    "custom_vjp_call",
    "custom_vjp_call_jaxpr",
    "checkpoint",
    "remat2",
)


@dataclasses.dataclass(frozen=True)
class Operation:
    """The first operation that was not finite.

    Attributes:
      update: number of the update, from 0.
      name: of JAX's primitive ("log", "div", "dot_general").
      place: "file:line (function)" of the code that asked for it, "" where it is not known.
      gradient: whether it belongs to the backward pass of that line.
      inputs: smallest and largest entry of each of its inputs of floats.
    """

    update: int
    name: str
    place: str
    gradient: bool
    inputs: tuple[tuple[float, float], ...]

    def __str__(self) -> str:
        ranges = ", ".join(f"[{low:.3g}, {high:.3g}]" for low, high in self.inputs)
        return (
            f"{self.name}{' in the gradient' if self.gradient else ''} at "
            f"{self.place or 'an unknown place'}, update {self.update:,}, inputs in {ranges}"
        )


def explain(fit: Trainer, data: Transition, member: int) -> Operation | None:
    """Repeats the call of the device in which a member's numbers stopped being finite.

    Args:
      fit: that ended, or was resumed; a diverged member's state is the one before that call.
      data: that it was made with.
      member: one of `fit.diverged`.

    Returns:
      The first operation that was not finite; None where one at a time all of them are.
    """
    update = fit.diverged[member].update
    phase, _, _ = fit.settings.phase(update)
    step = fit.algorithm.pretrain_step if phase == "pretrain" else fit.algorithm.train_step
    return first_nonfinite(
        step,
        population.member(fit.state, member),
        data,
        population.member_keys(fit.seeds).run[member],
        fit.settings.call_of(update),
        update + 1,
        fit.settings.batch_size,
    )


def first_nonfinite(
    step: Step,
    state: Any,
    data: Transition,
    run_key: Array,
    start: int,
    stop: int,
    batch_size: int,
) -> Operation | None:
    """Repeats updates of one member until one is not finite, and finds its first such operation.

    Args:
      step: `Algorithm.pretrain_step` or `train_step`.
      state: of one member before update `start`.
      data: [N, ...].
      run_key: of the member, as in `population.scan_updates`.
      start: number of the first update.
      stop: the one after the last to look at.
      batch_size: rows of a batch.

    Returns:
      The operation; None where all updates are finite one operation at a time.
    """

    data = jax.device_put(data)

    @jax.jit
    def drawn(k: Array) -> tuple[Transition, Array]:
        batch_key, step_key = jax.random.split(jax.random.fold_in(run_key, k))
        return draw_batch(data, batch_key, batch_size), step_key

    compiled = jax.jit(step)
    before = None
    for k in range(start, stop):
        inputs = (state, *drawn(jnp.int32(k)))
        after = compiled(*inputs)
        if not _finite(after[1]) or (_finite(state) and not _finite(after[0])):
            known = frozenset() if before is None else _faults(step, before)
            return _first(step, inputs, k, known)
        state, before = after[0], inputs
    return None


def _first(
    step: Step, inputs: tuple[Any, ...], update: int, known: frozenset[str]
) -> Operation | None:
    try:
        _faults(step, inputs, known)
    except _FoundError as found:
        return dataclasses.replace(found.operation, update=update)
    return None


def _faults(
    step: Step, inputs: tuple[Any, ...], known: frozenset[str] | None = None
) -> frozenset[str]:
    """The places of all operations of a step that spoil finite inputs.

    Raises:
      _FoundError: at the first one that is not among `known`, where that is given.
    """
    closed = jax.make_jaxpr(step)(*inputs)
    faults: list[str] = []
    _walk(closed, jax.tree.leaves(inputs), "", faults, known)
    return frozenset(faults)


class _FoundError(Exception):
    def __init__(self, operation: Operation) -> None:
        super().__init__(str(operation))
        self.operation = operation


def _walk(
    closed: Any,
    inputs: Sequence[Any],
    path: str,
    faults: list[str],
    known: frozenset[str] | None,
) -> list[Any]:
    """Evaluates a jaxpr one equation at a time; returns its results."""
    jaxpr = closed.jaxpr
    values = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    values.update(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, jex.Literal) else values[atom]

    for number, equation in enumerate(jaxpr.eqns):
        given = [read(atom) for atom in equation.invars]
        place = f"{path}/{number}"
        nested = _nested(equation)
        if nested is not None:
            results = _walk(nested, given, place, faults, known)
        else:
            results = _evaluate(jaxpr, equation, values)
            if _finite(given) and not _finite(results):
                faults.append(place)
                if known is not None and place not in known:
                    raise _FoundError(_operation(equation, given))
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _nested(equation: Any) -> Any:
    """The closed jaxpr inside an equation that only wraps other ones; else None."""
    if equation.primitive.name not in _WRAPPERS:
        return None
    inner = next((equation.params[name] for name in _NESTED if name in equation.params), None)
    if inner is None:
        return None
    closed = inner if hasattr(inner, "consts") else jex.ClosedJaxpr(inner, ())
    return closed if len(closed.jaxpr.invars) == len(equation.invars) else None


def _evaluate(jaxpr: Any, equation: Any, values: Mapping[Any, Any]) -> list[Any]:
    """The results of one equation, computed by itself."""
    atoms = dict.fromkeys(a for a in equation.invars if not isinstance(a, jex.Literal))
    own = jaxpr.replace(
        constvars=[], invars=list(atoms), outvars=list(equation.outvars), eqns=[equation]
    )
    return jex.jaxpr_as_fun(jex.ClosedJaxpr(own, ()))(*(values[atom] for atom in atoms))


def _floats(tree: Any) -> list[Any]:
    return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(x), jnp.inexact)]


def _finite(tree: Any) -> bool:
    return all(bool(jnp.all(jnp.isfinite(x))) for x in _floats(tree))


def _operation(equation: Any, given: Sequence[Any]) -> Operation:
    ranges = tuple((float(np.min(x)), float(np.max(x))) for x in _floats(list(given)) if np.size(x))
    source = equation.source_info
    return Operation(
        update=-1,
        name=equation.primitive.name,
        place=_place(getattr(source, "traceback", None)),
        gradient="transpose" in str(getattr(source, "name_stack", "")),
        inputs=ranges,
    )


def _place(traceback: Any) -> str:
    """The innermost line of a traceback that is no library's."""
    for frame in getattr(traceback, "frames", ()):
        if not _is_library(frame.file_name):
            name = os.path.relpath(frame.file_name)
            name = frame.file_name if name.startswith("..") else name
            return f"{name}:{frame.line_num} ({frame.function_name})"
    return ""


def _is_library(name: str) -> bool:
    if name.startswith(_OWN):  # which may be installed among the libraries
        return False
    return "-packages" in name or name.startswith((_STANDARD, "<"))
