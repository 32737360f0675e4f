"""How many cores a run takes."""

import os

import pytest

from dtql_jax.training import device


@pytest.mark.parametrize(("said", "expected"), [("1", 1), ("0", 1), ("100000", None), ("", None)])
def test_no_more_cores_than_allowed(
    said: str, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(device.CORES, said)
    found = device.describe_device()["cpu_cores"]
    assert found == (expected or len(os.sched_getaffinity(0)))
