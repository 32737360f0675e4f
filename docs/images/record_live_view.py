"""Makes live_view.png: the terminal of a real `dtql-jax train`, while it trains.

    python docs/images/record_live_view.py [FLAG OF dtql-jax train]...

Run it at the root of the repository. It starts the command in a terminal of its own (tmux),
captures the screen after the first evaluations, stops the run with Ctrl-C, and lets a browser
(chromium) draw what was captured.
"""

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

COLUMNS, ROWS = 92, 24
SCORES = 2  # evaluations before the screen is captured
PICTURE = Path(__file__).with_name("live_view.png")
SESSION = "record_live_view"
# a page of the terminal's colours around rich's own
STYLE = (
    "<style>body{margin:0;padding:14px 18px}pre{margin:0;font-size:15px;line-height:1.3}</style>"
)


def tmux(*arguments: str) -> str:
    """Runs tmux and returns its output."""
    command = ["tmux", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def screen(colours: bool = False) -> str:
    """Returns the terminal's text, without the empty rows at its end."""
    return tmux("capture-pane", "-p", "-t", SESSION, *(["-e"] * colours)).rstrip()


def record(flags: list[str]) -> str:
    """Runs the command until it has evaluated; returns the screen with its colours."""
    command = shlex.join([sys.executable, "-m", "dtql_jax", "train", *flags])
    tmux("new-session", "-d", "-s", SESSION, "-x", str(COLUMNS), "-y", str(ROWS), command)
    try:
        while True:
            time.sleep(0.5)
            shown = screen()
            # the progress is at the end of the screen, earlier lines above it
            trains = re.search(r"^\s*train\b.*\n.*updates/s.*left", shown, re.MULTILINE)
            if shown.count(": score ") >= SCORES and trains and "losses" in shown:
                return screen(colours=True)
    finally:
        tmux("send-keys", "-t", SESSION, "C-c")


def draw(shown: str, picture: Path) -> None:
    """Draws a screen with its colours."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("error: no chromium is installed; expected it, to draw the screen")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "view.html"
        console = Console(record=True, width=COLUMNS, file=(Path(folder) / "unused").open("w"))
        console.print(Text.from_ansi(shown))
        html = console.export_html(theme=MONOKAI, inline_styles=True)
        page.write_text(html.replace("</head>", STYLE + "</head>"))
        size = f"{int(COLUMNS * 9.03) + 36},{int((shown.count(chr(10)) + 2) * 19.5) + 28}"
        subprocess.run(
            [
                *(chromium, "--headless", "--no-sandbox", "--hide-scrollbars"),
                *("--force-device-scale-factor=1.5", f"--window-size={size}"),
                *(f"--screenshot={picture}", page.as_uri()),
            ],
            check=True,
            capture_output=True,
        )


if __name__ == "__main__":
    draw(record(sys.argv[1:]), PICTURE)
    print(f"{PICTURE} ({PICTURE.stat().st_size / 1e3:.0f} kB)")
