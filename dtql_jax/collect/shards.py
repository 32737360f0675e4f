"""Shards: a few episodes of a plan, played one after the other.

Minari's DataCollector records them, so a shard is a small Minari dataset: a folder with
Minari's metadata and its HDF5 file, there whole or not at all.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import h5py

from dtql_jax.collect.policies import read_policy
from dtql_jax.collect.recording import Behaviour, play
from dtql_jax.datasets import store
from dtql_jax.envs.spec import EnvSpec
from dtql_jax.errors import UserError

# told of steps as they are played
Advance = Callable[[int], None]

# what the folders are called in which shards are being recorded
RECORDING = ".recording."

# Minari's name for the arrays of a dataset
DATA_FILE = "main_data.hdf5"


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
    """Returns the folder of a shard."""
    return folder / f"part{plan.part}-{shard:06d}"


def read_steps(path: pathlib.Path) -> int:
    """Returns the steps of a shard, without reading its episodes.

    Raises:
      ValueError: the shard is damaged.
    """
    try:
        return int(json.loads((path / store.METADATA_FILE).read_text())["total_steps"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def check(path: pathlib.Path) -> None:
    """Reads a shard whole.

    Raises:
      ValueError: the shard is not what was recorded.
    """
    try:
        given = json.loads((path / store.METADATA_FILE).read_text())["sha256"]
        found = _sha256(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if found != given:
        raise ValueError(f"{path} is damaged: its content is not what was recorded")


def append(file: h5py.File, path: pathlib.Path, steps: int) -> list[float]:
    """Copies a shard's episodes behind those of a Minari dataset, up to a number of steps.

    Args:
      file: of the dataset, open for writing.
      path: of the shard.
      steps: more than there are, or the last episode is cut to end with them.

    Returns:
      The return of each episode that was copied.
    """
    returns = []
    with h5py.File(path / DATA_FILE, "r") as shard:
        for number in range(len(shard)):
            if steps <= 0:
                break
            name = f"episode_{len(file)}"
            shard.copy(f"episode_{number}", file, name)
            episode = file[name]
            episode.attrs["id"] = len(file) - 1
            if episode.attrs["total_steps"] > steps:
                _cut(episode, steps)
            steps -= int(episode.attrs["total_steps"])
            returns.append(float(episode["rewards"][:].sum()))
    return returns


def _cut(episode: h5py.Group, steps: int) -> None:
    """Leaves the first steps of an episode; the last of them is truncated unless it terminated."""
    import minari

    def shorten(name: str, part: h5py.Group | h5py.Dataset) -> None:
        if isinstance(part, h5py.Dataset):
            # each episode has one observation more than steps
            part.resize(steps + name.startswith("observations"), axis=0)

    episode.visititems(shorten)
    episode["truncations"][-1] |= not episode["terminations"][-1]
    episode.attrs["total_steps"] = steps
    rewards = {"rewards": episode["rewards"][:]}
    episode.attrs.update(minari.EpisodeMetadataCallback()(rewards))


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
        steps = 0
        first = shard * plan.shard_episodes
        # Minari records into its store: here a folder beside the shards
        staging = pathlib.Path(tempfile.mkdtemp(prefix=RECORDING, dir=self._folder))
        try:
            with store.store_at(staging):
                collector = _collector(self._env, self._behaviour)
                for number in range(first, first + plan.shard_episodes):
                    episode = play(collector, self._behaviour, (plan.seed, number, plan.part))
                    steps += len(episode.rewards)
                    advance(len(episode.rewards))
                    if steps >= needed:
                        break
                _keep(collector, shard_path(self._folder, plan, shard))
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return steps

    def close(self) -> None:
        """Closes the environment."""
        if self._env is not None:
            self._env.close()

    def _make(self, plan: Plan) -> None:
        # late: the simulators take a second
        from dtql_jax.collect.behaviours import make_behaviour
        from dtql_jax.envs.make import make_base_env

        self.close()
        self._env = make_base_env(plan.env)
        policy = read_policy(plan.policy) if plan.policy else None
        if policy is not None and policy.sha256 != plan.policy_sha256:
            raise UserError(f"{plan.policy} has changed while it was used")
        self._behaviour = make_behaviour(plan.behaviour, self._env, policy, plan.settings)
        self._plan = plan


def _collector(env: Any, behaviour: Behaviour) -> Any:
    """Returns a Minari DataCollector around an environment; episodes end as the behaviour says."""
    import minari

    class EndsOfBehaviour(minari.StepDataCallback):
        def __call__(self, env, **step):
            row = super().__call__(env, **step)
            if step.get("action") is not None:  # a step, not a reset
                ends = behaviour.ends(row["observation"], row["terminated"], row["truncated"])
                row["terminated"], row["truncated"] = ends
            return row

    return minari.DataCollector(env, step_data_callback=EndsOfBehaviour, data_format="hdf5")


def _keep(collector: Any, path: pathlib.Path) -> None:
    """Stores what a collector recorded as a shard."""
    with warnings.catch_warnings():
        # asks for an author, an e-mail address and a link, which the whole dataset has or lacks
        warnings.filterwarnings("ignore", message=".*is set to None.*")
        dataset = collector.create_dataset("shard-v0")
    recorded = pathlib.Path(dataset.spec.data_path)
    dataset.storage.update_metadata({"sha256": _sha256(recorded)})
    shutil.rmtree(path, ignore_errors=True)  # a damaged one
    os.replace(recorded, path)


def _sha256(path: pathlib.Path) -> str:
    with open(path / DATA_FILE, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
