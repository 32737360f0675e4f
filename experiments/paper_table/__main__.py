"""The paper's table: every task and algorithm, five seeds each, beside the paper's scores.

    python -m experiments.paper_table                                # generated data, CPU budgets
    python -m experiments.paper_table --preset=paper --source=d4rl   # Table 1: 20 tasks x 5 seeds
    python -m experiments.paper_table --tasks=antmaze-umaze,gym --behaviour_policy=FILE.npz
    python -m experiments.paper_table --preset=paper --dry_run       # only says how long it takes
    python -m experiments.paper_table --draw                         # the table of what has ended

Each task and algorithm is a run of its own below --out, for which the data is collected first
where it has to be. What has ended is not repeated: a table that was cut off goes on by the same
command, and more tasks may be added. The table lies in --results after each run.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from dtql_jax.commands import cli
from dtql_jax.errors import UserError
from experiments.paper_table.settings import get_config

if TYPE_CHECKING:
    from dtql_jax.training.progress import Progress
    from experiments.paper_table.cells import Cell


def define(argv: list[str]) -> None:
    """The flags of this command."""
    flags.DEFINE_string("preset", "cpu", "Size: cpu (budgets for two cores), or paper.")
    flags.DEFINE_list("tasks", [], "Tasks and groups (gym, antmaze, adroit, kitchen, paper).")
    flags.DEFINE_list("algorithms", [], "Of every task; by default those of the configuration.")
    flags.DEFINE_integer("seeds", None, "Seeds of each, one population (config.seeds).")
    flags.DEFINE_string("source", "generated", "Data: generated, minari or d4rl.")
    flags.DEFINE_string("d4rl_dir", "", "Folder of D4RL's HDF5 files.")
    flags.DEFINE_string(
        "behaviour_policy", "", "FILE.npz that collects AntMaze's data; by default one comes along."
    )
    flags.DEFINE_string("out", None, "Folder of the runs; by default runs/table-PRESET.")
    flags.DEFINE_string("results", "results", "Folder of table.md, table.json and table.png.")
    flags.DEFINE_boolean("dry_run", False, "Only say what would be run and how long it takes.")
    flags.DEFINE_boolean("draw", False, "Only draw the table of what has ended.")
    flags.DEFINE_boolean("estimate", True, "Measure first how long it takes.")
    cli.define_own_config(argv, lambda: get_config(cli.value_of(argv, "preset") or "cpu"))
    cli.define_display()


def run() -> int:
    """The command."""
    values, config = flags.FLAGS, flags.FLAGS.config
    if values.seeds is not None:
        config.seeds = values.seeds
    if values.behaviour_policy and not Path(values.behaviour_policy.split(",")[0]).is_file():
        raise UserError(f"--behaviour_policy: no file {values.behaviour_policy}")
    out = Path(values.out or Path("runs") / f"table-{config.preset}")
    display = cli.open_display("the paper's table", f"preset {config.preset}", values.source)
    with display, cli.stop_requested() as should_stop:
        from dtql_jax.training.device import use_cpu_cores
        from experiments.paper_table import estimate, table
        from experiments.paper_table.cells import check_same, make_cells

        use_cpu_cores()  # before the estimate computes anything
        cells, absent = make_cells(
            config,
            source=values.source,
            tasks=values.tasks,
            algorithms=values.algorithms,
            d4rl_dir=values.d4rl_dir,
            behaviour_policy=values.behaviour_policy,
        )
        if values.draw:
            print(table.write(out, Path(values.results), planned=cells, absent=absent))
            return 0
        for cell in cells:
            check_same(cell, out / cell.folder)
        pending = [c for c in cells if not (out / c.folder / "summary.json").exists()]
        display.say(f"{len(cells)} runs in {out}, {len(cells) - len(pending)} of them have ended")
        for task, reason in absent.items():
            display.say(f"{task} is left out: {reason}")
        if pending and (values.estimate or values.dry_run):
            display.start("measure")
            found = estimate.costs(pending, out, display.say)
            for line in estimate.lines(pending, found):
                display.result(line)
        if values.dry_run:
            return 0

        code, failed = 0, {}

        def draw() -> str:
            about = {"planned": cells, "absent": absent, "failed": failed}
            return table.write(out, Path(values.results), **about)

        for number, cell in enumerate(pending, 1):
            display.say(f"run {number} of {len(pending)}: {cell.folder}")
            try:
                if not _train(cell, out / cell.folder, display, should_stop):
                    draw()
                    return cli.STOPPED
            except cli.StuckError as error:
                # the others go on; the same command tries this one again
                code, failed[cell.folder] = cli.STUCK, str(error)
                display.warn(f"{cell.folder}: {error}")
            draw()
        text = draw()
        display.say(f"table: {Path(values.results) / 'table.md'}")
    print(text)
    return code


def _train(
    cell: "Cell", folder: Path, display: "Progress", should_stop: Callable[[], bool]
) -> bool:
    """One run from where it is to its end; False if it was stopped before."""
    import gc

    import jax

    from dtql_jax.commands import runner

    try:
        if (folder / "run.json").exists():
            return runner.resume(folder, display, should_stop)
        return runner.start(cell.config, folder, display, should_stop)
    finally:
        # the programs and arrays of a run that has ended: the next one needs the room
        jax.clear_caches()
        gc.collect()


if __name__ == "__main__":
    cli.launch(run, __doc__, define, live=True)
