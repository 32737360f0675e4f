"""Algorithms by name: a configuration dataclass and a function from it to an `Algorithm`."""

import dataclasses
from collections.abc import Callable
from typing import Any

from dtql_jax.algorithms import bc, dql, dql_kl, dtql, fql, idql, iql
from dtql_jax.algorithms.base import Algorithm
from dtql_jax.errors import UserError, near_matches

ALGORITHMS: dict[str, tuple[type, Callable[[Any], Algorithm]]] = {
    "dtql": (dtql.DTQLConfig, dtql.dtql),
    "dql": (dql.DQLConfig, dql.dql),
    "dql_kl": (dql_kl.DQLKLConfig, dql_kl.dql_kl),
    "idql": (idql.IDQLConfig, idql.idql),
    "fql": (fql.FQLConfig, fql.fql),
    "iql": (iql.IQLConfig, iql.iql),
    "bc": (bc.BCConfig, bc.bc),
}


def default_settings(name: str) -> dict[str, Any]:
    """The settings of the algorithm `name` with their defaults; UserError for an unknown name."""
    if name not in ALGORITHMS:
        raise UserError(f"algorithm {name!r} does not exist; {near_matches(name, ALGORITHMS)}")
    return dataclasses.asdict(ALGORITHMS[name][0]())


def make_algorithm(name: str, settings: dict[str, Any]) -> Algorithm:
    """The algorithm `name` with `settings`; UserError for an unknown name, field or value."""
    known = default_settings(name)
    for field in settings:
        if field not in known:
            raise UserError(f"{name} has no setting {field!r}; {near_matches(field, known)}")
    config_type, make = ALGORITHMS[name]
    try:
        return make(config_type(**settings))
    except ValueError as error:
        raise UserError(f"{name}: {error}") from error
