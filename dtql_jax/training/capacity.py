"""How many members a device holds at once."""

import os
from pathlib import Path
from typing import Any

import jax

from dtql_jax.algorithms.base import Algorithm
from dtql_jax.types import Transition

# of a device's memory; the rest is for the allocator's gaps and for what is not counted here
_SHARE = 0.7
# Floats of activations and gradients for each row of a batch and each parameter column of a
# layer, over all the networks of a step: 40 layers of 256 units, forward and backward.
_FLOATS_PER_ROW = 2 * 40 * 256


def device_memory(device: Any) -> int:
    """Bytes that a device may use: its own memory, or a CPU device's share of the machine's."""
    try:
        stats = device.memory_stats() or {}
    except (NotImplementedError, jax.errors.JaxRuntimeError):
        stats = {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
        total = 1024 * int(lines["MemAvailable"].split()[0])
    else:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return total // len(jax.local_devices())


def member_bytes(algorithm: Algorithm, sample: Transition, batch_size: int) -> int:
    """Bytes of one member under training: its state twice, gradients, and a batch's activations.

    `sample` is any transitions of the sizes O and A.
    """
    state = jax.eval_shape(algorithm.init, jax.eval_shape(lambda: jax.random.key(0)), sample)
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
    return 3 * size + 4 * batch_size * _FLOATS_PER_ROW


def members_that_fit(
    algorithm: Algorithm, sample: Transition, batch_size: int, data_bytes: int
) -> int:
    """Members that the devices of this process hold together, at least one a device.

    `data_bytes` are those of the dataset, which every device holds once.
    """
    devices = jax.local_devices()
    free = _SHARE * device_memory(devices[0]) - data_bytes
    return len(devices) * max(1, int(free // member_bytes(algorithm, sample, batch_size)))
