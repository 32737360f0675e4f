"""Diffusion Trusted Q-Learning (DTQL) for offline reinforcement learning in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dtql_jax.algorithms.base import Algorithm
    from dtql_jax.api import Score, Trained, train
    from dtql_jax.errors import UserError
    from dtql_jax.export import LoadedPolicy, load_policy
    from dtql_jax.types import Transition

__version__ = "0.2.0"

# imported at first use: a policy from a file needs neither simulators nor networks
_PLACES = {
    "Algorithm": "algorithms.base",
    "LoadedPolicy": "export",
    "Score": "api",
    "Trained": "api",
    "Transition": "types",
    "UserError": "errors",
    "load_policy": "export",
    "train": "api",
}
__all__ = [
    "Algorithm",
    "LoadedPolicy",
    "Score",
    "Trained",
    "Transition",
    "UserError",
    "__version__",
    "load_policy",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
