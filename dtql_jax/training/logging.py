"""What a run writes while it goes: metrics.csv, evaluations.csv and events (TensorBoard, W&B).

The CSV files hold only what follows from seed, data and settings (no times), one row for each
member, so a resumed run writes the same rows as one that was never stopped.
"""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtql_jax.training.appended import Appended

METRIC_KEYS = ("update", "phase", "step", "member", "seed")
EVALUATION_FIELDS = (
    "update",
    "step",
    "member",
    "seed",
    "score",
    "return_mean",
    "return_std",
    "success_rate",
    "length_mean",
    "episodes",
)


class MetricsLog:
    """The logs of one run.

    Attributes:
      folder: the run's folder.
      seeds: one for each member, in order.
    """

    def __init__(
        self,
        folder: str | Path,
        seeds: Sequence[int],
        metrics: Sequence[str],
        *,
        resume_at: int | None = None,
        tensorboard: bool = True,
        wandb: Mapping[str, Any] | None = None,
    ) -> None:
        """Opens the logs.

        Args:
          folder: where to write.
          seeds: of the members.
          metrics: names of the columns of metrics.csv after those of METRIC_KEYS.
          resume_at: rows of later updates than this are dropped; None starts afresh.
          tensorboard: whether to write TensorBoard events too.
          wandb: the run's configuration, where Weights & Biases gets the events too.

        Raises:
          UserError: Weights & Biases is not installed or cannot begin.
          OSError: a file cannot be written.
        """
        self.folder, self.seeds = Path(folder), list(seeds)
        self._metric_fields = (*METRIC_KEYS, *metrics)
        self._metrics = self._open("metrics.csv", self._metric_fields, resume_at)
        self._evaluations = self._open("evaluations.csv", EVALUATION_FIELDS, resume_at)
        self._files: list[Any] = [self._metrics, self._evaluations]
        self._events: list[Any] = []
        if tensorboard:
            from dtql_jax.training.tensorboard_events import TensorBoardEvents

            self._events.append(TensorBoardEvents(self.folder / "tensorboard", resume_at))
            self._files += self._events
        if wandb is not None:
            from dtql_jax.training.wandb_events import WandbEvents

            self._events.append(WandbEvents(self.folder, wandb))

    def _open(self, name: str, fields: Sequence[str], resume_at: int | None) -> "_Rows":
        path = self.folder / name
        kept = []
        if resume_at is not None:
            kept = [row for row in read_rows(path) if int(row["update"]) <= resume_at]
        partial = path.with_suffix(".csv.part")
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, fields)
            writer.writeheader()
            writer.writerows(kept)
        os.replace(partial, path)
        return _Rows(path, fields)

    def write_metrics(
        self,
        update: int,
        phase: str,
        step: int,
        values: Mapping[str, np.ndarray],
        members: Sequence[int],
    ) -> None:
        """Writes one row for each of `members`; `values` are name -> [P]. Others stay empty."""
        rows = []
        for i in members:
            head = dict(zip(METRIC_KEYS, (update, phase, step, i, self.seeds[i]), strict=True))
            rows.append(head | {name: f"{float(v[i]):.9g}" for name, v in values.items()})
        self._metrics.append_rows(rows)
        for name, value in values.items():
            if members:
                self.scalar(f"{phase}/{name}", float(np.mean(value[list(members)])), update)

    def write_evaluation(self, update: int, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes one row for each member, with the fields of EVALUATION_FIELDS from "score" on."""
        full = [
            {"update": update, "step": step, "member": i, "seed": seed} | dict(row)
            for i, (seed, row) in enumerate(zip(self.seeds, rows, strict=True))
        ]
        self._evaluations.append_rows(full)
        self.scalar("evaluation/score", float(np.mean([r["score"] for r in rows])), update)
        for i, row in enumerate(rows):
            self.scalar(f"evaluation/score/member_{i}", float(row["score"]), update)

    def scalar(self, name: str, value: float, update: int) -> None:
        """One scalar of the events (also for what the CSV files do not hold: rates)."""
        for events in self._events:
            events.add_scalar(name, value, update)

    @property
    def problem(self) -> str:
        """Why rows or events are kept back; "" where all are written."""
        return next((file.problem for file in self._files if file.problem), "")

    def flush(self) -> str:
        """Tries to write what is kept back; returns what `problem` says then."""
        for file in self._files:
            file.flush()
        return self.problem

    def evaluated(self, update: int) -> bool:
        """Whether evaluations.csv holds the rows of `update`."""
        rows = read_rows(self.folder / "evaluations.csv")
        return sum(int(row["update"]) == update for row in rows) == len(self.seeds)

    def close(self) -> None:
        """Closes the files."""
        self._metrics.close()
        self._evaluations.close()
        for events in self._events:
            events.close()


class _Rows(Appended):
    """A CSV file that rows are appended to."""

    def __init__(self, path: Path, fields: Sequence[str]) -> None:
        super().__init__(path)
        self._fields = fields

    def append_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes the rows of all members at once, or keeps them back."""
        text = io.StringIO()
        csv.DictWriter(text, self._fields).writerows(rows)
        self.append(text.getvalue().encode())


def read_rows(path: str | Path) -> list[dict[str, str]]:
    """The whole rows of a CSV log; a last line torn by a crash is dropped."""
    path = Path(path)
    if not path.is_file():
        return []
    text = path.read_text()
    if not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
    return list(csv.DictReader(io.StringIO(text)))
