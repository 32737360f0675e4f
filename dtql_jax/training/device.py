"""Where the computation runs, and the cache of compiled programs."""

import os
from pathlib import Path
from typing import Any

import jax


def cache_folder() -> Path:
    """$DTQL_JAX_CACHE, or ~/.cache/dtql_jax: flattened datasets and compiled programs."""
    return Path(os.environ.get("DTQL_JAX_CACHE") or Path.home() / ".cache" / "dtql_jax")


def enable_compilation_cache() -> None:
    """Keeps compiled programs in <cache>/xla, unless JAX was told another folder already."""
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def describe_device() -> dict[str, Any]:
    """What a score or a timing was made on."""
    devices = jax.devices()
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "devices": len(devices),
        "cpu_cores": len(os.sched_getaffinity(0)),
    }
