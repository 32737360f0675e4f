"""Runs a DTQL policy with numpy alone, from the weights that `make export` writes.

    make export RUN=runs/mine ARGS=--npz
    python examples/act_with_numpy.py runs/mine/policy.npz

A controller without JAX needs the 20 lines of `gaussian` and `act`; `q` is for those that choose
among several candidates by the critics, as the paper does. (BC's Gaussian is the same network.)
"""

import json
import sys

import numpy as np


def gaussian(weights, observations):
    """Mean and log standard deviation before the tanh, each [..., A]."""
    x = observations
    for i in range(3):
        x = np.maximum(
            x @ weights[f"policy/dense_{i}/kernel"] + weights[f"policy/dense_{i}/bias"], 0
        )
    x = x @ weights["policy/dense_3/kernel"] + weights["policy/dense_3/bias"]
    mean, log_std = np.split(x, 2, axis=-1)
    return mean, np.clip(log_std, -5.0, 2.0)


def act(weights, observations, noise, max_action=1.0):
    """One draw of the one-step policy: observations [..., O], noise [..., A] -> [..., A]."""
    mean, log_std = gaussian(weights, observations)
    return max_action * np.tanh(mean + np.exp(log_std) * noise)


def q(weights, observations, actions):
    """min(Q1, Q2) of the target critics: [..., O], [..., A] -> [...]."""
    both = []
    for critic in range(2):
        own = {
            name.removeprefix("target_critics/q/"): array[critic]
            for name, array in weights.items()
            if name.startswith("target_critics/q/")
        }
        x = np.concatenate([observations, actions], axis=-1)
        for i in range(3):
            x = x @ own[f"dense_{i}/kernel"] + own[f"dense_{i}/bias"]
            x = x - x.mean(axis=-1, keepdims=True)
            x = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-5)
            x = x * own[f"norm_{i}/scale"] + own[f"norm_{i}/bias"]
            x = x * np.tanh(np.logaddexp(x, 0.0))  # Mish
        both.append((x @ own["dense_3/kernel"] + own["dense_3/bias"])[..., 0])
    return np.minimum(*both)


def act_best(weights, observation, noise, max_action=1.0):
    """The best of N draws by the critics: observation [O], noise [N, A] -> [A]."""
    observations = np.broadcast_to(observation, (len(noise), len(observation)))
    actions = act(weights, observations, noise, max_action)
    return actions[np.argmax(q(weights, observations, actions))]


def read(path):
    """(weights by name, metadata) of a file."""
    with np.load(path, allow_pickle=False) as file:
        weights = {name: file[name] for name in file.files if name != "metadata"}
        return weights, json.loads(str(file["metadata"]))


def main():
    """Acts on a random observation."""
    weights, metadata = read(sys.argv[1])
    settings = metadata["settings"]
    if settings.get("policy") != "gaussian":
        sys.exit(f"this example runs DTQL's Gaussian policy, not that of {metadata['algorithm']}")
    rng = np.random.default_rng(0)
    observation = rng.standard_normal(metadata["observation_dim"]).astype(np.float32)
    noise = rng.standard_normal((64, metadata["action_dim"])).astype(np.float32)
    print(f"{metadata['task']}, seed {metadata['seed']}, update {metadata['update']}")
    print("one draw:   ", act(weights, observation, noise[0], settings["max_action"]))
    if "target_critics/q/dense_0/kernel" in weights:
        print("best of 64: ", act_best(weights, observation, noise, settings["max_action"]))


if __name__ == "__main__":
    main()
