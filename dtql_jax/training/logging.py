"""The logs of a run: metrics.csv, evaluations.csv, and events for TensorBoard and W&B.

The CSV files hold only what follows from seed, data and settings (no times), one row for each
member, so a resumed run writes the same rows as an undisturbed one. Rows are written at once: a
full disk raises OSError before a checkpoint is saved that would skip them.
"""

import csv
import hashlib
import importlib.util
import io
import math
import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtql_jax.errors import UserError

WANDB_PROJECT = "dtql-jax"  # unless $WANDB_PROJECT names another
METRIC_KEYS = ("update", "phase", "step", "member", "seed")
EVALUATION_FIELDS = (
    *("update", "step", "member", "seed", "score"),
    *("return_mean", "return_std", "success_rate", "length_mean", "episodes"),
)


class MetricsLog:
    """The logs of one run, in its folder."""

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
          folder: folder of the run.
          seeds: the members' seeds.
          metrics: columns of metrics.csv after METRIC_KEYS.
          resume_at: rows of later updates are dropped; None: new logs.
          tensorboard: whether to write TensorBoard events, where tensorboardX is installed.
          wandb: the run's configuration, to send events to Weights & Biases; None: not.

        Raises:
          UserError: Weights & Biases is not installed or cannot start.
          OSError: a file cannot be written.
        """
        self.folder, self.seeds = Path(folder), list(seeds)
        fields = (*METRIC_KEYS, *metrics)
        self._metrics = _Table(self.folder / "metrics.csv", fields, resume_at)
        self._evaluations = _Table(self.folder / "evaluations.csv", EVALUATION_FIELDS, resume_at)
        self._events: list[TensorBoardEvents | WandbEvents] = []
        if tensorboard and importlib.util.find_spec("tensorboardX"):
            self._events.append(TensorBoardEvents(self.folder / "tensorboard", resume_at))
        if wandb is not None:
            self._events.append(WandbEvents(self.folder, wandb))

    def write_metrics(
        self,
        update: int,
        phase: str,
        step: int,
        values: Mapping[str, np.ndarray],
        members: Sequence[int],
    ) -> None:
        """Writes one row for each of `members`, given values name -> [P]; others stay empty."""
        rows = []
        for i in members:
            head = dict(zip(METRIC_KEYS, (update, phase, step, i, self.seeds[i]), strict=True))
            rows.append(head | {name: f"{float(v[i]):.9g}" for name, v in values.items()})
        self._metrics.write(rows)
        for name, value in values.items():
            if members:
                self.scalar(f"{phase}/{name}", float(np.mean(value[list(members)])), update)
        self._flush()

    def write_evaluation(self, update: int, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes one row for each member, with EVALUATION_FIELDS from "score" on; NaN is empty."""
        full = []
        for i, (seed, row) in enumerate(zip(self.seeds, rows, strict=True)):
            head = {"update": update, "step": step, "member": i, "seed": seed}
            known = {k: v for k, v in row.items() if not (isinstance(v, float) and math.isnan(v))}
            full.append(head | known)
        self._evaluations.write(full)
        scores = [float(row["score"]) for row in rows]
        self.scalar("evaluation/score", float(np.mean(scores)), update)
        for i, score in enumerate(scores):
            self.scalar(f"evaluation/score/member_{i}", score, update)
        self._flush()

    def scalar(self, name: str, value: float, update: int) -> None:
        """Writes one scalar to the events only."""
        for events in self._events:
            events.add_scalar(name, value, update)

    def evaluated(self, update: int) -> bool:
        """Whether evaluations.csv has the rows of `update`."""
        rows = read_rows(self.folder / "evaluations.csv")
        return sum(int(row["update"]) == update for row in rows) == len(self.seeds)

    def _flush(self) -> None:
        for events in self._events:
            events.flush()

    def close(self) -> None:
        """Closes the files."""
        for writer in (self._metrics, self._evaluations, *self._events):
            writer.close()


class _Table:
    """A CSV file that rows are appended to."""

    def __init__(self, path: Path, fields: Sequence[str], resume_at: int | None) -> None:
        self._fields, kept = fields, []
        if resume_at is not None:
            kept = [row for row in read_rows(path) if int(row["update"]) <= resume_at]
        partial = path.with_suffix(".csv.part")
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, fields)
            writer.writeheader()
            writer.writerows(kept)
        os.replace(partial, path)
        # unbuffered: a process that is killed loses no row
        self._file = path.open("ab", buffering=0)

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        text = io.StringIO()
        csv.DictWriter(text, self._fields).writerows(rows)
        content = text.getvalue().encode()
        while content:
            # a full disk takes a part of the row first, and raises at the next write
            content = content[self._file.write(content) :]

    def close(self) -> None:
        self._file.close()


def read_rows(path: str | Path) -> list[dict[str, str]]:
    """Returns the rows of a CSV log, without a last line that a crash cut off."""
    path = Path(path)
    if not path.is_file():
        return []
    whole, end, _ = path.read_text().rpartition("\n")
    return list(csv.DictReader(io.StringIO(whole + end)))


class TensorBoardEvents:
    """Writes one TensorBoard event file; a resumed run starts another one.

    It uses the record writer of tensorboardX, because on a full disk the background thread of its
    SummaryWriter ends, and `add_scalar` then waits forever.
    """

    def __init__(self, folder: str | Path, resume_at: int | None = None) -> None:
        """Starts a file in `folder`; TensorBoard hides older events after update `resume_at`."""
        from tensorboardX.proto import event_pb2
        from tensorboardX.record_writer import RecordWriter
        from tensorboardX.summary import scalar

        self._proto: Any = event_pb2
        self._scalar = scalar
        Path(folder).mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}"
        self._writer = RecordWriter(str(Path(folder) / name))
        self.flush, self.close = self._writer.flush, self._writer.close
        self._add(file_version="brain.Event:2")
        if resume_at is not None:
            status = self._proto.SessionLog(status=self._proto.SessionLog.START)
            self._add(step=resume_at + 1, session_log=status)

    def add_scalar(self, name: str, value: float, update: int) -> None:
        """Writes one scalar."""
        self._add(step=update, summary=self._scalar(name, value))

    def _add(self, **content: Any) -> None:
        event = self._proto.Event(wall_time=time.time(), **content)
        self._writer.write(event.SerializeToString())


def check_wandb() -> None:
    """Raises UserError unless Weights & Biases is installed."""
    try:
        importlib.import_module("wandb")
    except ImportError as error:
        raise UserError(
            "--wandb: Weights & Biases is not installed; expected the extra wandb: "
            'pip install "dtql-jax[wandb]"'
        ) from error


class WandbEvents:
    """Sends scalars to Weights & Biases; a resumed run continues the same W&B run.

    $WANDB_MODE=offline keeps them in the run's folder, for `wandb sync`.
    """

    def __init__(self, folder: str | Path, config: Mapping[str, Any]) -> None:
        """Starts or continues the W&B run of a folder.

        Raises:
          UserError: wandb is not installed, or cannot start (no login, no network).
        """
        check_wandb()
        import wandb  # pyright: ignore[reportMissingImports]

        folder = Path(folder).resolve()
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", WANDB_PROJECT),
                name=folder.name,
                id=hashlib.sha256(str(folder).encode()).hexdigest()[:16],
                dir=str(folder),
                config=dict(config),
                resume="allow",
            )
        except Exception as error:  # the types of wandb's errors differ between versions
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"--wandb: the run cannot begin ({reason}); try `wandb login`, or "
                "WANDB_MODE=offline"
            ) from error
        self.close = self._run.finish

    def add_scalar(self, name: str, value: float, update: int) -> None:
        """Sends one scalar."""
        self._run.log({name: value}, step=update)

    def flush(self) -> None:
        """Does nothing: wandb sends in the background."""
