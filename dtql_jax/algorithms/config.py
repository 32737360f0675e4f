"""Configurations of algorithms: one dataclass each, its fields declared once.

    @flax.struct.dataclass
    class Config:
        learning_rate: float = traced(3e-4, ">= 0")  # of the policy
        hidden_dim: int = static(256, "> 0")  # width of every network

A traced field is a Python number in a configuration and a float32 array in a training state: a
sweep over it is a vmap and never recompiles. A static field is part of the compiled program.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import flax.struct
import jax
import jax.numpy as jnp

Config = TypeVar("Config")


class Limit(NamedTuple):
    """A condition on a value, and its words in an error message."""

    expected: str
    holds: Callable[[Any], bool]


_RANGES = {
    ">= 0": Limit("a number >= 0", lambda x: x >= 0),
    "> 0": Limit("a number > 0", lambda x: x > 0),
    "in [0, 1]": Limit("a number in [0, 1]", lambda x: 0 <= x <= 1),
    ">= 2": Limit("at least 2", lambda x: x >= 2),
    "even, >= 4": Limit("an even number >= 4", lambda x: x >= 4 and x % 2 == 0),
}


def traced(default: float, limit: str) -> Any:
    """Declares a number that the members of a population may vary: a leaf of the state.

    Args:
      default: its default.
      limit: one of the ranges above.
    """
    return flax.struct.field(default=default, metadata={"limits": [_RANGES[limit]]})


def static(
    default: Any,
    limit: str = "",
    *,
    one_of: tuple[str, ...] = (),
    at_most: int | None = None,
) -> Any:
    """Declares a field that is part of the compiled program.

    Args:
      default: its default.
      limit: one of the ranges above.
      one_of: the names that are allowed.
      at_most: limit of a number that unrolls a loop; larger programs would never compile.
    """
    limits = [_RANGES[limit]] if limit else []
    if one_of:
        limits.append(Limit(f"one of {one_of}", lambda x: x in one_of))
    if at_most is not None:
        limits.append(Limit(f"at most {at_most}", lambda x: x <= at_most))
    return flax.struct.field(pytree_node=False, default=default, metadata={"limits": limits})


def check(config: Any) -> None:
    """Raises ValueError naming the first field of `config` outside its limits."""
    for field in dataclasses.fields(config):
        for limit in field.metadata.get("limits", ()):
            value = getattr(config, field.name)
            if not limit.holds(value):
                raise ValueError(f"{field.name} is {value!r}; expected {limit.expected}")


def traced_names(config: Any) -> list[str]:
    """Names of the traced fields, in order."""
    fields = dataclasses.fields(config)
    return [field.name for field in fields if field.metadata.get("pytree_node", True)]


def as_arrays(config: Config) -> Config:
    """The configuration as a part of a state: traced fields as float32 scalars."""
    return jax.tree.map(jnp.float32, config)


def with_traced(config: Any, state: Any) -> Any:
    """`config` with the traced fields of `state.config`, which may differ between members."""
    return config.replace(**{name: getattr(state.config, name) for name in traced_names(config)})
