"""What is said of files that cannot be written: once, until all of them can be again."""

from collections.abc import Callable

_ENOUGH = 2  # checkpoints whole in a row, after one that failed: a disk with room for every second
# one would have a warning for each of the others


class Trouble:
    """The warnings of a run whose disk is full or whose folder cannot be written."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        """`warn` receives one line."""
        self._warn, self._said = warn, False
        self._rows_kept = False
        self._newest: int | None = None  # whole checkpoint; None: there is none
        self._wanted = 0  # more whole checkpoints until saving works again

    def rows(self, problem: str, newest: int | None) -> None:
        """Takes down whether rows are kept back.

        Args:
          problem: why; "" where all rows are written.
          newest: number of the newest whole checkpoint; None: there is none.
        """
        self._rows_kept = bool(problem)
        self._see(newest)
        if problem:
            self._say(problem)

    def checkpoint(self, problem: str, newest: int | None) -> None:
        """Takes down that a checkpoint could not be written; arguments as in `rows`."""
        self._see(newest)
        self._wanted = _ENOUGH
        self._say(problem)

    def _see(self, newest: int | None) -> None:
        """The trouble is over when no row is kept back and checkpoints are whole again."""
        if newest != self._newest:
            self._newest, self._wanted = newest, max(self._wanted - 1, 0)
        if not self._rows_kept and not self._wanted:
            self._said = False

    def _say(self, problem: str) -> None:
        if self._said:
            return
        self._said, newest = True, self._newest
        whole = "no checkpoint is whole yet" if newest is None else f"checkpoint {newest} is whole"
        self._warn(f"{problem}; training goes on, rows are kept until they can be written, {whole}")
