"""Repeats a run from its record in a new folder and compares the two bit for bit.

dtql-jax reproduce --run=runs/pointmaze-umaze-dtql-quick-20260101-120000

The printed table compares versions, commit, device and data, the rows of metrics.csv,
evaluations.csv and episodes.csv, and the parameters of the last checkpoint. Exit code 1 if rows or
parameters differ. They are equal on the same device with the same versions.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from dtql_jax.commands import cli
from dtql_jax.commands.tables import table
from dtql_jax.errors import UserError

TABLES = ("metrics.csv", "evaluations.csv", "episodes.csv")

EXTRAS = ("envs", "reports", "tensorboard")


class Line(NamedTuple):
    """One row of the table."""

    what: str
    equal: bool
    details: str


def define(argv: list[str]) -> None:
    """Defines the flags of this command."""
    cli.define_run()
    flags.DEFINE_string("out", None, "Folder of the repetition; by default RUN-again.")
    cli.define_display()


def run() -> int:
    """Runs the command."""
    path = cli.run_folder()
    out = Path(flags.FLAGS.out or f"{str(path).rstrip('/')}-again")
    with cli.open_display(f"repeating {path}") as display:
        # imported here because they take seconds
        import ml_collections

        from dtql_jax.commands import runner

        record = _record(path)
        missing = [name for name in TABLES if not (path / name).is_file()]
        if missing:
            raise UserError(f"RUN {path} lacks {missing[0]}; there is nothing to compare with")
        config = ml_collections.ConfigDict(record["config"] | {"wandb": False})
        members = runner.members_of(record)
        with cli.stop_requested() as should_stop:
            if not runner.start(config, out, display, should_stop, members):
                return cli.STOPPED
        display.start("compare")
        circumstances = compare_records(record, _record(out))
        results = [compare_tables(name, path, out) for name in TABLES]
        results.append(compare_states(_state(path), _state(out)))
    print(table(("compared", "equal", "details"), [*circumstances, *results]))
    same = all(line.equal for line in results)
    causes = [line.what for line in circumstances if not line.equal]
    because = f"; differing circumstances: {', '.join(causes)}" if causes else ""
    print(f"{path} and {out} are {'equal bit for bit' if same else 'NOT equal'}{because}")
    return 0 if same else 1


def _record(path: Path) -> dict[str, Any]:
    """run.json with the device of summary.json; UserError where the run has not ended."""
    from dtql_jax.training.run_folder import RunFolder

    run = RunFolder.read(path)
    try:
        return run | {"device": json.loads((path / "summary.json").read_text())["device"]}
    except FileNotFoundError:
        raise UserError(
            f"RUN {path} has not ended; expected a finished run (make resume RUN={path})"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path / 'summary.json'} cannot be read: {error}") from error


def _state(path: Path) -> Any:
    from dtql_jax.commands import restore
    from dtql_jax.training.run_folder import RunFolder

    with RunFolder.open(path) as folder:
        return restore.trainer_of(folder).state


def compare_records(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Line]:
    """Compares versions, commit, device and data, given the records of two runs."""
    one, two = first["versions"], second["versions"]
    names = dict.fromkeys([*one, *two])
    other = [f"{n} {one.get(n)} -> {two.get(n)}" for n in names if one.get(n) != two.get(n)]
    lines = [Line("versions", not other, ", ".join(other) or f"{len(names)} packages")]
    pairs = zip(_facts(first).items(), _facts(second).values(), strict=True)
    for (what, before), after in pairs:
        if before != after:
            lines.append(Line(what, False, f"{before} -> {after}"))
        elif what == "commit" and (before == "unknown" or "-dirty" in before):
            # such a commit does not identify the source
            lines.append(Line(what, False, f"{before}: cannot be told"))
        else:
            lines.append(Line(what, True, before))
    return lines


def _facts(run: Mapping[str, Any]) -> dict[str, str]:
    device, dataset = run["device"], run["dataset"]
    return {
        "commit": run["commit"],
        "device": f"{device['devices']} x {device['kind']}",
        "dataset": f"{dataset['dataset_id']} {dataset['fingerprint'][:19]}",
    }


def compare_tables(name: str, first: Path, second: Path) -> Line:
    """Compares two CSV files row by row, as text."""
    from dtql_jax.training.logging import read_rows

    one, two = (read_rows(folder / name) for folder in (first, second))
    if len(one) != len(two):
        return Line(name, False, f"{len(one)} rows -> {len(two)} rows")
    pairs = enumerate(zip(one, two, strict=True), 1)
    differing = [(i, a, b) for i, (a, b) in pairs if a != b]
    if not differing:
        return Line(name, True, f"{len(one)} rows")
    row, before, after = differing[0]
    cell = next(c for c in before | after if before.get(c) != after.get(c))
    return Line(
        name,
        False,
        f"{len(differing)} of {len(one)} rows differ, the first is row {row}: "
        f"{cell} {before.get(cell)} -> {after.get(cell)}",
    )


def compare_states(first: Any, second: Any) -> Line:
    """Compares two states leaf by leaf, bit for bit."""
    import jax

    one, two = (
        {
            jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(state)
        }
        for state in (first, second)
    )
    if {n: (a.shape, a.dtype) for n, a in one.items()} != {
        n: (a.shape, a.dtype) for n, a in two.items()
    }:
        return Line("parameters", False, "the networks have other shapes")
    differing = [name for name in one if one[name].tobytes() != two[name].tobytes()]
    if not differing:
        count = sum(array.size for array in one.values())
        return Line("parameters", True, f"{count:,} numbers in {len(one)} arrays")
    largest = max(np.max(np.abs(one[n].astype(float) - two[n].astype(float))) for n in differing)
    return Line(
        "parameters",
        False,
        f"{len(differing)} of {len(one)} arrays differ, {differing[0]} the first; by "
        f"{largest:.3g} at most",
    )
