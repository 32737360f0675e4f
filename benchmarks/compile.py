"""How long a run compiles: with nothing compiled before, and with the persistent cache filled.

    python -m benchmarks.compile --algorithms=dtql,dql

The times are those that a whole training command reports as "init" and "compile", in a process of
its own with one update of each kind. The first of two commands has an empty cache folder, the
second the folder that the first one filled.
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
    rows: list[dict[str, Any]] = []
    for batch_size in map(int, values.batch_sizes):
        for name in values.algorithms:
            row: dict[str, Any] = {"algorithm": name, "batch": batch_size}
            with tempfile.TemporaryDirectory() as cache:
                for which in ("cold", "cached"):
                    parts = seconds(values.env, name, batch_size, cache)
                    row[f"{which} init s"], row[f"{which} compile s"] = (
                        parts[part] for part in ("init", "compile")
                    )
            measure.add(rows, row)
    measure.publish("compile", "Compilation of a run", rows, values.json, _draw)


def _draw(axes: Any, rows: Any) -> None:
    from benchmarks import measure

    series = {
        which: [row[f"{which} init s"] + row[f"{which} compile s"] for row in rows]
        for which in ("cold", "cached")
    }
    labels = [f"{row['algorithm']}, {row['batch']}" for row in rows]
    measure.bars(axes, labels, series, "{:.1f}", "seconds")


if __name__ == "__main__":
    cli.launch(run, __doc__, define)
