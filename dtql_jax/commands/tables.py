"""Markdown tables, for every command and study."""

import math
from collections.abc import Iterable, Sequence
from typing import Any


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Returns a Markdown table, padded so that it reads well as plain text.

    Args:
      columns: titles of the columns.
      rows: one sequence of cells for each row, formatted by `cell_text`.

    Raises:
      ValueError: a row has another length than `columns`.

    >>> rows = [["DTQL", plus_minus(94.8, 1.0), 5], ["BC", 3.0, None]]
    >>> print(table(["method", "score", "seeds"], rows))
    | method | score      | seeds |
    | ------ | ---------- | ----- |
    | DTQL   | 94.8 ± 1.0 | 5     |
    | BC     | 3          | -     |
    """
    lines = [list(columns)]
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"row {row} has {len(row)} cells; expected {len(columns)}")
        lines.append([cell_text(cell).replace("|", "\\|").replace("\n", " ") for cell in row])
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def cell_text(cell: Any) -> str:
    """Formats a cell.

    Floats get up to 4 digits, ints commas, bools "yes" or "no"; None and non-finite numbers are
    "-", and text stays as it is.
    """
    if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def plus_minus(mean: float | None, error: float | None = None, digits: int = 1) -> str:
    """Formats a mean and its standard error, which is left out where it is unknown.

    >>> plus_minus(94.83, 1.02), plus_minus(94.83), plus_minus(None)
    ('94.8 ± 1.0', '94.8', '-')
    """
    if mean is None or not math.isfinite(mean):
        return "-"
    known = error is not None and math.isfinite(error)
    return f"{mean:.{digits}f}" + (f" ± {error:.{digits}f}" if known else "")
