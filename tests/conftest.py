"""What all tests share."""

import os
import tempfile
from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Compiled programs are shared between tests, which build the same ones again and again."""
    folder = Path(tempfile.gettempdir()) / f"dtql_jax_tests_xla_{os.getuid()}"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
