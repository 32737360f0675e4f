"""Algorithms by name: a configuration dataclass and a function from it to an `Algorithm`."""

import dataclasses
import numbers
from collections.abc import Callable
from typing import Any

from dtql_jax.algorithms import bc, dql, dql_kl, dtql, idql, iql
from dtql_jax.algorithms.base import Algorithm
from dtql_jax.errors import UserError, near_matches

ALGORITHMS: dict[str, tuple[type, Callable[[Any], Algorithm]]] = {
    "dtql": (dtql.DTQLConfig, dtql.dtql),
    "dql": (dql.DQLConfig, dql.dql),
    "dql_kl": (dql_kl.DQLKLConfig, dql_kl.dql_kl),
    "idql": (idql.IDQLConfig, idql.idql),
    "iql": (iql.IQLConfig, iql.iql),
    "bc": (bc.BCConfig, bc.bc),
}


def default_settings(name: str) -> dict[str, Any]:
    """The settings of the algorithm `name` with their defaults; UserError for an unknown name."""
    if name not in ALGORITHMS:
        raise UserError(f"algorithm {name!r} does not exist; {near_matches(name, ALGORITHMS)}")
    return dataclasses.asdict(ALGORITHMS[name][0]())


_KINDS: dict[type, type] = {float: numbers.Real, int: numbers.Integral}
_WORDS = {
    float: "a finite number",
    int: "an integer of 32 bits",
    bool: "True or False",
    str: "text",
}
_LARGEST = {float: 3.4e38, int: 2**31 - 1}


def _fits(value: Any, default: Any) -> bool:
    """Whether a value is of the type of a field's default, and fits into 32 bits.

    1 is a good float; True is no number.
    """
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if not isinstance(value, _KINDS.get(type(default), type(default))):
        return False
    return not isinstance(value, numbers.Real) or abs(value) <= _LARGEST[type(default)]


def make_algorithm(name: str, settings: dict[str, Any]) -> Algorithm:
    """The algorithm `name` with `settings`; UserError for an unknown name, field or value."""
    known = default_settings(name)
    for field, value in settings.items():
        if field not in known:
            raise UserError(f"{name} has no setting {field!r}; {near_matches(field, known)}")
        if not _fits(value, known[field]):
            raise UserError(f"{name}: {field} is {value!r}; expected {_WORDS[type(known[field])]}")
    config_type, make = ALGORITHMS[name]
    try:
        return make(config_type(**settings))
    except ValueError as error:
        raise UserError(f"{name}: {error}") from error
