"""Reads Minari datasets, downloaded or collected here, by these rules.

Observations. The parts of a dict observation are concatenated in the order of
`EnvSpec.observation_keys`, as in the evaluation environment. An episode of T steps has T + 1
observations and gives T transitions.

Ends. A termination ends the task (mask 0); a truncation does not (mask 1).

Mazes. Published maze data was recorded with `continuing_task=True`: nothing terminates, and the
recording continues after the goal. Here, as in D4RL, reaching the goal ends the task, and the
evaluation environment has `continuing_task=False`. A transition with a reward above 0 therefore has
mask 0. The following transitions depend on `reset_target`:
  False (D4RL/antmaze): the goal stays, and the agent at the goal continues to receive 1. These
    transitions belong to the task too, with mask 0.
  True (D4RL/pointmaze): Gymnasium-Robotics copies the goal into the observation of a step BEFORE
    it draws the next goal. The transition that reaches the goal is therefore correct, but the one
    after it starts with the old goal, is rewarded for the new one and has the new one in its next
    observation. A transition whose goal changes is dropped.

Actions outside the action space are clipped and counted.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dtql_jax.datasets import store
from dtql_jax.datasets.cache import cached
from dtql_jax.datasets.sources import Source
from dtql_jax.datasets.transitions import concatenate, finish, from_episode
from dtql_jax.envs.make import join_observation, register
from dtql_jax.envs.spec import EnvSpec
from dtql_jax.errors import UserError
from dtql_jax.types import Transition

if TYPE_CHECKING:
    import minari

GOAL_KEY = "desired_goal"
_NETWORK_SECONDS = 3.0

Report = Callable[[str], None]


def load(
    dataset_ids: Sequence[str], source: Source, report: Report
) -> tuple[Transition, dict[str, Any]]:
    """Reads local datasets of a source, concatenated in their order, or takes them from the cache.

    `report` receives lines about long reads and problems with the cache.

    Returns:
      (float32 arrays, facts): "episodes", "episode_lengths" [episodes] (transitions of
      each), "clipped_actions" and "fingerprint".

    Raises:
      UserError: a dataset cannot be read, does not belong to the environment, or holds
        invalid numbers.
    """
    folders = [store.data_folder(dataset_id) for dataset_id in dataset_ids]
    return cached(
        "+".join(dataset_ids),
        [file for folder in folders for file in sorted(folder.glob("*")) if file.is_file()],
        {"env": source.env.to_dict(), "reader": "minari"},
        lambda: _read_all(dataset_ids, source, report),
        report,
    )


def fetch(dataset_ids: Sequence[str], report: Report) -> None:
    """Downloads the datasets that are not local, with Minari's own API.

    Raises:
      UserError: there is no network, or the download failed. The line says how to get the
        dataset in another way.
    """
    absent = [name for name in dataset_ids if not store.is_local(name)]
    if not absent:
        return
    commands = " && ".join(f"minari download {name}" for name in absent)
    advice = f"run `{commands}` where there is a network and put it into {store.datasets_root()}"
    problem = network_problem()
    if problem:
        raise UserError(
            f"Minari dataset {' and '.join(absent)} is not local and cannot be downloaded "
            f"({problem}): {advice}"
        )
    for name in absent:
        report(f"downloading {name} to {store.datasets_root()}")
        try:
            with store.lock(name, report):
                if not store.is_local(name):
                    with store.staging(name):
                        _download(name)
        except Exception as error:  # each remote has errors of its own
            reason = " ".join(str(error).split())
            raise UserError(
                f"downloading Minari dataset {name} failed ({reason}): {advice}"
            ) from error


def network_problem() -> str:
    """Returns why Minari's remote cannot be reached, "" if it answers, within 3 s.

    Minari itself retries for 25 s. The remote is $MINARI_REMOTE, as in Minari; HF_HUB_OFFLINE
    means no network.
    """
    if os.environ.get("MINARI_REMOTE", "").startswith("gcp:"):
        address = "https://storage.googleapis.com"
    elif os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return "HF_HUB_OFFLINE is set"
    else:
        address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    answers: list[str] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(address, method="HEAD")
            urllib.request.urlopen(request, timeout=_NETWORK_SECONDS).close()
            answers.append("")
        except urllib.error.HTTPError:
            answers.append("")  # the host answers
        except (OSError, ValueError) as error:
            answers.append(f"{address} does not answer: {getattr(error, 'reason', error)}")

    # a thread, because the lookup of a host name has no time limit
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_NETWORK_SECONDS)
    return answers[0] if answers else f"{address} does not answer within {_NETWORK_SECONDS:.0f} s"


def _download(dataset_id: str) -> None:
    """Downloads into Minari's current store and checks that the dataset is complete."""
    import minari

    # Minari prints to stdout, which is for the results of a command
    with contextlib.redirect_stdout(sys.stderr):
        try:
            minari.download_dataset(dataset_id)
        except ImportError as error:
            raise UserError(
                "it needs one more package: pip install 'minari[hf]', or 'minari[gcs]' for gcp://"
            ) from error
    dataset = open_dataset(dataset_id)
    # a cut-off file lacks the last episode
    for _ in dataset.storage.get_episodes([dataset.total_episodes - 1]):
        pass


def open_dataset(dataset_id: str) -> minari.MinariDataset:
    """Opens a local dataset; UserError where Minari cannot read it."""
    import minari

    with _readable(dataset_id):
        return minari.MinariDataset(store.data_folder(dataset_id))


@contextlib.contextmanager
def _readable(dataset_id: str):
    """Turns the errors of a damaged folder (assertions, key, JSON, HDF5 errors) into one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        folder = store.data_folder(dataset_id)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"Minari dataset {dataset_id} in {folder} cannot be read ({reason}); if it is "
            f"damaged, remove {folder.parent} and get it anew"
        ) from error


def _read_all(
    dataset_ids: Sequence[str], source: Source, report: Report
) -> tuple[Transition, dict[str, Any]]:
    parts: list[Transition] = []
    for dataset_id in dataset_ids:
        with _readable(dataset_id):
            dataset = open_dataset(dataset_id)
            check_environment(dataset_id, dataset.env_spec, source.env)
            # Minari takes 3 ms to open an episode; announce a long wait
            seconds = 3e-3 * dataset.total_episodes + 5e-6 * dataset.total_steps
            if seconds > 3:
                report(
                    f"reading {dataset_id}: {dataset.total_episodes:,} episodes, about "
                    f"{seconds:.0f} s this first time"
                )
            parts += read_episodes(dataset_id, dataset, source)
    lengths = [len(part.rewards) for part in parts]
    name = f"Minari dataset {'+'.join(dataset_ids)}"
    return finish(concatenate(parts), lengths, source, name)


def read_episodes(
    dataset_id: str, dataset: minari.MinariDataset, source: Source
) -> list[Transition]:
    """Returns the transitions of each episode of an open dataset."""
    if dataset.total_episodes < 1:
        raise UserError(
            f"Minari dataset {dataset_id} in {store.data_folder(dataset_id)} is empty: no episodes"
        )
    parts = []
    with _readable(dataset_id):
        for episode in dataset.storage.get_episodes(dataset.episode_indices):
            try:
                parts.append(from_minari_episode(episode, source))
            except UserError as error:
                place = f"Minari dataset {dataset_id}, episode {episode['id']}"
                raise UserError(f"{place}: {error}") from None
    return parts


def from_minari_episode(episode: dict[str, Any], source: Source) -> Transition:
    """Applies the rules in the module's docstring to one episode; returns at most T transitions.

    The episode has "observations" ([T + 1, O] or a dict of such arrays), "actions" [T, A],
    "rewards" [T] and "terminations" [T].

    Raises:
      UserError: its parts, sizes or lengths are not those of the source.
    """
    env = source.env
    given = episode["observations"]
    names = tuple(given) if isinstance(given, dict) else ()
    if bool(names) != bool(env.observation_keys) or not set(env.observation_keys) <= set(names):
        raise UserError(
            f"its observations have the parts {names or '(one array)'}; evaluation environment "
            f"{env.env_id} needs {env.observation_keys or '(one array)'}"
        )
    observations = join_observation(given, env.observation_keys)
    for what, array, size in (
        ("observations", observations, source.observation_dim),
        ("actions", episode["actions"], source.action_dim),
    ):
        if array.ndim != 2 or array.shape[1] != size:
            raise UserError(
                f"its {what} have shape {array.shape}; evaluation environment {env.env_id} has "
                f"{size} entries"
            )
    terminals = np.asarray(episode["terminations"], bool)
    keep = None
    if env.success == "reward":
        terminals = terminals | (np.asarray(episode["rewards"]) > 0)
    if GOAL_KEY in env.observation_keys:
        goals = np.asarray(given[GOAL_KEY])
        keep = (goals[1:] == goals[:-1]).all(axis=1)
    return from_episode(observations, episode["actions"], episode["rewards"], terminals, keep)


def check_environment(dataset_id: str, recorded: Any, env: EnvSpec) -> None:
    """Raises UserError unless a dataset was recorded in its evaluation environment.

    Mazes may differ in their start and goal cells (the "_Diverse_GR" variants, "r" and "g" in the
    map), but not in their walls. `recorded` is the dataset's Gymnasium spec, or None.
    """
    import gymnasium

    if recorded is None:
        raise UserError(
            f"Minari dataset {dataset_id} does not say in which environment it was recorded; "
            f"expected {env.env_id}"
        )
    found, expected = (re.sub(r"_Diverse_GR?(?=-)", "", name) for name in (recorded.id, env.env_id))
    if found != expected:
        raise UserError(
            f"Minari dataset {dataset_id} was recorded in {recorded.id}, not in its evaluation "
            f"environment {env.env_id}"
        )
    register(env.env_id)
    usual = gymnasium.spec(env.env_id).kwargs
    ours, theirs = usual | env.kwargs, usual | dict(recorded.kwargs)
    for key, view in (("maze_map", _walls), ("maze", str), ("tasks_to_complete", sorted)):
        if key in ours and key in theirs and view(ours[key]) != view(theirs[key]):
            raise UserError(
                f"Minari dataset {dataset_id} was recorded in {recorded.id} with {key} "
                f"{theirs[key]}; its evaluation environment {env.env_id} has {ours[key]}"
            )


def _walls(maze_map: Sequence[Sequence]) -> list[list[bool]]:
    return [[cell == 1 for cell in row] for row in maze_map]
