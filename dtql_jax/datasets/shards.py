"""Shards: a few episodes of a plan, played one after the other into one file.

Worker processes play them too, so neither jax nor Minari is imported here.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

from dtql_jax.datasets.policies import read_policy
from dtql_jax.datasets.recording import Episode, play, write_episodes
from dtql_jax.envs.spec import EnvSpec
from dtql_jax.errors import UserError

# told of steps as they are played
Advance = Callable[[int], None]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Episodes of one behaviour with one policy.

    Attributes:
      env: what they are played in; its time limit cuts them.
      behaviour: name in `datasets.behaviours`.
      settings: of the behaviour.
      policy: path of its policy, "" where it has none.
      policy_sha256: of that file, "" where there is none.
      seed: of the collection.
      part: number of this plan in the collection.
      transitions: how many are wanted.
      shard_episodes: episodes in one file.
    """

    env: EnvSpec
    behaviour: str
    settings: dict[str, Any]
    policy: str
    policy_sha256: str
    seed: int
    part: int
    transitions: int
    shard_episodes: int

    def identity(self) -> dict[str, Any]:
        """Returns, JSON-able, all that the episodes depend on."""
        fields = dataclasses.asdict(self) | {"env": self.env.to_dict()}
        return {key: value for key, value in fields.items() if key != "policy"}


def shard_path(folder: pathlib.Path, plan: Plan, shard: int) -> pathlib.Path:
    """Returns the path of a shard's file."""
    return folder / f"part{plan.part}-{shard:06d}.npz"


class Player:
    """Plays shards; keeps the environment of the plan that it played last."""

    def __init__(self, folder: pathlib.Path):
        """Plays into a folder; makes no environment yet."""
        self._folder = folder
        self._plan: Plan | None = None
        self._env = self._behaviour = None

    def play(self, plan: Plan, shard: int, needed: int, advance: Advance) -> int:
        """Plays a shard, or less of it if that has all that is needed; returns its steps."""
        if plan != self._plan:
            self._make(plan)
        played: list[Episode] = []
        steps = 0
        first = shard * plan.shard_episodes
        for number in range(first, first + plan.shard_episodes):
            episode = play(self._env, self._behaviour, (plan.seed, number, plan.part))
            played.append(episode)
            steps += len(episode.rewards)
            advance(len(episode.rewards))
            if steps >= needed:
                break
        write_episodes(shard_path(self._folder, plan, shard), played)
        return steps

    def close(self) -> None:
        """Closes the environment."""
        if self._env is not None:
            self._env.close()

    def _make(self, plan: Plan) -> None:
        # late: the simulators take a second
        from dtql_jax.datasets.behaviours import make_behaviour
        from dtql_jax.envs.make import make_base_env

        self.close()
        self._env = make_base_env(plan.env)
        policy = read_policy(plan.policy) if plan.policy else None
        if policy is not None and policy.sha256 != plan.policy_sha256:
            raise UserError(f"{plan.policy} has changed while it was used")
        self._behaviour = make_behaviour(plan.behaviour, self._env, policy, plan.settings)
        self._plan = plan
