"""What is known of a run while it goes, and how it looks: a panel of a few rows, or one line."""

import dataclasses
import time
from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

LABEL = 9  # columns of the words at the left
WIDEST = 100  # columns; a wider terminal gets no wider panel


@dataclasses.dataclass
class View:
    """A run as its user sees it. Times are seconds of `time.monotonic`.

    Attributes:
      title: algorithm and task.
      facts: source of the data, members, device.
      phase: start, data, compile, pretrain, train, evaluate, ...
      unit: of `done` and `total`.
      total: units of the phase; None: not known.
      done: units that are behind.
      first: units that were behind when the phase began.
      rate: units a second, measured at the last progress; 0: not known.
      last: the newest score and its update.
      best: the highest score and its update.
      losses: means over the newest row of the log and all members.
      began: time of the run's start.
      phase_began: time of the phase's start.
    """

    title: str = ""
    facts: tuple[str, ...] = ()
    phase: str = "start"
    unit: str = ""
    total: int | None = None
    done: int = 0
    first: int = 0
    rate: float = 0.0
    last: tuple[float, int] | None = None
    best: tuple[float, int] | None = None
    losses: dict[str, float] = dataclasses.field(default_factory=dict)
    began: float = dataclasses.field(default_factory=time.monotonic)
    phase_began: float = dataclasses.field(default_factory=time.monotonic)

    def start(self, phase: str, total: int | None, done: int, unit: str) -> None:
        """Begins a phase."""
        self.phase, self.total, self.unit = phase, total, unit
        self.done = self.first = done
        self.rate, self.phase_began = 0.0, time.monotonic()

    def advance(self, done: int) -> None:
        """Measures the rate of a phase at its progress."""
        self.done = done
        elapsed = time.monotonic() - self.phase_began
        self.rate = (done - self.first) / elapsed if elapsed > 0 else 0.0

    def score(self, score: float, update: int) -> None:
        """Takes down a score."""
        self.last = (score, update)
        if self.best is None or score > self.best[0]:
            self.best = self.last

    def left(self) -> float | None:
        """Seconds that the phase will still take; None where the start says too little of it."""
        if self.total is None or self.rate <= 0:
            return None
        sure = (self.done - self.first) * 20 >= self.total - self.first
        return (self.total - self.done) / self.rate if sure else None

    def progress(self, now: float) -> list[str]:
        """How far the phase is, in words: count, rate and remaining time, as far as known."""
        if self.total is None:
            return [duration(now - self.phase_began)]
        words = [f"{self.done:,}/{self.total:,} {self.unit}".strip()]
        if self.rate > 0:
            words.append(f"{number(self.rate)} {self.unit}/s")
        left = self.left()
        if left is not None and self.done < self.total:
            words.append(f"{duration(left)} left")
        return words


def line(view: View, now: float) -> str:
    """The state of a run in one line.

    >>> view = View(began=0.0, phase_began=0.0)
    >>> view.start("evaluate", 10, 0, "episodes")
    >>> view.done, view.rate = 4, 0.5
    >>> line(view, 8.0)
    'evaluate: 4/10 episodes, 0.5 episodes/s, 12 s left'
    """
    words = view.progress(now)
    if view.last is not None:
        words.append(f"last score {view.last[0]:.1f}")
    return f"{view.phase}: {', '.join(words)}"


def panel(view: View, now: float, width: int) -> RenderableType:
    """The state of a run in a few rows that fit into `width` columns."""
    width = min(width, WIDEST) - 2
    room = max(width - LABEL - 1, 10)
    rows = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
    rows.add_column(width=LABEL, no_wrap=True, style="dim")
    rows.add_column(width=room)
    phase = Text(view.phase, style="bold cyan")
    far = _flow(view.progress(now), room)
    if view.total is None:
        rows.add_row(phase, far)
    else:
        rows.add_row(phase, _bar(view, min(room, 60)))
        rows.add_row("", far)
    if view.last is not None and view.best is not None:
        named = (("last", view.last), ("best", view.best))
        rows.add_row("score", _flow((f"{name} {s:.1f} at {at:,}" for name, (s, at) in named), room))
    if view.losses:
        named_losses = ((n.removesuffix("_loss"), x) for n, x in view.losses.items())
        words = (f"{name.replace('_', ' ')} {x:.3g}" for name, x in named_losses)
        rows.add_row("losses", _flow(words, room))
    head = _flow([view.title or "dtql-jax"], width)
    head.stylize("bold")
    facts = _flow([*view.facts, duration(now - view.began)], width)
    facts.stylize("dim")
    return Padding(Group(head, facts, rows), (1, 1, 0, 1))


def _bar(view: View, width: int) -> ProgressBar:
    return ProgressBar(
        total=max(view.total or 1, 1),
        completed=view.done,
        width=width,
        style="bright_black",
        complete_style="cyan",
        finished_style="cyan",
    )


def _flow(words: Iterable[str], width: int) -> Text:
    """Words with dots between, in lines that break between words."""
    lines: list[str] = []
    for word in words:
        longer = f"{lines[-1]} · {word}" if lines else word
        if lines and len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return Text("\n".join(lines))


def number(value: float) -> str:
    """A positive number in about three digits.

    >>> number(0.0123), number(4.26), number(45.12), number(5123.4)
    ('0.012', '4.3', '45', '5,123')
    """
    if value >= 10:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 0.1 else f"{value:.2g}"


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
