"""The description of an evaluation environment, as plain data."""

import dataclasses
from typing import Any

from dtql_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class EnvSpec:
    """An environment with flat observations, described by JSON-serialisable values.

    Attributes:
      env_id: Gymnasium id, for example "PointMaze_UMaze-v3".
      max_episode_steps: time limit in environment steps.
      kwargs: keyword arguments of `gymnasium.make`.
      observation_keys: keys of a dict observation, in the order in which they are concatenated;
        empty where observations are flat.
      attributes: attributes set on the unwrapped environment after making it
        (mazes: `position_noise_range`).
      success: "reward" (an episode with any reward above 0 is a success: mazes) or "none"
        (locomotion: only returns are reported).
    """

    env_id: str
    max_episode_steps: int
    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)
    observation_keys: tuple[str, ...] = ()
    attributes: dict[str, Any] = dataclasses.field(default_factory=dict)
    success: str = "none"

    def __post_init__(self) -> None:
        if self.success not in ("reward", "none"):
            raise UserError(f"success of {self.env_id} is {self.success!r}; known: reward, none")

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as a JSON-serialisable dict; `EnvSpec.from_dict` reads it back."""
        return dataclasses.asdict(self) | {"observation_keys": list(self.observation_keys)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "EnvSpec":
        """Inverse of `to_dict`."""
        values: dict[str, Any] = fields | {"observation_keys": tuple(fields["observation_keys"])}
        return cls(**values)
