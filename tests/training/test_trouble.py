"""A run says once that its files cannot be written, until that is over."""

import pytest

from dtql_jax.training.trouble import Trouble

ROWS, SAVED, FAILED = "rows", "saved", "failed"
# (what happens, number of the newest whole checkpoint then) -> warnings at the places of the list
CASES = [
    ([(ROWS, None), (ROWS, None)], [0]),
    ([(ROWS, 10), (FAILED, 10), (ROWS, 10), (FAILED, 10)], [0]),
    ([(FAILED, 10), (SAVED, 10), (FAILED, 10)], [0]),  # rows are written, checkpoints are not
    ([(FAILED, 10), (SAVED, 20), (FAILED, 20), (SAVED, 30), (FAILED, 30)], [0]),  # room for some
    ([(FAILED, 10), (SAVED, 20), (SAVED, 30), (FAILED, 30)], [0, 3]),
    ([(FAILED, None), (SAVED, 20), (ROWS, 20), (SAVED, 30), (ROWS, 30)], [0, 4]),
    ([(ROWS, 10), (SAVED, 10), (ROWS, 10)], [0, 2]),
    ([(ROWS, 10), (FAILED, 10), (SAVED, 10), (ROWS, 10)], [0]),
    ([(SAVED, None), (SAVED, 10)], []),
]


@pytest.mark.parametrize(("events", "expected"), CASES)
def test_once(events: list[tuple[str, int | None]], expected: list[int]) -> None:
    lines: list[str] = []
    trouble, said = Trouble(lines.append), []
    for place, (what, newest) in enumerate(events):
        before = len(lines)
        if what == FAILED:
            trouble.checkpoint("checkpoints cannot be written", newest)
        else:
            trouble.rows("metrics.csv cannot be written" * (what == ROWS), newest)
        said += [place] * (len(lines) - before)
    assert said == expected


def test_the_words() -> None:
    lines: list[str] = []
    Trouble(lines.append).rows("metrics.csv cannot be written: No space left on device", 300)
    Trouble(lines.append).checkpoint("checkpoints cannot be written: Permission denied", None)
    assert "No space left" in lines[0] and lines[0].endswith("checkpoint 300 is whole")
    assert lines[1].endswith("no checkpoint is whole yet")
