"""Offline datasets: from a task's name to transition arrays and what is known about them."""

from dtql_jax.datasets.info import DatasetInfo
from dtql_jax.datasets.load import load, load_episodes
from dtql_jax.datasets.registry import TASKS, get_task
from dtql_jax.datasets.sources import Task

__all__ = ["TASKS", "DatasetInfo", "Task", "get_task", "load", "load_episodes"]
