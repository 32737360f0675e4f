"""Where the computation runs, and the cache of compiled programs."""

import contextlib
import os
from pathlib import Path
from typing import Any

import jax

CORES = "DTQL_JAX_CORES"  # set for jobs that share a machine without being kept apart by it
_PATIENCE = "xla_cpu_collective_call_terminate_timeout_seconds"


def cache_folder() -> Path:
    """$DTQL_JAX_CACHE, or ~/.cache/dtql_jax: flattened datasets and compiled programs."""
    return Path(os.environ.get("DTQL_JAX_CACHE") or Path.home() / ".cache" / "dtql_jax")


def enable_compilation_cache() -> None:
    """Keeps compiled programs in <cache>/xla, unless JAX was told another folder already."""
    config: Any = jax.config  # its options are attributes that no stub knows
    if config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def use_cpu_cores() -> None:
    """Makes one CPU device of each core, which together are faster than one over all cores.

    To be called before anything is computed; later, where XLA_FLAGS names a number already, and
    where JAX runs on an accelerator, it changes nothing.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "host_platform_device_count" not in flags:
        with contextlib.suppress(RuntimeError):  # the devices are there already
            jax.config.update("jax_num_cpu_devices", _cores())
    if _PATIENCE not in flags:
        # a year. XLA ends the process where a core that others wait for is late by a minute, as
        # after a night in which the machine slept
        os.environ["XLA_FLAGS"] = f"{flags} --{_PATIENCE}=31536000".strip()


def _cores() -> int:
    """Cores that this process may use: $DTQL_JAX_CORES at most."""
    known = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    allowed = os.environ.get(CORES, "")
    return min(cores, max(1, int(allowed))) if allowed.isdigit() else cores


def describe_device() -> dict[str, Any]:
    """What a score or a timing was made on."""
    devices = jax.devices()
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "devices": len(devices),
        "cpu_cores": _cores(),
    } | ({"hosts": jax.process_count()} if jax.process_count() > 1 else {})
