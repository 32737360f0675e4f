"""Offline datasets: from a task's name to transition arrays and what is known about them."""

from dtql_jax.datasets.info import DatasetInfo
from dtql_jax.datasets.load import load
from dtql_jax.datasets.registry import TASKS, Task, get_task

__all__ = ["TASKS", "DatasetInfo", "Task", "get_task", "load"]
