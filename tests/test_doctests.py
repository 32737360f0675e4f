"""The examples in docstrings give what they say."""

import doctest
import importlib
import pkgutil

import dtql_jax
import dtql_jax.commands.reporting


def test_docstrings() -> None:
    tried: set[str] = set()
    for package in (dtql_jax, dtql_jax.commands.reporting):
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            module = importlib.import_module(found.name)
            result = doctest.testmod(module)
            assert result.failed == 0, found.name
            if result.attempted:
                tried.add(found.name)
    # a module whose examples are no longer found would pass as well
    assert tried >= {"dtql_jax.losses", "dtql_jax.evaluation.scores", "dtql_jax.datasets.own"}
