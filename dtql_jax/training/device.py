"""Where the computation runs, and the cache of compiled programs."""

import contextlib
import os
from pathlib import Path
from typing import Any

import jax

CORES = "DTQL_JAX_CORES"  # most CPU cores of this process, for jobs that share a machine
_TIMEOUT = "xla_cpu_collective_call_terminate_timeout_seconds"


def cache_folder() -> Path:
    """$DTQL_JAX_CACHE, or ~/.cache/dtql_jax: flattened datasets and compiled programs."""
    return Path(os.environ.get("DTQL_JAX_CACHE") or Path.home() / ".cache" / "dtql_jax")


def enable_compilation_cache() -> None:
    """Keeps compiled programs in <cache>/xla, unless JAX has another folder already."""
    config: Any = jax.config  # its options are attributes without stubs
    if config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def use_cpu_cores() -> None:
    """Makes one CPU device for each core; together they are faster than one device of all cores.

    Call it before anything is computed. It changes nothing later, where XLA_FLAGS already has a
    number of devices, and on an accelerator.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "host_platform_device_count" not in flags:
        with contextlib.suppress(RuntimeError):  # the devices exist already
            jax.config.update("jax_num_cpu_devices", _cores())
    if _TIMEOUT not in flags:
        # one year: XLA would end the process when a core is a minute late, as after a sleep
        os.environ["XLA_FLAGS"] = f"{flags} --{_TIMEOUT}=31536000".strip()


def _cores() -> int:
    """Number of cores that this process may use, at most $DTQL_JAX_CORES."""
    known = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    allowed = os.environ.get(CORES, "")
    return min(cores, max(1, int(allowed))) if allowed.isdigit() else cores


def describe_device() -> dict[str, Any]:
    """Describes the hardware, for the record of a score or a timing."""
    devices = jax.devices()
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "devices": len(devices),
        "cpu_cores": _cores(),
    } | ({"hosts": jax.process_count()} if jax.process_count() > 1 else {})
