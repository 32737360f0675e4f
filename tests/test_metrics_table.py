"""docs/metrics.md names every metric that is logged, and none that is not."""

import functools
import re
from pathlib import Path

import jax
import pytest

from dtql_jax.algorithms import ALGORITHMS, make_algorithm
from dtql_jax.plots import curves
from dtql_jax.training.logging import EVALUATION_FIELDS, METRIC_KEYS
from tests.algorithms import small

TABLE = Path(__file__).parents[1] / "docs" / "metrics.md"


def rows(heading: str) -> dict[str, list[str]]:
    """name -> the other cells of the table below a heading."""
    section = TABLE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = re.findall(r"^\| `([^`]+)` \|(.*)\|$", section, flags=re.M)
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in lines}


@functools.cache
def logged(name: str) -> set[str]:
    """The metrics of an algorithm's two steps."""
    batch = small.batch(2)
    found: set[str] = set()
    # the one-step policy without a density has other metrics
    for changes in ({}, {"gamma": 1.0}) if name == "dtql" else ({},):
        algorithm = make_algorithm(name, small.settings(name, **changes))
        state = jax.eval_shape(algorithm.init, jax.random.key(0), batch)
        for step in (algorithm.pretrain_step, algorithm.train_step):
            found |= set(jax.eval_shape(step, state, batch, jax.random.key(0))[1])
    return found


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_metric_is_in_the_table(name: str) -> None:
    table = rows("Training")
    listed = {metric for metric, cells in table.items() if name in cells[1].split(", ")}
    assert listed == logged(name)
    assert all(cells[0] and cells[2] for cells in table.values())


def test_every_column_is_in_the_tables() -> None:
    keys = {*METRIC_KEYS, *EVALUATION_FIELDS} - set(rows("Evaluation"))
    assert set(rows("Columns that name a row")) == keys
    assert set(rows("Evaluation")) < set(EVALUATION_FIELDS)
    known = {name for algorithm in ALGORITHMS for name in logged(algorithm)}
    assert set(rows("Training")) == known


def test_figures_have_the_units_of_the_table() -> None:
    units = {name: cells[0].replace("^2", "²") for name, cells in rows("Training").items()}
    named = {name: unit for name, unit in units.items() if unit in ("reward", "reward²", "nats")}
    assert named == curves.UNITS
