"""Trains several algorithms on one task with the same data, updates and seeds; draws up a table.

    python -m experiments.compare --env=pointmaze-medium --updates=6000 --out=runs/compare

Each algorithm is a run of its own in a folder below --out; those that have ended are not repeated,
so a comparison that was stopped goes on. "bc-ddpm" is BC with the policy field set to "ddpm".
Training with a phase before the policy's (DTQL, DQL-KL) has a sixth of the updates in it.
"""

import json
import statistics
import time
from pathlib import Path
from typing import Any

from absl import flags

from dtql_jax.commands import cli
from dtql_jax.errors import UserError
from dtql_jax.presets import get_config, has_pretraining

DEFAULT = ["dtql", "dql", "dql_kl", "idql", "iql", "bc", "bc-ddpm"]
COLUMNS = (
    "algorithm",
    "success %",
    "steps to goal",
    "training s",
    "updates/s",
    "one action ms",
    "100 actions ms",
)


def define(argv: list[str]) -> None:
    """The flags of this command."""
    flags.DEFINE_string("env", "pointmaze-medium", "Task; a maze, for its steps to the goal.")
    flags.DEFINE_list("algorithms", DEFAULT, "Algorithms, with -POLICY for another policy form.")
    flags.DEFINE_integer("updates", 6_000, "Updates of each, pretraining included.")
    flags.DEFINE_integer("seeds", 1, "Seeds of each.")
    flags.DEFINE_integer("episodes", 100, "Episodes of each seed with the last checkpoint.")
    flags.DEFINE_string("out", "runs/compare", "Folder of the runs and the table.")
    cli.define_display()


def configuration(name: str) -> Any:
    """The configuration of one algorithm of the comparison."""
    values = flags.FLAGS
    algorithm, _, policy = name.partition("-")
    config = get_config(f"{values.env},auto,{algorithm}")
    if policy:
        config.algorithm.policy = policy
    config.seeds, config.final_eval_episodes = values.seeds, values.episodes
    config.pretrain_steps = values.updates // 6 if has_pretraining(algorithm) else 0
    config.train_steps = values.updates - config.pretrain_steps
    config.eval_every = config.train_steps  # only the last checkpoint is compared
    return config


def acting_milliseconds(path: Path) -> tuple[float, float]:
    """Median times of choosing 1 and 100 actions as an evaluation does, compilation apart."""
    import numpy as np

    from dtql_jax.commands import runner
    from dtql_jax.types import Transition

    run = json.loads((path / "run.json").read_text())
    config, dataset = run["config"] | {"seeds": 1}, run["dataset"]
    observation = np.zeros((1, dataset["observation_dim"]), np.float32)
    action = np.zeros((1, dataset["action_dim"]), np.float32)
    one = np.zeros(1, np.float32)
    data = Transition(observation, action, observation, one, one)
    # the time does not depend on the parameters: a fresh policy will do
    policy = runner.make_trainer(config, data).policy()
    medians = []
    for batch in (1, 100):
        rows = (np.zeros((1, batch, observation.shape[1]), np.float32),)
        rows += (np.zeros((1, batch), np.int32),) * 2
        times = []
        for _ in range(11):
            began = time.perf_counter()
            policy(*rows)
            times.append(time.perf_counter() - began)
        medians.append(1e3 * statistics.median(times[1:]))
    return medians[0], medians[1]


def row(name: str, path: Path) -> dict[str, Any]:
    """One row of the table, from a run that has ended."""
    from dtql_jax.training.logging import read_rows

    summary = json.loads((path / "summary.json").read_text())
    lengths = [int(r["length"]) for r in read_rows(path / "episodes.csv") if r["success"] == "1"]
    training = summary["seconds"]["train"] + summary["seconds"].get("pretrain", 0.0)
    updates = summary["updates"] + summary["pretrain_updates"]
    one_action, hundred_actions = acting_milliseconds(path)
    return {
        "algorithm": name,
        "success %": summary["score_mean"],
        "standard error": summary["score_standard_error"],
        "steps to goal": statistics.mean(lengths) if lengths else None,
        "training s": training,
        "updates/s": updates / training,
        "one action ms": one_action,
        "100 actions ms": hundred_actions,
        "acting": summary["acting"],
        "dataset_id": summary["dataset_id"],
        "device": summary["device"],
        "versions": summary["versions"],
        "commit": summary["commit"],
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for entry in rows:
        error = entry["standard error"]
        steps = entry["steps to goal"]
        cells = [
            entry["algorithm"],
            f"{entry['success %']:.1f}" + (f" ± {error:.1f}" if error is not None else ""),
            "-" if steps is None else f"{steps:.0f}",
            f"{entry['training s']:.0f}",
            f"{entry['updates/s']:.1f}",
            f"{entry['one action ms']:.1f}",
            f"{entry['100 actions ms']:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def run() -> int:
    """The command."""
    values = flags.FLAGS
    for name, least in (("updates", 12), ("seeds", 1), ("episodes", 1)):
        if values[name].value < least:
            raise UserError(f"--{name} is {values[name].value}; expected at least {least}")
    configurations = {name: configuration(name) for name in values.algorithms}
    out = Path(values.out)
    display = cli.open_display("comparing", ", ".join(configurations), f"on {values.env}")
    with display, cli.stop_requested() as should_stop:
        from dtql_jax.commands import runner
        from dtql_jax.training.run_folder import write_json

        for name, config in configurations.items():
            path = out / name
            if (path / "summary.json").exists():
                display.say(f"{name}: has ended already, in {path}")
                continue
            if (path / "run.json").exists():
                finished = runner.resume(path, display, should_stop)
            else:
                finished = runner.start(config, path, display, should_stop)
            if not finished:
                return cli.STOPPED
        display.start("measure", len(configurations), unit="algorithms")
        rows = []
        for name in configurations:
            rows.append(row(name, out / name))
            display.advance(len(rows))
    head = (
        f"{values.env}, data {rows[0]['dataset_id']} (generated here, not D4RL's), "
        f"{values.updates:,} updates of batch {configurations[rows[0]['algorithm']].batch_size}, "
        f"{values.seeds} seed(s) x {values.episodes} episodes, last checkpoint, "
        f"{rows[0]['device']['kind']} ({rows[0]['device']['cpu_cores']} cores)"
    )
    text = f"{head}\n\n{table(rows)}\n"
    (out / "table.md").write_text(text)
    write_json(out / "table.json", {"head": head, "rows": rows})
    print(text)
    return 0


if __name__ == "__main__":
    cli.launch(run, __doc__, define, live=True)
