"""Scores on the paper's tasks, beside the paper's own where they are comparable.

    python -m experiments.paper_table                                # generated data, CPU budgets
    python -m experiments.paper_table --preset=paper --source=d4rl   # Table 1: 20 tasks x 5 seeds
    python -m experiments.paper_table --tasks=antmaze-umaze,gym --behaviour_policy=FILE.npz
    python -m experiments.paper_table --preset=paper --dry_run       # only estimates the time
    python -m experiments.paper_table --runs=FOLDER,FOLDER --out=results    # only draws the table

Each task and algorithm is a run of its own in --folder; its data is collected first if it has to
be. Finished runs are not repeated: the same command resumes an interrupted table, and more tasks
may be added. With --runs nothing is trained: every finished run in those folders, of any size,
becomes a row. Writes table.md, table.json, table.png (learning curves) and run.json into --out.
"""

from pathlib import Path
from typing import Any

from absl import flags

from dtql_jax.commands import cli
from dtql_jax.errors import UserError
from experiments import study
from experiments.paper_table import estimate, figure, plan, results, table
from experiments.paper_table.settings import get_config


def define(argv: list[str]) -> None:
    """Defines the flags of this command."""
    preset = cli.value_of(argv, "preset") or "cpu"
    study.define(argv, lambda: get_config(preset), None)
    flags.DEFINE_string("preset", "cpu", "Size: cpu (budgets for two cores) or paper.")
    flags.DEFINE_list("tasks", [], "Tasks and groups (gym, antmaze, adroit, kitchen, paper).")
    flags.DEFINE_list("algorithms", [], "Of every task; by default those of the configuration.")
    flags.DEFINE_integer("seeds", None, "Seeds of each, one population (config.seeds).")
    flags.DEFINE_string("source", "generated", "Data: generated, minari or d4rl.")
    flags.DEFINE_string("d4rl_dir", "", "Folder of D4RL's HDF5 files.")
    flags.DEFINE_string(
        "behaviour_policy", "", "FILE.npz that collects AntMaze's data; by default the package's."
    )
    flags.DEFINE_string("folder", None, "Folder of the runs; by default runs/table-PRESET.")
    flags.DEFINE_list("runs", [], "Folders with finished runs; shows them and trains nothing.")
    flags.DEFINE_boolean("dry_run", False, "Only say what would be run and how long it takes.")


def run() -> int:
    """Trains the missing runs and writes the table."""
    values, config = flags.FLAGS, flags.FLAGS.config
    if values.runs:
        rows = results.read_runs(values.runs)
        out = values.out or "results"
        with study.Study("the paper's table", {"runs": len(rows)}, out=out) as s:
            _write(s, rows, {})
        return 0
    if values.seeds is not None:
        config.seeds = values.seeds
    if values.behaviour_policy and not Path(values.behaviour_policy.split(",")[0]).is_file():
        raise UserError(f"--behaviour_policy: no file {values.behaviour_policy}")
    folder = Path(values.folder or f"runs/table-{config.preset}")
    # scores of the small budget are no results: they stay beside their runs
    out = values.out or ("results" if config.preset == "paper" else str(folder))
    runs, absent = plan.plan_runs(
        config,
        source=values.source,
        tasks=values.tasks,
        algorithms=values.algorithms,
        d4rl_dir=values.d4rl_dir,
        behaviour_policy=values.behaviour_policy,
    )
    for one in runs:
        plan.check_same(one, folder / one.folder)
    pending = [one for one in runs if not (folder / one.folder / "summary.json").exists()]
    remarks = {"Not available": [f"{task}: {reason}" for task, reason in absent.items()]}
    with study.Study("the paper's table", config.to_dict(), values.source, out=out) as s:
        s.display.say(f"{len(runs)} runs in {folder}, {len(runs) - len(pending)} of them finished")
        for line in remarks["Not available"]:
            s.display.say(f"left out: {line}")
        if values.dry_run:
            s.display.start("measure")
            for line in estimate.lines(pending, estimate.costs(pending, s.display.say)):
                s.display.result(line)
            return 0
        failed: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)
        try:
            s.train_all([(folder / one.folder, one.config, None) for one in pending], failed)
        finally:  # the table is written too when the user stops the command
            _write(s, results.read_runs([folder]), remarks | {"Failed": failed})
    return cli.STUCK if failed else 0


def _write(s: study.Study, rows: list[dict[str, Any]], remarks: dict[str, list[str]]) -> None:
    figures = {"table.png": lambda path: figure.draw(rows, path)} if rows else {}
    about = {"conclusions": table.conclusions(rows), "rows": rows}
    s.write(table.markdown(rows, remarks), about, figures)


if __name__ == "__main__":
    cli.launch(run, __doc__, define, live=True)
