"""Cells kept on disk, tables, means and the record of a study."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtql_jax.commands import cli
from dtql_jax.errors import UserError
from dtql_jax.training.progress import Progress
from experiments import study


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "open_display", lambda *facts: Progress(quiet=True))


def test_a_cell_is_computed_once(tmp_path: Path, quiet: None) -> None:
    calls: list[int] = []

    def compute() -> dict[str, np.ndarray]:
        calls.append(1)
        return {"a": np.arange(3), "b": np.full(2, float(len(calls)))}

    config: dict[str, Any] = {"seed": 0, "widths": (8, 8)}
    for _ in range(2):
        with study.Study("a study", config, out=str(tmp_path)) as s:
            found = s.cell("part/one", config, compute)
            np.testing.assert_array_equal(found["b"], [1.0, 1.0])
            s.write("text", {"rows": []}, {"x.png": lambda path: path.touch()})
    assert len(calls) == 1
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["config"]["seed"] == 0 and record["parts"]["part/one"]["seconds"] >= 0
    assert {path.name for path in tmp_path.iterdir()} == {
        *("cells", "run.json", "table.json", "table.md", "x.png")
    }
    with study.Study("a study", config, out=str(tmp_path)) as s:
        assert s.cell("part/one", config | {"seed": 1}, compute)["b"][0] == 2.0
        path = tmp_path / "cells" / "part-one.npz"
        path.write_bytes(path.read_bytes()[:200])
        assert s.cell("part/one", config | {"seed": 1}, compute)["b"][0] == 3.0


def test_a_folder_that_cannot_be_made(tmp_path: Path, quiet: None) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be made"):
        study.Study("a study", {}, out=str(tmp_path / "file" / "below"))


def test_tables() -> None:
    rows = [{"name": "a", "share": 0.125, "n": 1200}, {"name": "b", "share": None, "n": 3}]
    columns = {"name": "name", "%": "share:.1%", "n": "n:,", "both": lambda row: f"{row['n']}!"}
    lines = [line.replace(" ", "") for line in study.table(columns, rows).splitlines()]
    assert lines[0] == "|name|%|n|both|"
    assert lines[2:] == ["|a|12.5|1,200|1200!|", "|b|-|3|3!|"]


def test_means_over_seeds() -> None:
    assert study.over_seeds([5.0]) == (5.0, None)
    # deviation sqrt(200) over sqrt(2)
    assert study.over_seeds([0.0, 20.0]) == pytest.approx((10.0, 10.0))


def test_numbers_below_their_least_are_named() -> None:
    study.check_least({"seeds": 1}, seeds=1)
    with pytest.raises(UserError, match="seeds is 0; expected at least 1"):
        study.check_least({"seeds": 0}, "maze.", seeds=1)
