"""How long a run compiles: with nothing compiled before, and with the persistent cache filled.

    python -m benchmarks.compile --algorithms=dtql,dql

Each figure is of a whole training command in a process of its own, with one update of each kind:
what it names "init" and "compile". The first of two has an empty cache folder, the second what the
first left. The cache lies in ~/.cache/dtql_jax/xla ($DTQL_JAX_CACHE).
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from absl import flags

from dtql_jax.commands import cli
from dtql_jax.errors import UserError


def define(argv: list[str]) -> None:
    """The flags of this command."""
    flags.DEFINE_string("env", "pointmaze-umaze", "Task.")
    flags.DEFINE_list("algorithms", ["dtql", "dql", "idql"], "Whose runs.")
    flags.DEFINE_list("batch_sizes", ["256", "2048"], "Transitions in a batch.")
    flags.DEFINE_string("json", "", "File; by default benchmarks/results/<device>/compile.json.")


def seconds(env: str, algorithm: str, batch_size: int, cache: str) -> dict[str, float]:
    """Seconds by part of one training command whose compiled programs are kept in `cache`."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        settings = {
            "batch_size": batch_size,
            "pretrain_steps": 1,
            "train_steps": 1,
            "eval_every": 1,
            "eval_episodes": 1,
            "final_eval_episodes": 1,
            "record_episodes": 0,
        }
        command = [sys.executable, "-m", "dtql_jax", "train", f"--env={env}", f"--out={out}"]
        command += [f"--algorithm={algorithm}", "--quiet"]
        command += [f"--config.{name}={value}" for name, value in settings.items()]
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise UserError(f"{' '.join(command)} failed: {done.stderr.strip()}")
        return json.loads((out / "summary.json").read_text())["seconds"]


def run() -> None:
    """The command."""
    from benchmarks import measure

    values = flags.FLAGS
    rows = []
    for batch_size in map(int, values.batch_sizes):
        for name in values.algorithms:
            row: dict[str, Any] = {"algorithm": name, "batch": batch_size}
            with tempfile.TemporaryDirectory() as cache:
                for which in ("cold", "cached"):
                    parts = seconds(values.env, name, batch_size, cache)
                    row[f"{which} init s"], row[f"{which} compile s"] = (
                        parts[part] for part in ("init", "compile")
                    )
            rows.append(row)
            print(measure.table(rows[-1:]).splitlines()[-1], flush=True)
    measure.publish("compile", "Compilation of a run", rows, values.json, _draw)


def _draw(axes: Any, rows: Any) -> None:
    labels = [f"{row['algorithm']}, {row['batch']}" for row in rows]
    for shift, which, colour in ((0.0, "cold", "#2a6fbb"), (0.38, "cached", "#d98c2b")):
        values = [row[f"{which} init s"] + row[f"{which} compile s"] for row in rows]
        bars = axes.barh([i + shift for i in range(len(rows))], values, 0.36, color=colour)
        axes.bar_label(bars, fmt="{:.1f}", fontsize=7, padding=2)
        bars.set_label(which)
    axes.set_yticks([i + 0.19 for i in range(len(labels))], labels)
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    axes.legend(frameon=False)


if __name__ == "__main__":
    cli.launch(run, __doc__, define)
