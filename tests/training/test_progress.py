"""The progress display: a bar that fits, lines without a terminal, a terminal left clean."""

import contextlib
import io
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console, Group

from dtql_jax.training import progress
from dtql_jax.training.progress import Progress

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("width", [40, 60, 200])
def test_the_live_view_fits(width: int) -> None:
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    shown = Progress(console=console)
    shown.about("dtql on pointmaze-umaze", "source generated", "1 x cpu")
    shown.start("train", 200)
    shown.advance(120)
    shown.score(100.0, 1000)
    shown.score(90.0, 1500)
    shown.close()
    console.file = io.StringIO()  # without the control codes of the live view
    shown.metrics({"critic_loss": 0.0123, "trust_region_loss": 1.2, "q_data": 3.0}, 1500)
    console.print(Group(*shown._bars.get_renderables()))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(len(row) for row in text.splitlines()) <= width
    flowing = " ".join(text.split())
    for words in ("dtql on pointmaze-umaze", "source generated", "last 90.0 at 1,500"):
        assert words in flowing
    for words in ("train", "best 100.0 at 1,000", "critic 0.0123", "trust region 1.2"):
        assert words in flowing
    assert "120/200" in flowing and "q data" not in flowing


def console() -> Console:
    return Console(file=io.StringIO(), width=80, force_terminal=False, soft_wrap=True)


def said(to: Console) -> list[str]:
    return to.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_lines_continue_while_nothing_advances(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0.01)
    to = console()
    with Progress(console=to) as shown:
        shown.start("evaluate", 10, unit="episodes")
        while len(said(to)) < 3:
            time.sleep(0.01)
    assert set(said(to)) == {"evaluate: 0/10 episodes"}


def test_a_run_does_not_show_the_scores_of_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0.01)
    to = console()
    with Progress(console=to) as shown:
        shown.start("train", 10)
        shown.score(67.0, 4000)
        while not any("last score 67.0" in line for line in said(to)):
            time.sleep(0.01)
        shown.about("the next run")
        before = len(said(to))
        while len(said(to)) < before + 3:
            time.sleep(0.01)
    # one line may have been printed in between
    assert not any("score" in line for line in said(to)[before + 1 :])


def test_quiet_and_verbose() -> None:
    expected = {
        (False, False): ["said", "warning: odd", "100.0"],
        (True, False): ["warning: odd", "100.0"],
        (False, True): [
            *("said", "detail", "update 5: q_data 2, td_loss 0.5"),
            *("warning: odd", "100.0"),
        ],
    }
    for (quiet, verbose), lines in expected.items():
        to = console()
        with Progress(quiet, verbose, to) as shown:
            shown.start("train", 10)
            shown.say("said")
            shown.detail("detail")
            shown.metrics({"q_data": 2.0, "td_loss": 0.5}, 5)
            shown.warn("odd")
            shown.result("100.0")
        assert said(to) == lines


PROGRAM = """
import sys, time
from dtql_jax.training.progress import Progress

with Progress() as display:
    display.about("dtql on nothing")
    display.start("train", 10)
    display.say("a line")
    print("on stderr", file=sys.stderr)
    time.sleep(0.5)
    raise KeyboardInterrupt
"""


def in_a_terminal(program: str = PROGRAM, **variables: str) -> str:
    """Returns what a program writes to a terminal that is its stdout and stderr."""
    ours, theirs = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    environment |= {"TERM": "xterm-256color", "COLUMNS": "60"} | variables
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=theirs, stderr=theirs, cwd=ROOT, env=environment
    ) as process:
        os.close(theirs)
        written = b""
        with contextlib.suppress(OSError):  # raised where the other end is closed
            while part := os.read(ours, 65536):
                written += part
        process.wait()
    os.close(ours)
    return written.decode()


def test_a_terminal_is_left_clean() -> None:
    text = in_a_terminal()
    assert "dtql on nothing" in text and "a line" in text and "on stderr" in text
    # the cursor is hidden once and shown again, and the live view is erased
    assert text.count("\x1b[?25l") == 1
    after = text.split("\x1b[?25h")[-1]
    assert "train" not in after and "KeyboardInterrupt" in after


def test_a_terminal_without_colour_or_cursor() -> None:
    coloured = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")
    assert coloured.search(in_a_terminal())
    assert not coloured.search(in_a_terminal(NO_COLOR="1"))
    dumb = in_a_terminal(TERM="dumb").split("Traceback")[0]
    assert "\x1b" not in dumb and "a line" in dumb


FIRST = """
import sys, time
from dtql_jax.commands import cli
from dtql_jax.errors import UserError

def define(argv):
    print("imported", sorted({"jax", "flax", "numpy.random", "gymnasium"} & set(sys.modules)))
    time.sleep(0.3)
    raise UserError("no such task")

cli.launch(lambda: 0, "", define, ["train"], live=True)
"""


def test_the_live_view_comes_before_the_heavy_imports() -> None:
    text = in_a_terminal(FIRST)
    before, after = text.split("\x1b[?25h")
    assert "\x1b[?25l" in before.split("imported []")[0]
    assert re.search("train.*start", before, re.DOTALL)
    assert re.sub("\x1b\\[[0-9;]*[A-Z]", "", after).split() == ["error:", "no", "such", "task"]
