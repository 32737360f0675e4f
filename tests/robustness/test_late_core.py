"""The other cores wait for one that is late, as after the machine has slept."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from dtql_jax.training.data_parallel.rows import ROWS
from dtql_jax.training.device import use_cpu_cores

use_cpu_cores()
mesh = Mesh(np.array(jax.devices()[:2]), (ROWS,))


def late(device, x):
    if device == 1:
        time.sleep(75)  # XLA's own patience is 60 s
    return np.asarray(x)


def add_up(x):
    own = jax.ShapeDtypeStruct(x.shape, x.dtype)
    x = jax.pure_callback(late, own, jax.lax.axis_index(ROWS), x)
    return jax.lax.psum(x, ROWS)


rows, nothing = PartitionSpec(ROWS), PartitionSpec()
program = jax.shard_map(add_up, mesh=mesh, in_specs=rows, out_specs=nothing, check_vma=False)
assert jax.jit(program)(jnp.arange(4.0)).tolist() == [2.0, 4.0]
"""


@pytest.mark.slow
def test_a_core_that_is_late_is_waited_for() -> None:
    flags = "--xla_force_host_platform_device_count=2"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
