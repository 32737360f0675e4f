"""The types of the registry: tasks and the sources of their data.

A task has up to three sources, each with its own evaluation environment: D4RL's ant is not
Gymnasium-Robotics' ant, and a dataset is evaluated only in the environment of its recording.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from dtql_jax.envs.spec import EnvSpec


@dataclasses.dataclass(frozen=True)
class Source:
    """Data with flat observations.

    Attributes:
      env: the environment of recording and evaluation.
      observation_dim: O of the flat observation (`env.observation_keys` concatenated).
      action_dim: A.
    """

    env: EnvSpec
    observation_dim: int
    action_dim: int


@dataclasses.dataclass(frozen=True)
class MinariSource(Source):
    """Datasets in Minari's store; several are concatenated in this order."""

    dataset_ids: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class D4rlSource(Source):
    """One of D4RL's HDF5 files, by its original name.

    Attributes:
      version: "v0", "v1" or "v2".
      reference_scores: returns of a random policy and of the expert; D4RL's score is
        100 * (return - random) / (expert - random).
    """

    file_name: str
    version: str
    reference_scores: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class GeneratedSource(Source):
    """Data collected on this machine by a behaviour policy.

    Attributes:
      dataset_name: Minari id without version; never one of D4RL's names.
      collector: name of the behaviour in `collect.behaviours`.
      transitions: default number of transitions.
      transitions_per_second: measured on one core, for the reported cost.
      bytes_per_transition: measured size in Minari's HDF5 file.
      policy: name of the shipped policies in `collect.policies`, unless the user gives files;
        "": the behaviour needs no policy.
      settings: JSON-able keyword arguments of the behaviour.
      episode_steps: time limit of a recorded episode; 0: that of the evaluation.
      variant: name of this collection among those of a task ("d4rl-ant", "gymnasium-ant").
    """

    dataset_name: str
    collector: str
    transitions: int
    transitions_per_second: float
    bytes_per_transition: int
    policy: str = ""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    episode_steps: int = 0
    variant: str = ""

    def recording_env(self) -> EnvSpec:
        """Returns the environment with the time limit of the recording."""
        steps = self.episode_steps or self.env.max_episode_steps
        return dataclasses.replace(self.env, max_episode_steps=steps)


@dataclasses.dataclass(frozen=True)
class Task:
    """A task of offline reinforcement learning.

    Attributes:
      name: for example "antmaze-umaze"; no version, versions belong to datasets.
      domain: "gym", "antmaze", "adroit", "kitchen" or "pointmaze".
      minari: Minari's data, or None.
      d4rl: D4RL's files, the default version first; () without any.
      generated: data collected here, or None.
      generated_variants: other collections, chosen by their variant.
      not_generated: why `generated` is None.
    """

    name: str
    domain: str
    minari: MinariSource | None = None
    d4rl: tuple[D4rlSource, ...] = ()
    generated: GeneratedSource | None = None
    generated_variants: tuple[GeneratedSource, ...] = ()
    not_generated: str = ""
