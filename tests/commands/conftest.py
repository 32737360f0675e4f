import pytest


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables of a machine without datasets and caches, except that of compiled programs."""
    home = tmp_path_factory.mktemp("home")
    return {
        "MINARI_DATASETS_PATH": str(home / "minari"),
        "DTQL_JAX_CACHE": str(home / "cache"),
        "HOME": str(home),
        "PYTHONWARNINGS": "error::DeprecationWarning:dtql",
    }
