"""Tables as Markdown or HTML, for every command and study."""

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], style: str = "markdown") -> str:
    """Formats a table.

    Args:
      columns: heads of the columns.
      rows: one sequence of cells for each row, as long as `columns`. A cell is text, which is
        kept; a float, written with up to 4 digits; an int, with commas between thousands; a bool,
        "yes" or "no"; or None (or a float that is not finite), written as "-".
      style: "markdown", padded so that it also reads well as plain text, or "html", a <table>
        whose text is escaped.

    Returns:
      the lines of the table, without a newline at the end.

    Raises:
      ValueError: a row has another length, or the style is unknown.

    >>> rows = [["DTQL", plus_minus(94.8, 1.0), 5], ["BC", 3.0, None]]
    >>> print(table(["method", "score", "seeds"], rows))
    | method | score      | seeds |
    | ------ | ---------- | ----- |
    | DTQL   | 94.8 ± 1.0 | 5     |
    | BC     | 3          | -     |
    >>> table(["a"], [["x < y"]], style="html")
    '<table>\\n<tr><th>a</th></tr>\\n<tr><td>x &lt; y</td></tr>\\n</table>'
    """
    texts = [[cell_text(cell) for cell in row] for row in rows]
    for row in texts:
        if len(row) != len(columns):
            raise ValueError(f"row {row} has {len(row)} cells; expected {len(columns)}")
    if style == "html":
        return _html(columns, texts)
    if style == "markdown":
        return _markdown(columns, texts)
    raise ValueError(f"style is {style!r}; expected markdown or html")


def cell_text(cell: Any) -> str:
    """The text of one cell, as `table` describes it."""
    if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


def plus_minus(mean: float | None, error: float | None = None, digits: int = 1) -> str:
    """A mean and its standard error; the error is left out where it is unknown.

    >>> plus_minus(94.83, 1.02), plus_minus(94.83), plus_minus(None)
    ('94.8 ± 1.0', '94.8', '-')
    """
    if mean is None or not math.isfinite(mean):
        return "-"
    known = error is not None and math.isfinite(error)
    return f"{mean:.{digits}f}" + (f" ± {error:.{digits}f}" if known else "")


def _markdown(columns: Sequence[str], texts: Sequence[Sequence[str]]) -> str:
    lines = [[text.replace("|", "\\|").replace("\n", " ") for text in row] for row in texts]
    lines.insert(0, [str(column) for column in columns])
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def _html(columns: Sequence[str], texts: Sequence[Sequence[str]]) -> str:
    lines = [_html_row("th", columns), *(_html_row("td", row) for row in texts)]
    return "\n".join(["<table>", *lines, "</table>"])


def _html_row(tag: str, texts: Sequence[str]) -> str:
    cells = "".join(f"<{tag}>{html.escape(str(text))}</{tag}>" for text in texts)
    return f"<tr>{cells}</tr>"
