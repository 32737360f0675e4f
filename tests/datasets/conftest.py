"""Every test has stores of its own and no network."""

import pytest


@pytest.fixture(autouse=True)
def own_stores(tmp_path, monkeypatch):
    for name in ("D4RL_DATASET_DIR", "D4RL_BASE_URL", "MINARI_REMOTE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("DTQL_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def lines():
    """A list that works as `report`: lines(text) appends."""

    class Lines(list):
        __call__ = list.append

    return Lines()
