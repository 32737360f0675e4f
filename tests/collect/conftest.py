"""Every test has stores of its own and no network, as in tests/datasets."""

from tests.datasets.conftest import lines, own_stores

__all__ = ["lines", "own_stores"]
