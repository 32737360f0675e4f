"""The configuration of any task: `--config=dtql_jax/presets/task.py:TASK,PRESET,ALGORITHM`.

PRESET is "auto" (paper for the paper's tasks, quick for the point mazes), "paper", "quick" or, for
point mazes, "full". ALGORITHM is a name in `dtql_jax.algorithms.ALGORITHMS`.
"""

import importlib

import ml_collections

from dtql_jax.datasets.registry import get_task
from dtql_jax.errors import UserError

DEFAULT = "pointmaze-umaze,auto,dtql"


def get_config(spec: str = DEFAULT) -> ml_collections.ConfigDict:
    """The configuration named by "TASK[,PRESET[,ALGORITHM]]"; UserError for an unknown name."""
    parts = [part.strip() for part in spec.split(",")]
    if len(parts) > 3 or not all(parts):
        raise UserError(f"configuration {spec!r}; expected TASK[,PRESET[,ALGORITHM]]")
    task, preset, algorithm = parts + DEFAULT.split(",")[len(parts) :]
    domain = get_task(task).domain
    if preset == "auto":
        preset = "quick" if domain == "pointmaze" else "paper"
    module = importlib.import_module(f"dtql_jax.presets.{domain}")
    # the table of settings knows tasks, not versions of their files ("antmaze-umaze-v0")
    config = module.get_config(get_task(task).name, preset, algorithm)
    config.task = task
    return config
