"""Datasets collected here: a behaviour policy in the real simulator, recorded by Minari.

The result is an ordinary local Minari dataset in Minari's own store, with a name of its
own ("dtql_jax/pointmaze/umaze-v0"). It is there whole or not at all, and collected once
however many processes ask for it (see `datasets.store`).
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from dtql_jax.datasets import store
from dtql_jax.datasets.registry import GeneratedSource
from dtql_jax.errors import UserError, near_matches

if TYPE_CHECKING:
    import gymnasium
    from minari.data_collector.episode_buffer import EpisodeBuffer

# (observation as the environment gives it, noise) -> action
Policy = Callable[[Any, np.random.Generator], np.ndarray]

# what Minari's HDF5 takes up, measured on PointMaze
_BYTES_PER_TRANSITION = 450


def dataset_id(source: GeneratedSource, transitions: int, seed: int) -> str:
    """Returns the Minari id of a collection; other sizes and seeds have other names."""
    if transitions == source.transitions and seed == 0:
        return f"{source.dataset_name}-v0"
    return f"{source.dataset_name}-n{transitions}-seed{seed}-v0"


def ensure(
    source: GeneratedSource,
    *,
    transitions: int | None = None,
    seed: int = 0,
    quiet: bool = False,
    report: Callable[[str], None],
) -> str:
    """Returns the id of a collected dataset; collects it first if it is not there.

    Args:
      source: what to collect.
      transitions: how many; None: as many as the source says.
      seed: of starts, goals and noise. The same seed gives the same data.
      quiet: no progress bar.
      report: receives the cost before the work starts.

    Raises:
      UserError: `transitions` or `seed` is out of range, or the store cannot be written.
    """
    transitions = source.transitions if transitions is None else transitions
    if transitions < 1 or seed < 0:
        raise UserError(
            f"cannot collect {transitions} transitions with seed {seed}; expected at least one "
            "transition and a seed that is not negative"
        )
    name = dataset_id(source, transitions, seed)

    def write() -> None:
        seconds = transitions / source.transitions_per_second
        megabytes = transitions * _BYTES_PER_TRANSITION / 1e6
        report(
            f"collecting {transitions:,} transitions of {source.env.env_id} (seed {seed}): about "
            f"{seconds:.0f} s on one core and {megabytes:.0f} MB in {root}"
        )
        try:
            _record(source, name, transitions, seed, quiet)
        except OSError as error:
            reason = " ".join(str(error).split())
            raise UserError(f"collecting {name} failed: {reason}; nothing was kept") from error

    root = store.datasets_root()
    if not store.is_local(name):
        store.make(name, write, report)
    return name


def _record(source: GeneratedSource, name: str, transitions: int, seed: int, quiet: bool) -> None:
    """Plays all episodes and writes them as a Minari dataset into Minari's present store."""
    import minari

    from dtql_jax.envs.make import make_base_env

    env = make_base_env(source.env)
    try:
        policy = _policy(source.collector, env)
        episodes = []
        with _progress(name, transitions, quiet) as advance:
            for episode in play(env, policy, transitions, seed):
                episodes.append(episode)
                advance(len(episode.rewards))
    finally:
        env.close()
    with warnings.catch_warnings():
        # asks for an e-mail address and a link, which a collection on this machine has not
        warnings.filterwarnings("ignore", message=".*is set to None.*")
        # Minari's DataCollector does the same step by step, three times slower
        minari.create_dataset_from_buffers(
            name,
            episodes,
            env=env,
            eval_env=env.spec,
            algorithm_name=_ALGORITHMS[source.collector],
            author="dtql-jax",
            description=(
                f"{transitions} transitions of {source.env.env_id} collected by dtql-jax with "
                f"seed {seed}: {_ALGORITHMS[source.collector]}. Not one of D4RL's datasets."
            ),
            requirements=[
                f"{package}=={importlib.metadata.version(package)}"
                for package in ("mujoco", "gymnasium", "gymnasium-robotics")
            ],
        )


def play(
    env: gymnasium.Env, policy: Policy, transitions: int, seed: int
) -> Iterator[EpisodeBuffer]:
    """Plays exactly `transitions` steps; the last episode is cut (truncated) there.

    Each episode draws from random numbers of its own, so episode k is the same whatever
    was played before it.

    Args:
      env: an environment with dict observations.
      policy: chooses the actions.
      transitions: how many steps.
      seed: not negative.

    Yields:
      Minari's buffer of one episode: T + 1 observations, T of everything else.
    """
    from minari.data_collector.episode_buffer import EpisodeBuffer

    done = episode = 0
    while done < transitions:
        draws = np.random.default_rng([seed, episode])
        env_seed = int(draws.integers(2**31))
        observation, _ = env.reset(seed=env_seed)
        observations, steps = [observation], []
        while done < transitions:
            action = policy(observation, draws)
            observation, reward, terminated, truncated, _ = env.step(action)
            done += 1
            cut = done == transitions and not terminated
            observations.append(observation)
            steps.append((action, float(reward), bool(terminated), bool(truncated or cut)))
            if terminated or truncated:
                break
        actions, rewards, terminations, truncations = zip(*steps, strict=True)
        yield EpisodeBuffer(
            id=episode,
            seed=env_seed,
            observations={
                key: np.stack([given[key] for given in observations]) for key in observation
            },
            actions=np.stack(actions),
            rewards=list(rewards),
            terminations=list(terminations),
            truncations=list(truncations),
        )
        episode += 1


def _pointmaze_policy(env: gymnasium.Env) -> Policy:
    from dtql_jax.datasets.pointmaze import Planner

    planner = Planner(env.unwrapped.maze.maze_map)

    def act(observation: Any, noise: np.random.Generator) -> np.ndarray:
        return planner.action(observation["observation"], observation["desired_goal"], noise)

    return act


_POLICIES: dict[str, Callable[[gymnasium.Env], Policy]] = {"pointmaze": _pointmaze_policy}
_ALGORITHMS = {"pointmaze": "breadth-first waypoints, PD controller, action noise 0.5"}


def _policy(collector: str, env: gymnasium.Env) -> Policy:
    if collector not in _POLICIES:
        raise UserError(
            f"unknown behaviour policy {collector!r}: {near_matches(collector, _POLICIES)}"
        )
    return _POLICIES[collector](env)


@contextlib.contextmanager
def _progress(name: str, total: int, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Shows a progress bar on stderr; yields the function that moves it on."""
    import rich.console
    import rich.progress

    bar = rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
        console=rich.console.Console(stderr=True),
        disable=quiet,
    )
    with bar:
        row = bar.add_task(name, total=total)
        yield lambda steps: bar.advance(row, steps)
