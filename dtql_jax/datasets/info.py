"""The identity of a loaded dataset, stored with every score."""

import dataclasses
from typing import Any

from dtql_jax.envs.spec import EnvSpec


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """Identity and sizes of a loaded dataset.

    Attributes:
      task: name in the registry, for example "pointmaze-umaze".
      source: "minari", "d4rl" or "generated".
      dataset_id: Minari id or the HDF5 file's name. Generated data has names of its own,
        never one of D4RL's.
      version: the dataset's own version ("v2"), "" where it has none.
      path: folder or file on this machine.
      fingerprint: "sha256:..." over the arrays (names, dtypes, shapes, bytes).
      episodes, transitions: their numbers.
      observation_dim, action_dim: O and A.
      observation_layout: parts of an observation vector in order, for example
        ("observation", "desired_goal"); ("observation",) where it is flat.
      env: the environment of the data, in which policies are evaluated.
      reference_scores: (random, expert) returns for D4RL's normalised score, or None.
      clipped_actions: number of action entries outside the action space, clipped to it.
      mujoco_version: MuJoCo version of the recording; "" where it is unknown.
    """

    task: str
    source: str
    dataset_id: str
    version: str
    path: str
    fingerprint: str
    episodes: int
    transitions: int
    observation_dim: int
    action_dim: int
    observation_layout: tuple[str, ...]
    env: EnvSpec
    reference_scores: tuple[float, float] | None
    clipped_actions: int = 0
    mujoco_version: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a JSON-able dict."""
        fields = dataclasses.asdict(self)
        fields["observation_layout"] = list(self.observation_layout)
        fields["env"] = self.env.to_dict()
        return fields
