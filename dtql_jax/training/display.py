"""What a run says while it goes: a live bar in a terminal, a line now and then elsewhere."""

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_EVERY = 10.0  # seconds between lines where the output is no terminal


class Display:
    """Progress and messages, on stderr so that stdout stays free for results."""

    def __init__(self, quiet: bool = False) -> None:
        """A display; `quiet` leaves only warnings."""
        self._quiet = quiet
        self._console = Console(file=sys.stderr, soft_wrap=True, highlight=False)
        self._progress: Progress | None = None
        self._task: Any = None
        self._phase, self._total, self._done = "", 0, 0
        self._last_line = 0.0
        self.note = ""  # the last score, shown beside the bar

    def say(self, message: str) -> None:
        """One line."""
        if not self._quiet:
            self._console.print(message, markup=False)

    def warn(self, message: str) -> None:
        """One line, also where the display is quiet."""
        self._console.print(f"warning: {message}", style="yellow", markup=False)

    def start(self, phase: str, total: int, done: int = 0, unit: str = "updates") -> None:
        """Begins a phase of `total` units, of which `done` are behind already."""
        self.stop()
        self._phase, self._total, self._done = phase, total, done
        self._unit, self._began, self._first = unit, time.monotonic(), done
        self._last_line = time.monotonic()
        if self._quiet or not self._console.is_terminal:
            return
        self._progress = Progress(
            TextColumn("{task.description:>10}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            transient=True,
        )
        self._progress.start()
        self._task = self._progress.add_task(
            phase, total=total, completed=done, rate="", note=self.note
        )

    def advance(self, done: int) -> None:
        """Says how far the phase is."""
        self._done = done
        elapsed = time.monotonic() - self._began
        rate = (done - self._first) / elapsed if elapsed > 0 else 0.0
        text = f"{rate:,.1f} {self._unit}/s"
        if self._progress is not None:
            self._progress.update(self._task, completed=done, rate=text, note=self.note)
        elif not self._quiet and time.monotonic() - self._last_line > PLAIN_EVERY:
            self._last_line = time.monotonic()
            # the first few of many say little about the rest
            sure = rate > 0 and (done - self._first) * 20 >= self._total - self._first
            left = f", {duration((self._total - done) / rate)} left" if sure else ""
            note = f", {self.note}" if self.note else ""
            self.say(f"{self._phase} {done:,}/{self._total:,}, {text}{left}{note}")

    def stop(self) -> None:
        """Ends the phase's bar."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def duration(seconds: float) -> str:
    """A length of time as people say it.

    >>> duration(45), duration(200), duration(126_600)
    ('45 s', '3 min 20 s', '35 h 10 min')
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
