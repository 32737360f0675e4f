"""Where a task's data comes from: the records that the registry is made of.

A task has up to three sources, and each source its own evaluation environment: D4RL's
ant is not Gymnasium-Robotics' ant, and a dataset is evaluated only in the environment
that it was recorded in.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from dtql_jax.envs.spec import EnvSpec


@dataclasses.dataclass(frozen=True)
class MinariSource:
    """Datasets in Minari's store, published or collected elsewhere.

    Attributes:
      dataset_ids: Minari ids; several are put together in this order.
      env: the environment that they were recorded in.
      observation_dim: O of the flat observation (`env.observation_keys` put together).
      action_dim: A.
    """

    dataset_ids: tuple[str, ...]
    env: EnvSpec
    observation_dim: int
    action_dim: int


@dataclasses.dataclass(frozen=True)
class D4rlSource:
    """One of D4RL's HDF5 files.

    Attributes:
      file_name: its original name.
      version: "v0", "v1" or "v2".
      env: its environment, as near as today's MuJoCo has it.
      observation_dim: O.
      action_dim: A.
      reference_scores: returns of a random policy and of the expert; D4RL's score is
        100 * (return - random) / (expert - random).
    """

    file_name: str
    version: str
    env: EnvSpec
    observation_dim: int
    action_dim: int
    reference_scores: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class GeneratedSource:
    """Data collected on this machine by a behaviour policy.

    Attributes:
      dataset_name: Minari id without version; never one of D4RL's names.
      collector: name of what plays, in `datasets.behaviours`.
      env: the environment that it is recorded and evaluated in.
      observation_dim: O of the flat observation.
      action_dim: A.
      transitions: how many are collected unless told otherwise.
      transitions_per_second: measured on one core; the cost is printed from it.
      bytes_per_transition: of Minari's HDF5, measured.
      policy: name of the shipped policies in `datasets.policies`, which a file from the user
        takes the place of; "": the collector has no need of a policy.
      settings: JSON-able keyword arguments of the collector.
      episode_steps: steps that cut a recorded episode; 0: the evaluation's time limit.
      variant: tells the generated data of one task apart ("d4rl-ant", "gymnasium-ant").
    """

    dataset_name: str
    collector: str
    env: EnvSpec
    observation_dim: int
    action_dim: int
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
      d4rl: D4RL's files, the default version first; () where there is none.
      generated: data collected here, or None.
      generated_variants: other data that can be collected instead, chosen by its variant.
      not_generated: why `generated` is None.
    """

    name: str
    domain: str
    minari: MinariSource | None = None
    d4rl: tuple[D4rlSource, ...] = ()
    generated: GeneratedSource | None = None
    generated_variants: tuple[GeneratedSource, ...] = ()
    not_generated: str = "no behaviour policy for it is part of this version"
