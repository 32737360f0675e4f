"""The CSV files of a run: rows as written, later ones dropped on resume."""

import csv
from pathlib import Path

import numpy as np

from dtql_jax.training.logging import EVALUATION_FIELDS, MetricsLog, read_rows

EVALUATION = {
    "score": 50.0,
    "return_mean": 0.5,
    "return_std": 0.5,
    "success_rate": 0.5,
    "length_mean": 12.0,
    "episodes": 2,
}


def write(folder: Path, updates: list[int], resume_at: int | None = None) -> None:
    log = MetricsLog(folder, [7, 8], ["loss", "extra"], resume_at=resume_at, tensorboard=False)
    for update in updates:
        log.write_metrics(update, "train", update, {"loss": np.array([0.5, 1.5]) * update}, [0, 1])
        log.write_evaluation(update, update, [EVALUATION, EVALUATION])
    log.close()


def test_one_row_for_each_member(tmp_path: Path) -> None:
    write(tmp_path, [10, 20])
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["update"], r["member"], r["seed"], r["loss"]) for r in rows] == [
        ("10", "0", "7", "5"),
        ("10", "1", "8", "15"),
        ("20", "0", "7", "10"),
        ("20", "1", "8", "30"),
    ]
    assert {r["extra"] for r in rows} == {""}  # a metric of another phase
    with (tmp_path / "evaluations.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == EVALUATION_FIELDS and len(rows) == 4
    assert {r["score"] for r in rows} == {"50.0"}


def test_going_on_writes_the_rows_of_an_undisturbed_run(tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for folder in (whole, stopped):
        folder.mkdir()
    write(whole, [10, 20, 30])
    write(stopped, [10, 20])
    with (stopped / "metrics.csv").open("a") as file:
        file.write("20,train,2")  # torn: the process died in the middle of it
    assert len(read_rows(stopped / "metrics.csv")) == 4
    write(stopped, [20, 30], resume_at=10)
    for name in ("metrics.csv", "evaluations.csv"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()
