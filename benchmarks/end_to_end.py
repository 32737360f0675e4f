"""Wall time of whole runs, part by part: data, init, compile, pretrain, train, evaluate.

python -m benchmarks.end_to_end --env=pointmaze-umaze --algorithms=dtql,dql,idql --updates=2000
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from absl import flags

from dtql_jax.commands import cli

PARTS = ("data", "init", "compile", "pretrain", "train", "evaluate", "checkpoint")


def define(argv: list[str]) -> None:
    """The flags of this command."""
    flags.DEFINE_string("env", "pointmaze-umaze", "Task.")
    flags.DEFINE_list("algorithms", ["dtql", "dql", "idql"], "Whose runs.")
    flags.DEFINE_integer("updates", 1_000, "Training updates of each.")
    flags.DEFINE_integer("episodes", 20, "Evaluated at the end.")
    flags.DEFINE_integer("seeds", 1, "Members trained at once.")
    flags.DEFINE_string("json", "", "File; by default benchmarks/results/<device>/end_to_end.json.")


def run() -> None:
    """The command."""
    from benchmarks import measure
    from dtql_jax.commands import runner
    from dtql_jax.presets import get_config
    from dtql_jax.training.device import use_cpu_cores
    from dtql_jax.training.progress import Progress

    values = flags.FLAGS
    use_cpu_cores()
    rows: list[dict[str, Any]] = []
    for name in values.algorithms:
        config = get_config(f"{values.env},auto,{name}")
        config.seeds, config.train_steps = values.seeds, values.updates
        config.eval_every = values.updates
        config.final_eval_episodes, config.record_episodes = values.episodes, 0
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            began = time.perf_counter()
            runner.start(config, out, Progress(quiet=True), lambda: False)
            wall = time.perf_counter() - began
            summary = json.loads((out / "summary.json").read_text())
        seconds = summary["seconds"]
        parts = {f"{part} s": seconds.get(part, 0.0) for part in PARTS}
        row = {
            "algorithm": name,
            "updates": summary["pretrain_updates"] + summary["updates"],
            "episodes": values.episodes,
            "wall s": wall,
            **parts,
            "evaluation %": 100 * seconds["evaluate"] / wall,
            summary["score_name"]: summary["score_mean"],
        }
        measure.add(rows, row)
    title = f"Whole runs on {values.env}"
    measure.publish("end_to_end", title, rows, values.json, _draw)


def _draw(axes: Any, rows: Any) -> None:
    labels = [row["algorithm"] for row in rows]
    left = [0.0] * len(rows)
    for part in PARTS:
        widths = [row[f"{part} s"] for row in rows]
        axes.barh(labels, widths, left=left, label=part)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    axes.legend(frameon=False, fontsize=8, ncols=7, loc="upper center", bbox_to_anchor=(0.5, -0.14))


if __name__ == "__main__":
    cli.launch(run, __doc__, define)
