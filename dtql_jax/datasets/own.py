"""Your own data and environments: arrays, Minari ids, HDF5 files, Gymnasium environments.

`datasets.load` knows the sizes, bounds and environments of the registered tasks. This module
reads them from the data and the environment instead.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dtql_jax.datasets.info import DatasetInfo
from dtql_jax.datasets.load import load
from dtql_jax.datasets.transitions import concatenate, validate
from dtql_jax.envs.spec import EnvSpec
from dtql_jax.errors import UserError
from dtql_jax.types import Transition

Data = str | os.PathLike | Transition | Mapping[str, Any]
Env = str | EnvSpec | Callable[[], Any]

_MINARI_ID = re.compile(r".*/.*-v\d+")
_GOAL_KEYS = ("observation", "desired_goal")
_numbers = itertools.count()


def read_data(
    data: Data, env: EnvSpec | None, **options: Any
) -> tuple[Transition, DatasetInfo | None, EnvSpec | None]:
    """Reads data of any supported form.

    Args:
      data: a task's name ("pointmaze-umaze"), a Minari id ("me/mine-v0"), the path of an HDF5
        file in D4RL's layout, a `Transition`, or a mapping of arrays with its field names
        ("terminals" may replace "masks").
      env: the environment of the data, if known.
      **options: arguments of `datasets.load`, for a task.

    Returns:
      (transitions, info or None, environment or None).

    Raises:
      UserError: the data is missing or invalid.
    """
    if isinstance(data, (Transition, Mapping)):
        return from_arrays(data), None, env
    text = os.fspath(data)
    if text.endswith((".hdf5", ".h5")):
        return _from_hdf5(Path(text), env), None, env
    if _MINARI_ID.fullmatch(text):
        arrays, recorded_env = _from_minari(text, env)
        return arrays, None, env or recorded_env
    arrays, info = load(text, **options)
    return arrays, info, env or info.env


def from_arrays(data: Transition | Mapping[str, Any]) -> Transition:
    """Converts arrays into a checked float32 `Transition`.

    Args:
      data: observations [N, O], actions [N, A], next_observations [N, O], rewards [N], and masks
        [N] (0 where the task ended) or terminals [N] (true there).

    Raises:
      UserError: an array is missing, has a wrong length or rank, or holds NaN or infinity.

    >>> own = {"observations": [[0.0], [1.0]], "actions": [[0.5], [0.5]], "rewards": [0, 1]}
    >>> own |= {"next_observations": [[1.0], [2.0]], "terminals": [False, True]}
    >>> from_arrays(own).masks.tolist()
    [1.0, 0.0]
    """
    fields = dict(data._asdict() if isinstance(data, Transition) else data)
    if "masks" not in fields and "terminals" in fields:
        fields["masks"] = 1.0 - np.asarray(fields.pop("terminals"), np.float32)
    absent = [name for name in Transition._fields if name not in fields]
    if absent:
        raise UserError(
            f"the data lacks {', '.join(absent)}; expected {', '.join(Transition._fields)} (or "
            "terminals in place of masks)"
        )
    try:
        arrays = Transition(*(np.asarray(fields[n], np.float32) for n in Transition._fields))
    except (TypeError, ValueError) as error:
        raise UserError(f"the data cannot be read as float32 arrays: {error}") from error
    # transitions need no marked end: their episodes are not counted
    validate(arrays, name="the data", episodes=1)
    return arrays


def _from_hdf5(path: Path, env: EnvSpec | None) -> Transition:
    from dtql_jax.datasets import d4rl

    if not path.is_file():
        raise UserError(f"no file {path}; expected an HDF5 file in D4RL's layout")
    columns = d4rl.read_columns(path)
    if "timeouts" not in columns and env is None and not columns["terminals"].any():
        raise UserError(f"{path.name} marks no ends: name the environment, whose time limit counts")
    limit = env.max_episode_steps if env is not None else len(columns["rewards"]) + 1
    arrays, lengths = d4rl.from_columns(columns, limit)
    validate(arrays, name=path.name, episodes=len(lengths))
    return arrays


def _from_minari(dataset_id: str, env: EnvSpec | None) -> tuple[Transition, EnvSpec | None]:
    from dtql_jax.datasets import minari
    from dtql_jax.datasets.sources import Source
    from dtql_jax.envs.make import flat_size

    minari.fetch([dataset_id], lambda line: None)
    dataset = minari.open_dataset(dataset_id)
    recorded = dataset.env_spec
    if env is None and recorded is not None:
        env = spec_of(recorded.id, recorded.max_episode_steps, kwargs=dict(recorded.kwargs))
    keys = env.observation_keys if env is not None else _keys_of(dataset.observation_space)
    name = f"Minari dataset {dataset_id}"
    size = flat_size(dataset.observation_space, keys, f"observations of {name}")
    actions = flat_size(dataset.action_space, (), f"actions of {name}")
    source = Source(env or EnvSpec("none", 1, {}, keys), size, actions)
    parts = minari.read_episodes(dataset_id, dataset, source)
    arrays = concatenate(parts)
    validate(arrays, name=name, episodes=len(parts))
    return arrays, env


def spec_of(
    env: Env,
    max_episode_steps: int | None = None,
    *,
    success: str = "none",
    kwargs: Mapping[str, Any] | None = None,
) -> EnvSpec:
    """Describes an environment for evaluation, by making it once.

    Args:
      env: a Gymnasium id, a function that makes an environment, or an `EnvSpec` (returned as is).
      max_episode_steps: time limit; None: the environment's own.
      success: "reward" where any reward above 0 is a success, else "none".
      kwargs: keyword arguments of `gymnasium.make`, for an id.

    Raises:
      UserError: there is no such environment, or it has no time limit and none was given.
    """
    if isinstance(env, EnvSpec):
        return env
    import gymnasium

    from dtql_jax.envs.make import register

    if callable(env):
        make, env = env, f"dtql_jax_user/Own-v{next(_numbers)}"
        # Gymnasium passes a render mode, which the function may not accept
        gymnasium.register(env, entry_point=lambda **_: make())
    elif not isinstance(env, str):
        raise UserError(
            f"env is {type(env).__name__}; expected a Gymnasium id, a function that makes an "
            "environment, or an EnvSpec"
        )
    register(env)
    kwargs = dict(kwargs or {})
    try:
        made = gymnasium.make(env, disable_env_checker=True, **kwargs)
    except gymnasium.error.Error as error:
        raise UserError(f"environment {env!r} cannot be made: {error}") from error
    keys, spec = _keys_of(made.observation_space), made.spec
    made.close()
    limit = max_episode_steps or (spec.max_episode_steps if spec is not None else None)
    if not limit:
        raise UserError(f"environment {env!r} has no time limit; give max_episode_steps")
    return EnvSpec(env, limit, kwargs, keys, {}, success)


def bound_of(env: EnvSpec) -> float:
    """Returns the bound b of an action space [-b, b]; UserError for any other action space."""
    from dtql_jax.envs.make import make_env

    made = make_env(env)
    space = made.action_space
    made.close()
    low, high = (np.asarray(getattr(space, side, np.nan)) for side in ("low", "high"))
    bound = float(np.max(high))
    if not (np.isfinite(bound) and (high == bound).all() and (low == -bound).all()):
        raise UserError(f"{env.env_id} has action space {space}; expected a Box from -b to b")
    return bound


def _keys_of(space: Any) -> tuple[str, ...]:
    """Selects the parts of a dict observation: observation and goal, else all vectors."""
    import gymnasium

    if not isinstance(space, gymnasium.spaces.Dict):
        return ()
    # FrankaKitchen's goals are dicts themselves
    names = tuple(k for k, part in space.items() if not isinstance(part, gymnasium.spaces.Dict))
    return _GOAL_KEYS if set(_GOAL_KEYS) <= set(names) else names
