"""Trains several algorithms on one task with the same data, updates and seeds.

    python -m experiments.compare --env=pointmaze-medium --updates=6000 --out=runs/compare

Each algorithm is a run of its own in a folder below --out. Finished runs are not repeated, so an
interrupted comparison resumes. "bc-ddpm" is BC with the policy field set to "ddpm". Algorithms
with a pretraining phase (DTQL, DQL-KL) make a sixth of their updates in it.
"""

import json
import statistics
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
from absl import flags

from dtql_jax.commands import cli, runner
from dtql_jax.commands.tables import plus_minus
from dtql_jax.presets import get_config, has_pretraining
from dtql_jax.training.logging import read_rows
from experiments import study

DEFAULT = ["dtql", "dql", "dql_kl", "idql", "iql", "bc", "bc-ddpm"]
COLUMNS: dict[str, study.Column] = {
    "algorithm": "algorithm",
    "success %": lambda row: plus_minus(row["success %"], row["standard error"]),
    "steps to goal": "steps to goal:.0f",
    "training s": "training s:.0f",
    "updates/s": "updates/s:.1f",
    "one action ms": "one action ms:.1f",
    "100 actions ms": "100 actions ms:.0f",
}


def define(argv: list[str]) -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("env", "pointmaze-medium", "Task; a maze, for its steps to the goal.")
    flags.DEFINE_list("algorithms", DEFAULT, "Algorithms, with -POLICY for another policy form.")
    flags.DEFINE_integer("updates", 6_000, "Updates of each, pretraining included.")
    flags.DEFINE_integer("seeds", 1, "Seeds of each.")
    flags.DEFINE_integer("episodes", 100, "Episodes of each seed with the last checkpoint.")
    flags.DEFINE_string("out", "runs/compare", "Folder of the runs and the table.")
    cli.define_display()


def configuration(name: str) -> Any:
    """Returns the configuration of one algorithm of the comparison."""
    values = flags.FLAGS
    algorithm, _, policy = name.partition("-")
    config: Any = get_config(f"{values.env},auto,{algorithm}")
    if policy:
        config.algorithm.policy = policy
    config.seeds, config.final_eval_episodes = values.seeds, values.episodes
    config.pretrain_steps = values.updates // 6 if has_pretraining(algorithm) else 0
    config.train_steps = values.updates - config.pretrain_steps
    config.eval_every = config.train_steps  # only the last checkpoint is compared
    return config


def acting_milliseconds(path: Path) -> tuple[float, float]:
    """Returns the median times of choosing 1 and 100 actions, compilation apart."""
    run = json.loads((path / "run.json").read_text())
    sample = study.sample_of(run["dataset"])
    # the time does not depend on the parameters, so one untrained member is measured
    policy = runner.make_trainer(run["config"] | {"seeds": 1}, sample).policy()

    def milliseconds(batch: int) -> float:
        observations = np.zeros((1, batch, sample.observations.shape[1]), np.float32)
        numbers = np.zeros((1, batch), np.int32)
        return 1e3 * study.median_seconds(lambda: policy(observations, numbers, numbers), 10)

    return milliseconds(1), milliseconds(100)


def row_of(name: str, path: Path, summary: dict[str, Any]) -> dict[str, Any]:
    """Returns one row of the table, from a finished run."""
    lengths = [int(r["length"]) for r in read_rows(path / "episodes.csv") if r["success"] == "1"]
    training = summary["seconds"]["train"] + summary["seconds"].get("pretrain", 0.0)
    one_action, hundred_actions = acting_milliseconds(path)
    return {
        "algorithm": name,
        "success %": summary["score_mean"],
        "standard error": summary["score_standard_error"],
        "steps to goal": statistics.mean(lengths) if lengths else None,
        "training s": training,
        "updates/s": (summary["updates"] + summary["pretrain_updates"]) / training,
        "one action ms": one_action,
        "100 actions ms": hundred_actions,
    } | {key: summary[key] for key in ("acting", "dataset_id", "device", "versions", "commit")}


def run() -> None:
    """Trains all algorithms and writes the table."""
    values = flags.FLAGS
    given = {name: int(values[name].value or 0) for name in ("updates", "seeds", "episodes")}
    study.check_least(given, "--", updates=12, seeds=1, episodes=1)
    configs: dict[str, ml_collections.ConfigDict] = {n: configuration(n) for n in values.algorithms}
    plain = {name: config.to_dict() for name, config in configs.items()}
    with study.Study("comparing", plain, ", ".join(configs), f"on {values.env}") as s:
        summaries = {name: s.train(s.out / name, config) for name, config in configs.items()}
        s.display.start("measure acting")
        rows = [row_of(name, s.out / name, summary) for name, summary in summaries.items()]
        first = summaries[rows[0]["algorithm"]]
        about = (
            f"{values.env}, data {first['dataset_id']} (source {first['source']}), "
            f"{values.updates:,} updates of batch {plain[rows[0]['algorithm']]['batch_size']}, "
            f"{values.seeds} seed(s) x {values.episodes} episodes, last checkpoint, "
            f"{first['device']['kind']} ({first['device']['cpu_cores']} cores)"
        )
        text = f"{about}\n\n{study.table(COLUMNS, rows)}"
        s.write(text, {"head": about, "rows": rows}, {})


if __name__ == "__main__":
    cli.launch(run, __doc__, define, live=True)
