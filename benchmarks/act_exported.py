"""Times single actions of an exported policy: the median and the slowest of many calls.

python -m benchmarks.act_exported policy.zip
"""

import os
import sys
import time

import jax
import numpy as np

import dtql_jax


def main() -> None:
    """Prints milliseconds a call of one action, compilation apart."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benchmarks.act_exported FILE")
    policy = dtql_jax.load_policy(sys.argv[1])
    observation = np.zeros(policy.observation_dim, np.float32)
    policy(observation)
    times = []
    for seed in range(2_000):
        began = time.perf_counter()
        policy(observation, seed)
        times.append(1e3 * (time.perf_counter() - began))
    low, middle, high = np.percentile(times, [5, 50, 99])
    device = jax.devices()[0].device_kind
    about = policy.metadata
    print(
        f"{about.get('algorithm')} {about.get('acting')}, O {policy.observation_dim}, "
        f"A {policy.action_dim}, on {device} (load {os.getloadavg()[0]:.1f}): "
        f"median {middle:.3f} ms, 5 % {low:.3f} ms, 99 % {high:.3f} ms an action"
    )


if __name__ == "__main__":
    main()
