"""Fixtures of the studies' tests."""

import pytest


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables of a machine without datasets and caches."""
    home = tmp_path_factory.mktemp("home")
    folders = {"MINARI_DATASETS_PATH": "minari", "DTQL_JAX_CACHE": "cache", "HOME": "."}
    return {name: str(home / folder) for name, folder in folders.items()}
