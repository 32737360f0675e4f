"""A fixture for the tests of real commands."""

import os

import pytest


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A machine of its own: no dataset, no cache but that of compiled programs."""
    home = tmp_path_factory.mktemp("home")
    own = {"MINARI_DATASETS_PATH": str(home / "minari"), "DTQL_JAX_CACHE": str(home / "cache")}
    # XLA's compiler says on stderr where a busy machine makes it wait
    return os.environ | own | {"TF_CPP_MIN_LOG_LEVEL": "3"}
