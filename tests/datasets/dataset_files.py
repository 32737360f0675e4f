"""Datasets in the real formats, written by the tests themselves."""

import warnings

import gymnasium
import h5py
import minari
import numpy as np
from minari.data_collector.episode_buffer import EpisodeBuffer

from dtql_jax.envs.make import register


def write_minari(dataset_id, env_id, episodes, env_spec=True, **kwargs):
    """Writes a Minari dataset into the store; keyword arguments go to `gymnasium.make`."""
    register(env_id)
    env = gymnasium.make(env_id, **kwargs)
    buffers = [
        EpisodeBuffer(
            id=number,
            observations=episode["observations"],
            actions=episode["actions"],
            rewards=list(episode["rewards"]),
            terminations=list(episode["terminations"]),
            truncations=list(episode["truncations"]),
        )
        for number, episode in enumerate(episodes)
    ]
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        minari.create_dataset_from_buffers(
            dataset_id, buffers, env=env.spec if env_spec else None, **spaces
        )
    env.close()


def random_episode(rng, steps, widths, action_dim, terminated=False):
    """An episode with float64 observations; `widths`: a number, or {key: number}."""
    if isinstance(widths, dict):
        observations = {key: rng.normal(size=(steps + 1, size)) for key, size in widths.items()}
        if "desired_goal" in observations:
            observations["desired_goal"][:] = observations["desired_goal"][0]
    else:
        observations = rng.normal(size=(steps + 1, widths))
    last = np.arange(steps) == steps - 1
    return {
        "id": 0,
        "observations": observations,
        "actions": rng.uniform(-1, 1, size=(steps, action_dim)).astype(np.float32),
        "rewards": rng.normal(size=steps),
        "terminations": last & terminated,
        "truncations": last & (not terminated),
    }


def d4rl_columns(rng, terminals, timeouts, observation_dim=11, action_dim=3):
    """Columns of a D4RL file with given ends; `timeouts` None leaves them out."""
    rows = len(terminals)
    columns = {
        "observations": rng.normal(size=(rows, observation_dim)).astype(np.float32),
        "actions": rng.uniform(-1, 1, size=(rows, action_dim)).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "terminals": np.asarray(terminals, bool),
    }
    if timeouts is not None:
        columns["timeouts"] = np.asarray(timeouts, bool)
    return columns


def write_d4rl(path, columns):
    """Writes a file in D4RL's layout."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, column in columns.items():
            file[key] = column
    return path


def policy_arrays(rng, inputs, actions, hidden=8, squash="tanh", activation="relu"):
    """Arrays of a random behaviour policy, in the layout of `datasets.policies`."""
    sizes = {
        "dense_0": (inputs, hidden),
        "dense_1": (hidden, hidden),
        "mean": (hidden, actions),
        "log_std": (hidden, actions),
    }
    arrays = {"meta/activation": np.array(activation), "meta/squash": np.array(squash)}
    for name, shape in sizes.items():
        arrays[f"{name}/kernel"] = rng.normal(size=shape).astype(np.float32) / np.sqrt(shape[0])
        arrays[f"{name}/bias"] = rng.normal(size=shape[1]).astype(np.float32)
    return arrays


def write_policy(path, arrays):
    """Writes a policy file; returns its path as text, as a command line has it."""
    np.savez(path, **arrays)
    return str(path)
