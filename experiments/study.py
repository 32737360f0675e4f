"""Everything that studies share: flags, the output folder, results kept on disk, tables, figures.

Every study is `experiments/NAME/__main__.py` of one shape:

    def define(argv):
        study.define(argv, settings.get_config, "results/NAME")

    def run():
        config = study.settings()
        with study.Study("title", config) as s:
            found = {name: s.cell(name, own_settings, compute) for name in ...}
            s.write(study.table(COLUMNS, rows), {"rows": rows}, {"NAME.png": draw})

    if __name__ == "__main__":
        cli.launch(run, __doc__, define)

A study writes its figures, table.md, table.json and run.json (the provenance of the numbers).
"""

import gc
import json
import os
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import jax
import ml_collections
import numpy as np
from absl import flags

from dtql_jax.commands import cli, tables
from dtql_jax.errors import UserError
from dtql_jax.training.device import describe_device, enable_compilation_cache, use_cpu_cores
from dtql_jax.training.progress import duration
from dtql_jax.training.run_folder import commit, versions, write_json
from dtql_jax.types import Transition

INK, GREY, LIGHT = "#22262B", "#6B737C", "#AAB0B7"
# Okabe and Ito's palette, distinguishable by colour-blind readers
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

Arrays = dict[str, np.ndarray]
Row = Mapping[str, Any]
Column = str | Callable[[Row], str]  # "key", "key:.3f", "key:.1%", or a function of the row


def define(
    argv: list[str], get_config: Callable[[], ml_collections.ConfigDict], out: str | None
) -> None:
    """Defines --config with its fields, --out, --quiet and --verbose."""
    cli.define_own_config(argv, get_config)
    flags.DEFINE_string("out", out, "Folder of the results.")
    cli.define_display()


def settings() -> dict[str, Any]:
    """Returns the configuration after the command line's changes."""
    return flags.FLAGS.config.to_dict()


def check_least(config: Mapping[str, Any], prefix: str = "", **least: float) -> None:
    """Raises UserError for the first number of `config` below its least value."""
    for name, value in least.items():
        if config[name] < value:
            raise UserError(f"{prefix}{name} is {config[name]}; expected at least {value}")


class Study:
    """The output folder of a study, with its progress display and results on disk.

    Attributes:
      out: the folder.
      config: the settings, recorded in run.json.
      display: progress and messages.
    """

    def __init__(self, title: str, config: Mapping[str, Any], *facts: str, out: str = "") -> None:
        """Makes the folder (by default --out) and opens the display; use it as a context."""
        self.out, self.config = Path(out or flags.FLAGS.out), config
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--out={self.out} cannot be made: {error.strerror}") from error
        use_cpu_cores()
        enable_compilation_cache()
        self.display = cli.open_display(title, *facts)
        self._records: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.display.close()

    def cell(self, name: str, own: Mapping[str, Any], compute: Callable[[], Arrays]) -> Arrays:
        """Returns the arrays of one part of the study, computed only once.

        They are kept in OUT/cells/NAME.npz ("/" in the name becomes "-") and computed again if
        that file is missing, damaged, or of other settings.

        Args:
          name: of the part.
          own: every setting that its result depends on.
          compute: returns the named arrays.
        """
        path = self.out / "cells" / f"{name.replace('/', '-')}.npz"
        stored = _read_cell(path, own)
        if stored is None:
            began = time.monotonic()
            arrays = compute()
            self.record(name, time.monotonic() - began)
            _write_cell(path, {"settings": own, "record": self._records[name]}, arrays)
            return arrays
        arrays, self._records[name] = stored
        self.display.say(f"{name}: already in {path}")
        return arrays

    def train(
        self, folder: Path, config: ml_collections.ConfigDict, members: Any = None
    ) -> dict[str, Any]:
        """Trains a run in its folder, resumes it, or finds it finished; returns its summary.

        Leaves the process with exit code 130 if the user stops the run; its checkpoint stays.

        Raises:
          UserError: the configuration or its data are wrong.
          StuckError: the run cannot be finished.
        """
        from dtql_jax.commands import runner

        with cli.stop_requested() as should_stop:
            if (folder / "summary.json").exists():
                self.display.say(f"{folder.name}: already in {folder}")
                finished = True
            elif (folder / "run.json").exists():
                finished = runner.resume(folder, self.display, should_stop)
            else:
                finished = runner.start(config, folder, self.display, should_stop, members)
        if not finished:
            raise SystemExit(cli.STOPPED)
        summary = json.loads((folder / "summary.json").read_text())
        facts = {name: summary[name] for name in ("device", "commit")}
        self._records[folder.name] = {"seconds": sum(summary["seconds"].values()), **facts}
        return summary

    def train_all(
        self, runs: Sequence[tuple[Path, ml_collections.ConfigDict, Any]], failed: list[str]
    ) -> dict[str, dict[str, Any]]:
        """Trains runs, given as (folder, configuration, members); returns summaries by folder name.

        A run that cannot be finished is named in `failed`; the others continue.
        """
        summaries = {}
        for number, (folder, config, members) in enumerate(runs, 1):
            self.display.say(f"run {number} of {len(runs)}: {folder.name}")
            try:
                summaries[folder.name] = self.train(folder, config, members)
            except cli.StuckError as error:
                failed.append(f"{folder.name}: {error}")
                self.display.warn(failed[-1])
            jax.clear_caches()  # frees the programs and arrays of the finished run
            gc.collect()
        return summaries

    def record(self, name: str, seconds: float) -> None:
        """Notes how long one part took, on which device and by which commit."""
        facts = {"seconds": seconds, "device": describe_device(), "commit": commit()}
        self._records[name] = facts

    @property
    def seconds(self) -> float:
        """Time spent on all parts so far, those of earlier calls included."""
        return sum(record["seconds"] for record in self._records.values())

    def write(
        self,
        text: str,
        results: Mapping[str, Any],
        figures: Mapping[str, Callable[[Path], None]],
    ) -> None:
        """Writes table.md, table.json, run.json and the figures; prints the text.

        Args:
          text: Markdown: what was done, then the tables.
          results: the same numbers and more, as JSON.
          figures: {file name: function that draws to a path}.
        """
        (self.out / "table.md").write_text(text.rstrip() + "\n")
        write_json(self.out / "table.json", results)
        study = f"experiments.{Path(sys.argv[0]).parent.name}"
        about = {
            "command": ["python", "-m", study, *sys.argv[1:]],
            "config": self.config,
            "seconds": self.seconds,
            "device": describe_device(),
            "versions": versions(),
            "commit": commit(),
            "parts": self._records,
        }
        write_json(self.out / "run.json", about)
        for name, draw in figures.items():
            self.display.start("figures")
            draw(self.out / name)
        print(text.rstrip(), flush=True)
        spent = f"computed in {duration(self.seconds)}, " if self._records else ""
        self.display.say(f"{spent}written to {self.out}")


def _write_cell(path: Path, about: Mapping[str, Any], arrays: Arrays) -> None:
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(path.name + ".part")
    with partial.open("wb") as file:
        np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)  # pyright: ignore
    os.replace(partial, path)


def _read_cell(path: Path, own: Mapping[str, Any]) -> tuple[Arrays, dict[str, Any]] | None:
    """Returns (arrays, record), or None where the file is not of these settings."""
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            if about["settings"] != json.loads(json.dumps(own)):
                return None
            return {key: file[key] for key in file.files if key != "about"}, about["record"]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None


# -------------------------------------------------------------------------------------- policies


def sample_of(dataset: Mapping[str, Any]) -> Transition:
    """Returns one transition of zeros in a dataset's sizes, to make networks without the data."""
    observation = np.zeros((1, dataset["observation_dim"]), np.float32)
    action, one = np.zeros((1, dataset["action_dim"]), np.float32), np.zeros(1, np.float32)
    return Transition(observation, action, observation, one, one)


def median_seconds(call: Callable[[], Any], repeats: int) -> float:
    """Returns the median time of a call; a first one, which compiles, does not count."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return float(np.median(times[1:]))


# ---------------------------------------------------------------------------------------- tables


def table(columns: Mapping[str, Column], rows: Iterable[Row]) -> str:
    """Returns rows as a Markdown table.

    Args:
      columns: {title: column}. A column is a key of the row, with a format after a colon, or a
        function of the row. Formats are Python's, but ".1%" leaves the sign to the title. None
        is shown as "-".
      rows: mappings from keys to values.

    >>> rows = [{"n": "a", "s": 0.5}, {"n": "b", "s": None}]
    >>> print(table({"name": "n", "share %": "s:.1%"}, rows))
    | name | share % |
    | ---- | ------- |
    | a    | 50.0    |
    | b    | -       |
    """
    return tables.table(list(columns), [[_cell(row, c) for c in columns.values()] for row in rows])


def _cell(row: Row, column: Column) -> str:
    if callable(column):
        return column(row)
    key, _, form = column.partition(":")
    value = row[key]
    if value is None:
        return "-"
    return format(value, form).removesuffix("%") if form.endswith("%") else format(value, form)


def by_seed(key: str) -> Column:
    """Returns a column with each seed's share in percent, from a row's list of shares or None."""
    return lambda row: "-" if row[key] is None else " ".join(f"{100 * x:.0f}" for x in row[key])


def over_seeds(values: Sequence[float] | np.ndarray) -> tuple[float, float | None]:
    """Returns the mean of one value a seed, and its standard error; None for a single seed."""
    values = np.asarray(values, np.float64)
    if len(values) < 2:
        return float(values.mean()), None
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


# --------------------------------------------------------------------------------------- figures


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **grid: Any) -> Any:
    """Returns a Matplotlib figure, in inches, and its axes [rows][columns], in one style."""
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained", facecolor="white")
    axes = figure.subplots(rows, columns, squeeze=False, **grid)
    for one in axes.flat:
        one.spines[["top", "right"]].set_visible(False)
        one.spines[["left", "bottom"]].set_color(LIGHT)
        one.tick_params(colors=GREY, color=LIGHT, labelsize=8, length=3)
        one.xaxis.label.set_color(GREY)
        one.yaxis.label.set_color(GREY)
        one.grid(color="#E6E8EB", linewidth=0.7)
        one.set_axisbelow(True)
    return figure, axes


def draw_curve(
    axes: Any, updates: Sequence[int], scores: Sequence[Any], colour: str, **style: Any
) -> None:
    """Draws the mean of scores [F][P] at F updates as a line, standard errors as a band."""
    found = [over_seeds(seeds) for seeds in scores]
    mean = np.array([m for m, _ in found])
    error = np.array([e or 0.0 for _, e in found])
    axes.fill_between(updates, mean - error, mean + error, color=colour, alpha=0.16, linewidth=0)
    axes.plot(updates, mean, color=colour, **({"linewidth": 1.5} | style))


def score_axis(axes: Any, score_name: str, title: str = "") -> None:
    """Labels the vertical axis with the score, below an optional title; a rate has 0 to 100 %."""
    unit = ""
    if score_name == "success rate":
        unit = " (%)"
        axes.set_ylim(-4, 104)
    axes.set_ylabel(f"{title}\n{score_name}{unit}".lstrip(), fontsize=9 if title else 8)


def save_figure(figure: Any, path: Path) -> None:
    """Writes a figure as PNG."""
    figure.savefig(path, dpi=150, format="png")
