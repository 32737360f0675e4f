"""Makes the Gymnasium environment of an `EnvSpec`, with flat float32 observations.

Gymnasium is imported when the first environment is made, and Gymnasium-Robotics only for ids
that Gymnasium does not know: together they take a second.
"""

from __future__ import annotations

import contextlib
import io
import pathlib
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from dtql_jax.envs.spec import EnvSpec
from dtql_jax.errors import UserError, near_matches

if TYPE_CHECKING:
    import gymnasium

# Environments of this package: (entry point, whether it builds on Gymnasium-Robotics).
OWN = {
    "dtql_jax/AntMazeD4RL-v0": ("dtql_jax.envs.antmaze_d4rl:AntMazeD4RL", False),
    "dtql_jax/AdroitPenD4RL-v0": ("dtql_jax.envs.adroit_pen_d4rl:AdroitPenD4RL", True),
    "dtql_jax/KitchenD4RL-v0": ("dtql_jax.envs.kitchen_d4rl:KitchenD4RL", True),
}


def make_env(spec: EnvSpec, render_mode: str | None = None) -> gymnasium.Env:
    """Makes the environment of a spec, with flat observations.

    Args:
      spec: the environment.
      render_mode: Gymnasium's, for example "rgb_array"; None: no rendering.

    Returns:
      An environment whose observations are float32 vectors [O]: the parts of a dict observation
      in the order of `spec.observation_keys`, or the flat observation itself. It is truncated
      after `spec.max_episode_steps` steps.

    Raises:
      UserError: the id, an argument, an attribute or an observation key is unknown, or the
        installed MuJoCo cannot build the environment.
    """
    import gymnasium

    env, keys = make_base_env(spec, render_mode), spec.observation_keys
    size = flat_size(env.observation_space, keys, f"observations of {spec.env_id}")
    space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
    return gymnasium.wrappers.TransformObservation(
        env, lambda observation: join_observation(observation, keys), space
    )


def make_base_env(spec: EnvSpec, render_mode: str | None = None) -> gymnasium.Env:
    """Makes the environment of a spec with its own observations (mazes: a dict).

    Datasets are recorded in it. Arguments and errors are those of `make_env`.
    """
    import gymnasium

    register(spec.env_id)
    try:
        with warnings.catch_warnings():
            # D4RL's locomotion data was recorded in the -v4 environments
            warnings.filterwarnings("ignore", message=".*is out of date.*")
            env = gymnasium.make(
                spec.env_id,
                max_episode_steps=spec.max_episode_steps,
                disable_env_checker=True,
                # a user's environment may not take render_mode
                **({} if render_mode is None else {"render_mode": render_mode}),
                **spec.kwargs,
            )
    except UserError:
        raise
    except Exception as error:  # MuJoCo and the environments raise all kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        if "Kitchen" in spec.env_id:
            reason += f" (MuJoCo {version('mujoco')} is installed; FrankaKitchen needs mujoco<3.12)"
        raise UserError(
            f"environment {spec.env_id!r} cannot be made with {dict(spec.kwargs)}: {reason}"
        ) from error
    # a maze writes an XML file into the temporary folder and reads it once
    maze_file = getattr(env.unwrapped, "tmp_xml_file_path", None)
    if maze_file is not None:
        pathlib.Path(maze_file).unlink(missing_ok=True)
    for name, value in spec.attributes.items():
        if not hasattr(env.unwrapped, name):
            env.close()
            raise UserError(
                f"environment {spec.env_id!r} has no attribute {name!r} to set to {value!r}"
            )
        setattr(env.unwrapped, name, value)
    return env


def register(env_id: str) -> None:
    """Registers the environments of Gymnasium-Robotics or this package where `env_id` is one.

    Raises:
      UserError: neither Gymnasium, Gymnasium-Robotics nor this project has it.
    """
    import gymnasium

    if env_id in gymnasium.registry:
        return
    entry_point, robotics = OWN.get(env_id, (None, True))
    if robotics:
        # hides a notice about Adroit's rewards, printed by every process that imports it
        with contextlib.redirect_stderr(io.StringIO()):
            import gymnasium_robotics

            gymnasium.register_envs(gymnasium_robotics)
    if entry_point is not None:
        gymnasium.register(env_id, entry_point)
    if env_id not in gymnasium.registry:
        raise UserError(
            f"unknown environment id {env_id!r}: {near_matches(env_id, gymnasium.registry)}"
        )


def join_observation(
    observation: Mapping[str, Any] | np.ndarray, keys: tuple[str, ...]
) -> np.ndarray:
    """Concatenates the parts of observations along their last axis.

    Args:
      observation: a mapping of arrays [..., O_k], or one array [..., O].
      keys: the parts in order; empty where `observation` is one array.

    Returns:
      [..., sum of O_k] float32.
    """
    if not keys:
        return np.asarray(observation, np.float32)
    parts = [np.asarray(observation[key], np.float32) for key in keys]
    return np.concatenate(parts, axis=-1)


def flat_size(space: gymnasium.Space, keys: tuple[str, ...], owner: str) -> int:
    """Returns the length of `join_observation` of a space.

    Raises:
      UserError: a part is missing or no vector; the line names the space by `owner`.
    """
    import gymnasium

    known: dict = dict(space.spaces) if isinstance(space, gymnasium.spaces.Dict) else {"": space}
    shapes = [getattr(known.get(key), "shape", None) for key in keys or ("",)]
    sizes = [shape[0] for shape in shapes if shape is not None and len(shape) == 1]
    if len(sizes) != len(shapes):
        found = {key: getattr(part, "shape", None) for key, part in known.items()}
        raise UserError(
            f"{owner} are {type(space).__name__} of shape {found.get('', found)}; expected "
            f"{', '.join(map(repr, keys)) or 'one vector'}"
        )
    return sum(sizes)
