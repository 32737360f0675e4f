"""Tables: cells, pipes and wrong rows."""

import math

import pytest

from dtql_jax.commands.tables import table


def test_cells_of_every_kind() -> None:
    row = ["a|b", 1234567, 0.123456, True, None, math.nan]
    lines = table(["a", "b", "c", "d", "e", "f"], [row]).splitlines()
    assert [cell.strip() for cell in lines[2].split(" | ")] == [
        *("| a\\|b", "1,234,567", "0.1235", "yes", "-", "-   |"),
    ]
    assert len({len(line) for line in lines}) == 1


def test_an_empty_table_has_its_heads() -> None:
    assert table(["task", "score"], []).splitlines() == ["| task | score |", "| ---- | ----- |"]


def test_wrong_tables() -> None:
    with pytest.raises(ValueError, match="1 cells; expected 2"):
        table(["a", "b"], [["x"]])
