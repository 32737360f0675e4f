"""What is said of files that cannot be written: once, until all of them can be again."""

from collections.abc import Callable

_NEVER = -1  # the number of no checkpoint; None: no checkpoint is whole


class Trouble:
    """The warnings of a run whose disk is full or whose folder cannot be written."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        """`warn` receives one line."""
        self._warn, self._said = warn, False
        self._rows_kept = False
        self._failed_at: int | None = _NEVER  # the newest whole checkpoint when a save failed

    def rows(self, problem: str, newest: int | None) -> None:
        """Takes down whether rows are kept back.

        Args:
          problem: why; "" where all rows are written.
          newest: number of the newest whole checkpoint; None: there is none.
        """
        self._rows_kept = bool(problem)
        self._forget(newest)
        if problem:
            self._say(problem, newest)

    def checkpoint(self, problem: str, newest: int | None) -> None:
        """Takes down that a checkpoint could not be written; arguments as in `rows`."""
        self._forget(newest)
        self._failed_at = newest
        self._say(problem, newest)

    def _forget(self, newest: int | None) -> None:
        """The trouble is over when no row is kept back and a newer checkpoint is whole."""
        if newest != self._failed_at:
            self._failed_at = _NEVER
        if not self._rows_kept and self._failed_at == _NEVER:
            self._said = False

    def _say(self, problem: str, newest: int | None) -> None:
        if self._said:
            return
        self._said = True
        whole = "no checkpoint is whole yet" if newest is None else f"checkpoint {newest} is whole"
        self._warn(f"{problem}; training goes on, rows are kept until they can be written, {whole}")
