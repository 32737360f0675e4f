"""Progress and messages of a command: a live bar in a terminal, one line a minute elsewhere.

Everything goes to stderr, so that stdout has only results.
"""

import atexit
import sys
import threading
from collections.abc import Iterable, Mapping
from typing import Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Task, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

LINE_EVERY = 60.0  # seconds between lines where the output is no terminal
DUMB_EVERY = 10.0  # seconds between lines in a terminal that cannot move its cursor


class Progress:
    """Shows the progress of one command. Use it as a context, so that the terminal is restored.

    with Progress() as display:
        display.about("dtql on pointmaze-umaze", "1 x cpu")
        display.start("train", total=1000)
        display.advance(10)
    """

    def __init__(
        self, quiet: bool = False, verbose: bool = False, console: Console | None = None
    ) -> None:
        """Shows nothing yet.

        Args:
          quiet: only warnings and results.
          verbose: details too, and lines instead of the live bar.
          console: where to write; by default stderr, never a notebook's widgets.
        """
        self._quiet, self._verbose = quiet, verbose and not quiet
        self._console = console or Console(
            file=sys.stderr, soft_wrap=True, highlight=False, force_jupyter=False
        )
        terminal = self._console.is_terminal and not self._console.is_dumb_terminal
        self._bars = _Bars(self._console if terminal and not verbose else None)
        self._lines: threading.Thread | None = None
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def say(self, message: str) -> None:
        """Prints one line."""
        if not self._quiet:
            self.result(message)

    def detail(self, message: str) -> None:
        """Prints one line if details are wanted."""
        if self._verbose:
            self._console.print(message, style="dim", markup=False)

    def result(self, message: str) -> None:
        """Prints one line, even when quiet."""
        self._console.print(message, markup=False)

    def warn(self, message: str) -> None:
        """Prints one line of warning, even when quiet."""
        self._console.print(f"warning: {message}", style="yellow", markup=False)

    def about(self, title: str, *facts: str) -> None:
        """Names the run: algorithm and task, then source, members, device. Forgets its scores."""
        self._bars.head = [title, *facts]
        self._bars.scores, self._bars.losses = {}, {}

    def start(
        self, phase: str, total: int | None = None, done: int = 0, unit: str = "updates"
    ) -> None:
        """Starts a phase of `total` units (None: unknown), `done` of them already made."""
        self._bars.begin(phase, total, done, unit)
        if self._quiet or self._bars.live.is_started or self._lines is not None:
            return
        self._closed.clear()
        if self._bars.shown:
            self._bars.start()
            atexit.register(self.close)
        else:
            self._lines = threading.Thread(target=self._say_lines, daemon=True)
            self._lines.start()

    def advance(self, done: int, total: int | None = None) -> None:
        """Sets how many units of the phase are made, and their total where that was unknown."""
        task = self._bars.task
        if task is not None:
            # without a total, update would keep the earlier one
            self._bars.update(task.id, completed=done, total=total or task.total)

    def stop(self) -> None:
        """Ends a phase."""
        self._bars.begin("working", None, 0, "")

    def score(self, score: float, update: int) -> None:
        """Shows the newest score and the best one."""
        best = self._bars.scores.get("best", (score, update))
        best = (score, update) if score > best[0] else best
        self._bars.scores = {"last": (score, update), "best": best}

    def metrics(self, values: Mapping[str, float], update: int) -> None:
        """Shows the losses among the newest metrics, and all metrics as a detail."""
        self._bars.losses = {n: v for n, v in values.items() if n.endswith("_loss")}
        words = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        self.detail(f"update {update:,}: {words}")

    def _say_lines(self) -> None:
        every = DUMB_EVERY if self._console.is_terminal else LINE_EVERY
        while not self._closed.wait(every):
            self.say(self._bars.line())

    def close(self) -> None:
        """Removes the live bar; printed lines stay. May be called twice."""
        self._closed.set()
        if self._bars.live.is_started:
            self._bars.stop()
            atexit.unregister(self.close)
        if self._lines is not None:
            lines, self._lines = self._lines, None
            lines.join()


class _Bars(Bars):
    """One bar below a head, with scores and losses; or, without a console, only its numbers."""

    def __init__(self, console: Console | None) -> None:
        self.head: list[str] = []
        self.scores: dict[str, tuple[float, int]] = {}
        self.losses: dict[str, float] = {}
        self.task: Task | None = None
        self.shown = console is not None
        super().__init__(
            TextColumn("[bold cyan]{task.description}"),
            BarColumn(bar_width=None),
            _Facts(""),
            console=console or Console(quiet=True),
            refresh_per_second=4.0,
            transient=True,
            expand=True,
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
        )

    def begin(self, phase: str, total: int | None, done: int, unit: str) -> None:
        """Replaces the task by a new one."""
        for task in self.task_ids:
            self.remove_task(task)
        self.add_task(phase, total=total, completed=done, unit=unit)
        self.task = self.tasks[0]

    def get_renderables(self) -> Iterable[RenderableType]:
        """The rows of the live view."""
        yield Text(" · ".join(self.head), style="bold")
        yield self.make_tasks_table(self.tasks)
        words = [f"{name} {score:.1f} at {at:,}" for name, (score, at) in self.scores.items()]
        if words:
            yield Text("score " + " · ".join(words))
        losses = [f"{n.removesuffix('_loss')} {x:.3g}" for n, x in self.losses.items()]
        if losses:
            yield Text("losses " + " · ".join(losses).replace("_", " "))

    def line(self) -> str:
        """The progress in one line."""
        task = self.task
        words = [] if task is None else [f"{task.description}: {facts(task)}"]
        if "last" in self.scores:
            words.append(f"last score {self.scores['last'][0]:.1f}")
        return ", ".join(words)


class _Facts(TextColumn):
    """Count, rate and remaining time of a task."""

    def render(self, task: Task) -> Text:
        return Text(facts(task))


def facts(task: Task) -> str:
    """Count, rate and remaining time of a task, as far as known."""
    if task.total is None:
        return duration(task.elapsed or 0.0)
    unit = task.fields["unit"]
    words = [f"{task.completed:,.0f}/{task.total:,.0f} {unit}".strip()]
    if task.speed:
        words.append(f"{number(task.speed)} {unit}/s")
    if task.time_remaining and not task.finished:
        words.append(f"{duration(task.time_remaining)} left")
    return ", ".join(words)


def number(value: float) -> str:
    """A positive number in about three digits.

    >>> number(0.0123), number(4.26), number(45.12), number(5123.4)
    ('0.012', '4.3', '45', '5,123')
    """
    if value >= 10:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 0.1 else f"{value:.2g}"


def duration(seconds: float) -> str:
    """A length of time in words.

    >>> duration(45), duration(200), duration(126_600)
    ('45 s', '3 min 20 s', '35 h 10 min')
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
