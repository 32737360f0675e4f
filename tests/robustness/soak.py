"""Runs all that tries to break a run, and writes one table of what was tried and what came of it.

python -m tests.robustness.soak OUT.md [OPTION OF pytest]...    (make soak)

Files of tests run beside each other, up to four. The table's rows are tests; cases, faults and
findings are what they recorded themselves.
"""

import datetime
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
from pathlib import Path
from typing import NamedTuple

from dtql_jax.training.device import describe_device
from dtql_jax.training.run_folder import commit, versions

ROOT = Path(__file__).parents[2]
TESTS = (
    "tests/robustness",
    "tests/evaluation/test_pool.py",
    "tests/training/test_checkpoint.py",
    "tests/training/test_divergence.py",
    "tests/training/test_run_folder.py",
    "tests/training/test_tensorboard.py",
    "tests/collect/test_collection.py",
    "tests/commands/test_reproduce.py",
    "tests/commands/test_hosts.py",
    "tests/training/test_hosts.py",
)


class Row(NamedTuple):
    """A test as a row of the table."""

    room: str
    what: str
    cases: int
    faults: str
    result: str
    seconds: float


def read_rows(path: Path) -> list[Row]:
    """The tests of a JUnit file."""
    rows = []
    for case in xml.parse(path).getroot().iter("testcase"):
        recorded = {p.get("name"): p.get("value") or "" for p in case.iter("property")}
        failed = case.find("failure") is not None or case.find("error") is not None
        skipped = case.find("skipped") is not None
        found = recorded.get("found", "as expected")
        result = "FAILED" if failed else "skipped" if skipped else found
        name = (case.get("name") or "").removeprefix("test_").replace("_", " ")
        rows.append(
            Row(
                room=(case.get("classname") or "").split(".")[-1].removeprefix("test_"),
                what=name.replace("|", "/"),
                cases=int(recorded.get("cases") or 1),
                faults=recorded.get("faults", ""),
                result=result,
                seconds=float(case.get("time") or 0.0),
            )
        )
    return rows


def table(rows: list[Row]) -> str:
    """The rows as Markdown; tests of one room that recorded nothing are one line."""
    head = ("part", "what", "cases", "faults injected", "result", "seconds")
    lines = [" | ".join(head), " | ".join(["---", "---", "---:", "---", "---", "---:"])]
    plain: dict[str, list[Row]] = {}
    for row in rows:
        if row.cases == 1 and not row.faults and row.result == "as expected":
            plain.setdefault(row.room, []).append(row)
            continue
        cells = (row.room, row.what, f"{row.cases:,}", row.faults, row.result, f"{row.seconds:.0f}")
        lines.append(" | ".join(cells))
    for room, tests in plain.items():
        seconds = sum(row.seconds for row in tests)
        cells = (room, "its other tests", f"{len(tests)}", "", "as expected", f"{seconds:.0f}")
        lines.append(" | ".join(cells))
    return "\n".join(f"| {line} |" for line in lines)


def page(rows: list[Row], seconds: float) -> str:
    """The whole page."""
    failed = sum(row.result == "FAILED" for row in rows)
    known, device = versions(), describe_device()
    verdict = f"{failed} of them FAILED" if failed else "none failed"
    return "\n".join(
        [
            "# Soak: what was tried to break a run, and what came of it",
            "",
            f"`make soak` on {datetime.date.today()}: {len(rows)} tests, "
            f"{sum(row.cases for row in rows if row.room == 'fuzz'):,} cases of bad input among "
            f"{sum(row.cases for row in rows if row.room != 'long'):,}, in {seconds / 60:.0f} "
            f"minutes; {verdict}. Device: {device['kind']}, {device['cpu_cores']} core(s); Python "
            f"{known['python']}, jax {known['jax']}, commit {commit()[:12]}.",
            "",
            table(rows),
            "",
        ]
    )


def main(out: Path, *arguments: str) -> int:
    """Runs the tests and writes the page; returns pytest's exit code."""
    began = datetime.datetime.now()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = ["-q", "-o", "junit_family=xunit1", f"--junitxml={report}"]
        options += ["-n", "auto", "--maxprocesses", "4", "--dist", "loadfile"]
        command = [sys.executable, "-m", "pytest", *options, *TESTS, *arguments]
        code = subprocess.run(command, cwd=ROOT).returncode
        if not report.is_file():
            return code
        rows = read_rows(report)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page(rows, (datetime.datetime.now() - began).total_seconds()))
    print(f"{len(rows)} tests, table in {out}")
    return code


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        sys.exit(0 if len(sys.argv) > 1 else 2)
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
