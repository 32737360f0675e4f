"""Draws up a report of one run or several: one HTML page to look at, and a Markdown file.

python -m dtql_jax report --run=runs/a,runs/b --out=report

A folder that holds several runs (of make compare, of a sweep) stands for all of them. Runs that
differ in their seeds only are one row. The page needs no network and no other file.
"""

from pathlib import Path

from absl import flags

from dtql_jax.commands import cli
from dtql_jax.errors import UserError


def define(argv: list[str]) -> None:
    """The flags of this command."""
    flags.DEFINE_list("run", [], "Folders of runs, or folders that hold some, with commas between.")
    flags.DEFINE_string("out", "", "Folder for it; by default report/ in the first folder.")


def run() -> None:
    """The command."""
    values = flags.FLAGS
    if not values.run:
        raise UserError("--run is missing; expected the folder of a run (make report RUN=...)")
    from dtql_jax.commands.reporting import page, runs

    found = [runs.read_run(path) for path in runs.find_folders(values.run)]
    content = page.build(runs.variants(found))
    out = Path(values.out or Path(values.run[0]) / "report")
    try:
        written = page.write(content, out)
    except OSError as error:
        raise UserError(f"--out={out} cannot be written: {error.strerror}") from error
    print(f"report of {len(found)} run(s): {content['title']}")
    for path in written:
        print(f"  {path} ({path.stat().st_size / 1e3:,.0f} kB)")


def main() -> None:
    """Runs the command line."""
    cli.launch(run, __doc__, define, live=True)
