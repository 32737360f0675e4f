"""Sharing work between devices: the rows of a batch, and the members of a population."""

from dtql_jax.training.data_parallel.acting import Acting, Policy, make_act
from dtql_jax.training.data_parallel.members import Placement, place
from dtql_jax.training.data_parallel.rows import gradients

__all__ = ["Acting", "Placement", "Policy", "gradients", "make_act", "place"]
