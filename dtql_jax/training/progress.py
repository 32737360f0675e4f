"""What a run says while it goes: a live view in a terminal, a line a minute elsewhere.

All of it goes to stderr, so that stdout stays free for results.
"""

import atexit
import contextlib
import sys
import threading
import time
from collections.abc import Mapping
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live

from dtql_jax.training.view import View, duration, line, panel

__all__ = ["Progress", "duration"]

LINE_EVERY = 60.0  # seconds between lines where the output is no terminal
DUMB_EVERY = 10.0  # seconds between lines in a terminal that cannot move its cursor
REFRESHES = 4.0  # a second, by a thread of its own: also while the main one compiles


class Progress:
    """Progress and messages of one command, from its first moment to its last.

    Use it as a context, so that the terminal is left as it was:

        with Progress() as display:
            display.about("dtql on pointmaze-umaze", "1 x cpu")
            display.start("train", total=1000)
            display.advance(10)
    """

    def __init__(
        self, quiet: bool = False, verbose: bool = False, console: Console | None = None
    ) -> None:
        """A display.

        Args:
          quiet: only warnings and results.
          verbose: details too, and lines rather than a live view.
          console: where to; by default stderr, never a notebook's widgets.
        """
        self._quiet, self._verbose = quiet, verbose and not quiet
        self._console = console or Console(
            file=sys.stderr, soft_wrap=True, highlight=False, force_jupyter=False
        )
        self._view = View()
        self._live: Live | None = None
        self._lines: threading.Thread | None = None
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------ lines

    def say(self, message: str) -> None:
        """One line."""
        if not self._quiet:
            self._print(message)

    def detail(self, message: str) -> None:
        """One line for those who asked for details."""
        if self._verbose:
            self._print(message, style="dim")

    def result(self, message: str) -> None:
        """One line, also where the display is quiet."""
        self._print(message)

    def warn(self, message: str) -> None:
        """One line of warning, also where the display is quiet."""
        self._print(f"warning: {message}", style="yellow")

    def _print(self, message: str, style: str | None = None) -> None:
        # a log on a full disk, or a terminal that is gone, ends no run
        with contextlib.suppress(OSError):
            self._console.print(message, style=style, markup=False)

    # ----------------------------------------------------------------------------------- phases

    def about(self, title: str, *facts: str) -> None:
        """Says what is run: algorithm and task, then source, members, device.

        What was shown of a run before it is forgotten.
        """
        self._view.title, self._view.facts = title, facts
        self._view.last = self._view.best = None
        self._view.losses = {}

    def start(
        self, phase: str, total: int | None = None, done: int = 0, unit: str = "updates"
    ) -> None:
        """Begins a phase of `total` units (None: nobody knows), of which `done` are behind."""
        self._view.start(phase, total, done, unit)
        self._open()

    def advance(self, done: int, total: int | None = None) -> None:
        """Says how far the phase is, and of how much where that was not known."""
        if total is not None:
            self._view.total = total
        self._view.advance(done)

    def stop(self) -> None:
        """Ends a phase; what comes next has not said its name yet."""
        self._view.start("working", None, 0, "")

    def score(self, score: float, update: int) -> None:
        """Shows a score as the last one, and as the best if it is."""
        self._view.score(score, update)

    def metrics(self, values: Mapping[str, float], update: int) -> None:
        """Shows the losses among the newest metrics; all of them where details are asked for."""
        self._view.losses = {n: v for n, v in values.items() if n.endswith("_loss")}
        words = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        self.detail(f"update {update:,}: {words}")

    # ---------------------------------------------------------------------------------- the view

    def _open(self) -> None:
        """Starts what shows the view, once."""
        if self._quiet or self._live is not None or self._lines is not None:
            return
        self._closed.clear()
        terminal = self._console.is_terminal
        if terminal and not self._console.is_dumb_terminal and not self._verbose:
            self._live = Live(
                console=self._console,
                get_renderable=self._panel,
                refresh_per_second=REFRESHES,
                transient=True,
                # where stdout is a file or a pipe, what is printed there stays there
                redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
            )
            self._live.start(refresh=True)
            atexit.register(self.close)
        else:
            every = DUMB_EVERY if terminal else LINE_EVERY
            self._lines = threading.Thread(target=self._say_lines, args=(every,), daemon=True)
            self._lines.start()

    def _panel(self) -> RenderableType:
        return panel(self._view, time.monotonic(), self._console.width)

    def _say_lines(self, every: float) -> None:
        while not self._closed.wait(every):
            self.say(line(self._view, time.monotonic()))

    def close(self) -> None:
        """Takes the view away; the lines stay. Harmless a second time."""
        self._closed.set()
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()
            atexit.unregister(self.close)
        if self._lines is not None:
            lines, self._lines = self._lines, None
            lines.join()
