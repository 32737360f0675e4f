"""Configurations of algorithms: one dataclass each, its fields declared once.

    @flax.struct.dataclass
    class Config:
        learning_rate: float = traced(3e-4, ">= 0")  # of the policy
        hidden_dim: int = static(256, "> 0")  # width of every network

A traced field is a Python number in a configuration and a float32 array in a training state: a
sweep over it is a vmap and never recompiles. A static field is part of the compiled program.
"""

import dataclasses
import numbers
from typing import Any, TypeVar

import flax.struct
import jax
import jax.numpy as jnp

Config = TypeVar("Config")

# range -> (its words in an error message, condition)
_RANGES = {
    ">= 0": ("a number >= 0", lambda x: x >= 0),
    "> 0": ("a number > 0", lambda x: x > 0),
    "in [0, 1]": ("a number in [0, 1]", lambda x: 0 <= x <= 1),
    ">= 2": ("at least 2", lambda x: x >= 2),
    "even, >= 4": ("an even number >= 4", lambda x: x >= 4 and x % 2 == 0),
}
# type of a field's default -> (accepted type, its words, largest value)
_TYPES: dict[type, tuple[type, str, float]] = {
    float: (numbers.Real, "a finite number", 3.4e38),
    int: (numbers.Integral, "an integer of 32 bits", 2**31 - 1),
    bool: (bool, "True or False", 1),
    str: (str, "text", 0),
}


def traced(default: float, limit: str) -> Any:
    """Declares a number that the members of a population may vary; `limit` is in _RANGES."""
    return flax.struct.field(default=default, metadata={"limits": [_RANGES[limit]]})


def static(
    default: Any, limit: str = "", *, one_of: tuple[str, ...] = (), at_most: int | None = None
) -> Any:
    """Declares a field that is part of the compiled program.

    Args:
      default: its default.
      limit: one of _RANGES.
      one_of: the names that are allowed.
      at_most: limit of a number that unrolls a loop; larger programs would never compile.
    """
    limits = [_RANGES[limit]] if limit else []
    if one_of:
        limits.append((f"one of {one_of}", lambda x: x in one_of))
    if at_most is not None:
        limits.append((f"at most {at_most}", lambda x: x <= at_most))
    return flax.struct.field(pytree_node=False, default=default, metadata={"limits": limits})


def check(config: Any) -> None:
    """Raises ValueError naming the first field of `config` of a wrong type or out of its range."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        kind, words, largest = _TYPES[type(field.default)]
        fits = isinstance(value, kind) and isinstance(value, bool) == (kind is bool)
        size: Any = abs(value) if fits and kind is not str else 0
        if not fits or not size <= largest:  # NaN is not
            raise ValueError(f"{field.name} is {value!r}; expected {words}")
        for expected, holds in field.metadata["limits"]:
            if not holds(value):
                raise ValueError(f"{field.name} is {value!r}; expected {expected}")


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
