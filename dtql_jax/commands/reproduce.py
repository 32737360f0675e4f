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


class Line(NamedTuple):
    """One row of the table."""

    what: str
    equal: bool
    details: str


EXTRAS = ("envs", "reports", "tensorboard")


def define(argv: list[str]) -> None:
    """Defines the flags of this command."""
    cli.define_run()
    flags.DEFINE_string("out", None, "Folder of the repetition; by default RUN-again.")
    cli.define_display()


def compare_records(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Line]:
    """Compares what the numbers of two runs depend on: versions, commit, device, data.

    Args:
      first: content of run.json, with "device" of summary.json.
      second: the same of the repetition.
    """
    names = [*first["versions"], *(n for n in second["versions"] if n not in first["versions"])]
    other = [
        f"{name} {first['versions'].get(name)} -> {second['versions'].get(name)}"
        for name in names
        if first["versions"].get(name) != second["versions"].get(name)
    ]
    lines = [Line("versions", not other, ", ".join(other) or f"{len(names)} packages")]
    pairs = {
        "commit": tuple(run["commit"] for run in (first, second)),
        "device": tuple(
            f"{run['device']['devices']} x {run['device']['kind']}" for run in (first, second)
        ),
        "dataset": tuple(
            f"{run['dataset']['dataset_id']} {run['dataset']['fingerprint'][:19]}"
            for run in (first, second)
        ),
    }
    for what, (one, two) in pairs.items():
        # an unknown or modified commit does not identify the source
        sure = one == two and not (what == "commit" and (one == "unknown" or "-dirty" in one))
        details = one if sure else f"{one} -> {two}" if one != two else f"{one}: cannot be told"
        lines.append(Line(what, sure, details))
    return lines


def compare_tables(name: str, first: Path, second: Path) -> Line:
    """Compares two CSV files row by row, as text."""
    texts = [(path / name).read_text().splitlines() for path in (first, second)]
    differing = [i for i, (a, b) in enumerate(zip(*texts, strict=False)) if a != b]
    lengths = [max(len(text) - 1, 0) for text in texts]
    if lengths[0] != lengths[1]:
        return Line(name, False, f"{lengths[0]} rows -> {lengths[1]} rows")
    if not differing:
        return Line(name, True, f"{lengths[0]} rows")
    row = differing[0]
    columns = texts[0][0].split(",")
    cells = [text[row].split(",") for text in texts]
    place = next((c for c in zip(columns, *cells, strict=False) if c[1] != c[2]), ("", "", ""))
    return Line(
        name,
        False,
        f"{len(differing)} of {lengths[0]} rows differ, the first is row {row}: "
        f"{place[0]} {place[1]} -> {place[2]}",
    )


def compare_states(first: Any, second: Any) -> Line:
    """Compares two states leaf by leaf, bit for bit."""
    import jax

    pairs = [jax.tree_util.tree_leaves_with_path(state) for state in (first, second)]
    arrays = [[np.asarray(leaf) for _, leaf in leaves] for leaves in pairs]
    count = sum(array.size for array in arrays[0])
    shapes = [[(a.shape, a.dtype) for a in own] for own in arrays]
    if shapes[0] != shapes[1]:
        return Line("parameters", False, "the networks have other shapes")
    differing = [
        (jax.tree_util.keystr(path, simple=True, separator="/"), one, two)
        for (path, _), one, two in zip(pairs[0], *arrays, strict=True)
        if one.tobytes() != two.tobytes()
    ]
    if not differing:
        return Line("parameters", True, f"{count:,} numbers in {len(arrays[0])} arrays")
    largest = max(
        float(np.max(np.abs(one.astype(np.float64) - two.astype(np.float64))))
        for _, one, two in differing
    )
    return Line(
        "parameters",
        False,
        f"{len(differing)} of {len(arrays[0])} arrays differ, {differing[0][0]} the first; by "
        f"{largest:.3g} at most",
    )


def _record(path: Path) -> dict[str, Any]:
    """run.json and the device of summary.json; UserError where the run has not ended."""
    from dtql_jax.training.run_folder import RunFolder

    with RunFolder.open(path) as folder:
        try:
            summary = json.loads((path / "summary.json").read_text())
            return folder.run | {"device": summary["device"]}
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


def run() -> int:
    """Runs the command."""
    values = flags.FLAGS
    path = cli.run_folder()
    out = Path(values.out or f"{str(path).rstrip('/')}-again")
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
        results = [compare_tables(name, path, out) for name in TABLES]
        results.append(compare_states(_state(path), _state(out)))
        circumstances = compare_records(record, _record(out))
    print(table(("compared", "equal", "details"), [*circumstances, *results]))
    same = all(line.equal for line in results)
    causes = [line.what for line in circumstances if not line.equal]
    said = "equal bit for bit" if same else "NOT equal"
    because = f"; differing circumstances: {', '.join(causes)}" if causes else ""
    print(f"{path} and {out} are {said}{because}")
    return 0 if same else 1
