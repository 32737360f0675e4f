"""A file that grows: what a full disk refuses is written when there is room again."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dtql_jax.training.appended import Appended

ROOM = 200_000  # bytes; more than the tests' own output takes


@contextmanager
def full() -> Iterator[None]:
    """No file may grow beyond ROOM."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_records_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"head\n")
    file = Appended(path)
    records = [bytes([65 + i]) * 70_000 for i in range(4)]
    with full():
        for record in records:
            file.append(record)
            assert bool(file.problem) == (
                len(b"head\n") + 70_000 * (records.index(record) + 1) > ROOM
            )
        assert "File too large" in file.problem and str(path) in file.problem
        file.flush()
        assert file.problem
        # what is torn is no more than the last record
        assert path.read_bytes()[: 5 + 140_000] == b"head\n" + b"".join(records[:2])
    file.flush()
    assert file.problem == ""
    file.append(b"end")
    file.close()
    assert path.read_bytes() == b"head\n" + b"".join(records) + b"end"


def test_closing_tries_once_more(tmp_path: Path) -> None:
    file = Appended(tmp_path / "log")
    with full():
        file.append(bytes(2 * ROOM))
    file.close()
    file.close()
    assert file.problem == "" and (tmp_path / "log").stat().st_size == 2 * ROOM


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Appended(tmp_path / "nowhere" / "log")
