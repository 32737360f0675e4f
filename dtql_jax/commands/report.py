"""Writes an HTML report of one run or several.

dtql-jax report --run=runs/a,runs/b --out=report

A folder of several runs (of a comparison or a sweep) stands for all of them. Runs that differ only
in their seeds share a row. The page needs no network and no other file.
"""

from pathlib import Path

from absl import flags

from dtql_jax.errors import UserError

EXTRAS = ("reports",)


def define(argv: list[str]) -> None:
    """Defines the flags of this command."""
    flags.DEFINE_list("run", [], "Folders of runs, or of several runs, separated by commas.")
    flags.DEFINE_string("out", "", "Folder of the report; by default report/ in the first folder.")


def run() -> None:
    """Runs the command."""
    values = flags.FLAGS
    if not values.run:
        raise UserError("--run is missing; expected folders of runs, separated by commas")
    from dtql_jax.commands.reporting import page, runs

    found = runs.read_runs(values.run)
    content = page.build(runs.variants(found))
    out = Path(values.out or Path(values.run[0]) / "report")
    try:
        path = page.write(content, out)
    except OSError as error:
        raise UserError(f"--out={out} cannot be written: {error.strerror}") from error
    print(f"report of {len(found)} run(s): {content['title']}")
    print(f"  {path} ({path.stat().st_size / 1e3:,.0f} kB)")
