"""Code that all benchmarks share: timing, and writing results."""

import contextlib
import json
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.algorithms import make_algorithm
from dtql_jax.algorithms.base import Algorithm
from dtql_jax.training import population
from dtql_jax.training.data_parallel import Placement, place
from dtql_jax.training.device import describe_device, enable_compilation_cache
from dtql_jax.training.run_folder import commit, versions, write_json
from dtql_jax.types import Transition

# batch -> (O, A) of the tasks that the paper trains with it: hopper, AntMaze
SIZES = {256: (11, 3), 2048: (29, 8)}
ALGORITHMS = ("dtql", "dql", "idql", "fql", "dql_kl", "iql", "bc")
RESULTS = Path(__file__).parent / "results"


class Timing(NamedTuple):
    """Seconds of each repetition, without compilation and the first call."""

    seconds: list[float]

    @property
    def best(self) -> float:
        return min(self.seconds)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def clock(
    call: Callable[[], Any], repetitions: int, warm_up: int = 1, seconds: float = float("inf")
) -> Timing:
    """Times a call until its result is on the device; the `warm_up` first calls do not count.

    There are `repetitions` calls at most, and after `seconds` and two calls no further one.
    """
    for _ in range(warm_up):
        jax.block_until_ready(call())
    taken: list[float] = []
    while len(taken) < repetitions and (len(taken) < 2 or sum(taken) < seconds):
        began = time.perf_counter()
        jax.block_until_ready(call())
        taken.append(time.perf_counter() - began)
    return Timing(taken)


def updates_per_call(setting: int, batch_size: int, members: int = 1) -> int:
    """Updates in one compiled call; 0: as the presets have it.

    Several members on a CPU make a quarter of that, to take less time; accelerators 100 at least.
    A call copies the state and checks it for non-finite numbers, which takes 10 to 20 ms a member
    on two cores: shorter calls would measure that too.
    """
    if setting:
        return setting
    of_a_run = {256: 100, 2048: 20}.get(batch_size, max(1, 25_600 // batch_size))
    if jax.default_backend() != "cpu":
        return max(of_a_run, 100)
    return of_a_run if members == 1 else max(1, of_a_run // 4)


def random_data(observation_dim: int, action_dim: int, rows: int = 100_000) -> Transition:
    """Random transitions: a step's time does not depend on what is in them."""
    rng = np.random.default_rng(0)

    def normal(columns: int) -> np.ndarray:
        return rng.normal(size=(rows, columns)).astype(np.float32)

    rewards, masks = normal(1)[:, 0], (rng.random(rows) > 0.01).astype(np.float32)
    actions = np.tanh(normal(action_dim))
    return Transition(normal(observation_dim), actions, normal(observation_dim), rewards, masks)


class Training:
    """K updates of a population in one compiled call, as the training loop makes them."""

    def __init__(
        self,
        algorithm: Algorithm,
        batch_size: int,
        seeds: int,
        per_call: int,
        placement: Placement | None = None,
        sizes: tuple[int, int] | None = None,
    ) -> None:
        """Compiles the program, in `compile_seconds`, init included.

        `per_call` is K. The placement is by default a run's, and the sizes (O, A) are those of the
        paper's tasks of this batch size.
        """
        began = time.perf_counter()
        data = random_data(*(sizes or SIZES.get(batch_size, SIZES[256])))
        placement = placement or place(algorithm, seeds, batch_size, data)
        self.placement = placement
        keys = population.member_keys(range(seeds))
        self._keys, self._data = placement.put(keys.run), placement.copy(data)
        init_keys = placement.put(keys.init)
        self._state = population.init(algorithm, placement, init_keys, data)
        reported = population.metric_names(
            algorithm, placement, self._state, self._data, batch_size
        )
        names = reported["train"]
        self._sums = placement.put(population.empty_sums(len(names), seeds))
        update = population.make_update(
            algorithm.train_step, names, batch_size, per_call, placement
        )
        self._start = placement.copy(jnp.int32(0))
        arguments = (self._state, self._sums, self._data, self._keys, self._start)
        self._program = update.lower(*arguments).compile()
        self.compile_seconds = time.perf_counter() - began

    @property
    def state(self) -> Any:
        """The states of all members; the next call donates them."""
        return self._state

    def __call__(self) -> Any:
        self._state, self._sums = self._program(
            self._state, self._sums, self._data, self._keys, self._start
        )
        return self._sums


def make(name: str, settings: Mapping[str, Any] | None = None) -> Algorithm:
    """An algorithm with its defaults, "name" or "name-policy"; the persistent cache stays on."""
    enable_compilation_cache()
    algorithm, _, policy = name.partition("-")
    return make_algorithm(algorithm, dict(settings or {}) | ({"policy": policy} if policy else {}))


def device_name() -> str:
    """The folder name of this device: "nvidia-h100-80gb-hbm3", "amd-epyc-2-cores"."""
    device = describe_device()
    if device["platform"] != "cpu":
        return _as_folder(device["kind"])
    # the processor too, because two machines with as many cores differ
    return f"{_as_folder(processor())}-{device['cpu_cores']}-cores"


def _as_folder(name: str) -> str:
    """ "Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz" -> "intel-xeon-gold-6248"."""
    empty = r"\((r|tm|c)\)|\b(cpu|processor|\d+-core)\b|@.*"
    words = re.findall(r"[a-z0-9.]+", re.sub(empty, " ", name.lower()))
    return "-".join(words) or "cpu"


def processor() -> str:
    """The processor's name, as its system calls it."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(x for x in lines if x.startswith("model name")).partition(":")[2].strip()
    return platform.processor() or platform.machine()


def about() -> dict[str, Any]:
    """Device, precision, versions and commit, for every result."""
    precision = getattr(jax.config, "jax_default_matmul_precision", None) or "default"
    return {
        "device": describe_device() | {"processor": processor()},
        "matmul_precision": precision,
        "versions": versions(),
        "commit": commit(),
    }


def add(rows: list[dict[str, Any]], row: dict[str, Any]) -> None:
    """Adds a row and prints it."""
    rows.append(row)
    print(table([row]).splitlines()[-1], flush=True)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a Markdown table; lists and dicts in them are left out."""
    names = [k for k, v in rows[0].items() if not isinstance(v, (list, dict))]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(_cell(row.get(name)) for name in names) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def publish(
    name: str,
    title: str,
    rows: Sequence[Mapping[str, Any]],
    json_path: str = "",
    draw: Callable[[Any, Sequence[Mapping[str, Any]]], None] | None = None,
    notes: str = "",
    show: bool = True,
) -> None:
    """Writes NAME.json, NAME.md and NAME.png and prints the table.

    Args:
      name: name of the files.
      title: title of table and picture.
      rows: rows of the table; lists in them (every repetition) are in the JSON only.
      json_path: path of the JSON, beside the other files; "": results/<device>/NAME.json.
      draw: (axes, rows) -> None; None: no picture.
      notes: text below the table.
      show: whether to print the table.
    """
    path = result_path(name, json_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = about()
    write_json(path, {"benchmark": name, "title": title, **facts, "rows": list(rows)})
    device = facts["device"]
    where = f"{device['devices']} x {device['kind']}, {device['cpu_cores']} CPU cores"
    where += f" ({device['processor']})"
    where += f"; jax {facts['versions']['jax']}, matmul precision {facts['matmul_precision']}"
    text = f"## {title}\n\n{where}\n\n{table(rows)}\n" + (f"\n{notes}\n" if notes else "")
    path.with_suffix(".md").write_text(text)
    if show:
        print(text)
    if draw is not None:
        _draw(path.with_suffix(".png"), title, where, draw, rows)


def bars(
    axes: Any, labels: Sequence[str], series: Mapping[str, Sequence[float]], form: str, unit: str
) -> None:
    """Draws horizontal bars, one group for each label: {name of a series: its values}."""
    width = 0.8 / len(series)
    for i, (name, values) in enumerate(series.items()):
        places = [row + i * width for row in range(len(labels))]
        drawn = axes.barh(places, values, 0.95 * width, label=name)
        axes.bar_label(drawn, fmt=form, fontsize=8, padding=2)
    axes.set_yticks([row + (len(series) - 1) * width / 2 for row in range(len(labels))], labels)
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=8)


def _draw(path: Path, title: str, where: str, draw: Any, rows: Any) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    axes = figure.subplots()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    draw(axes, rows)
    axes.set_title(f"{title}\n", loc="left", fontsize=11, fontweight="bold")
    axes.text(0, 1.02, where, transform=axes.transAxes, fontsize=7, color="#666666")
    figure.savefig(path, dpi=130)


def result_path(name: str, json_path: str = "") -> Path:
    """Where `publish` writes the JSON."""
    return Path(json_path) if json_path else RESULTS / device_name() / f"{name}.json"


def read(path: str | Path) -> dict[str, Any]:
    """A result that `publish` wrote."""
    return json.loads(Path(path).read_text())


def rows_so_far(name: str, json_path: str = "") -> list[dict[str, Any]]:
    """Rows of the same device, versions and commit, from a benchmark that was cut off."""
    path = result_path(name, json_path)
    if not path.is_file():
        return []
    found = read(path)
    return found["rows"] if all(found[key] == value for key, value in about().items()) else []
