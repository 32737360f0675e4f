"""Makes the Gymnasium environment of an `EnvSpec`, with flat float32 observations.

Gymnasium is imported when the first environment is made, and Gymnasium-Robotics only for ids
that Gymnasium does not know: together they take a second.
"""

from __future__ import annotations

import contextlib
import functools
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
    return _flat_observation_class()(make_base_env(spec, render_mode), spec)


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
        raise UserError(
            f"environment {spec.env_id!r} cannot be made with {dict(spec.kwargs)}: "
            f"{_reason(error)}{_mujoco_hint(spec.env_id)}"
        ) from error
    _remove_maze_file(env)
    for name, value in spec.attributes.items():
        if not hasattr(env.unwrapped, name):
            env.close()
            raise UserError(
                f"environment {spec.env_id!r} has no attribute {name!r} to set to {value!r}"
            )
        setattr(env.unwrapped, name, value)
    return env


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _mujoco_hint(env_id: str) -> str:
    """Names the installed MuJoCo, and the releases that can build a kitchen."""
    if "Kitchen" not in env_id:
        return ""
    return f" (MuJoCo {version('mujoco')} is installed; FrankaKitchen needs mujoco<3.12)"


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
    if env_id in gymnasium.registry:
        return
    if env_id.startswith("dtql_jax/"):
        raise UserError(
            f"environment {env_id!r} is not part of this version: its data can be trained on, but "
            "not evaluated"
        )
    raise UserError(
        f"unknown environment id {env_id!r}: {near_matches(env_id, list(gymnasium.registry))}"
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


def _remove_maze_file(env: gymnasium.Env) -> None:
    """Deletes the XML file that a maze writes into the temporary folder and reads once."""
    path = getattr(env.unwrapped, "tmp_xml_file_path", None)
    if path is not None:
        pathlib.Path(path).unlink(missing_ok=True)


@functools.cache
def _flat_observation_class() -> type:
    """Returns the wrapper class; a function, so that gymnasium is imported late."""
    import gymnasium

    class FlatObservation(gymnasium.ObservationWrapper):
        """Observations as one float32 vector [O]."""

        def __init__(self, env: gymnasium.Env, spec: EnvSpec):
            super().__init__(env)
            self._keys = spec.observation_keys
            size = sum(_part_sizes(env.observation_space, spec))
            self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)

        def observation(self, observation: Any) -> np.ndarray:
            return join_observation(observation, self._keys)

    return FlatObservation


def _part_sizes(space: gymnasium.Space, spec: EnvSpec) -> list[int]:
    """Returns the length of each part of the flat observation; each must be a vector."""
    import gymnasium

    parts = {"observation": space}
    keys = spec.observation_keys or ("observation",)
    if isinstance(space, gymnasium.spaces.Dict):
        parts = dict(space.spaces)
    if bool(spec.observation_keys) != isinstance(space, gymnasium.spaces.Dict):
        raise UserError(
            f"environment {spec.env_id!r}: observation_keys are {spec.observation_keys}, but its "
            f"observations are {type(space).__name__} ({', '.join(parts)})"
        )
    sizes = []
    for key in keys:
        shape = parts[key].shape if key in parts else None
        if shape is None or len(shape) != 1:
            raise UserError(
                f"environment {spec.env_id!r} has no vector {key!r} in its observations "
                f"({', '.join(parts)})"
            )
        sizes.append(shape[0])
    return sizes
