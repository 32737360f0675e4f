"""The paper's 2D bandits: trust region against KL over a population of seeds.

    python -m experiments.bandits --out=results/bandits
    python -m experiments.bandits --full      (8 seeds, and one cause at a time)

Trains 2 seeds with the authors' settings, and the project's own setting on the same networks.
Writes bandits.png, table.md, table.json and run.json. A study that was stopped continues with the
parts that are kept in OUT/cells.
"""

from absl import flags

from dtql_jax.commands import cli
from experiments import study
from experiments.bandits import settings


def define(argv: list[str]) -> None:
    """Defines the flags of this command."""
    study.define(argv, settings.get_config, "results/bandits")
    flags.DEFINE_boolean("full", False, "8 seeds, and one cause at a time.")


def run() -> None:
    """Runs the command."""
    config, full = study.settings(), flags.FLAGS.full
    config["seeds"] = config["seeds"] or (settings.FULL_SEEDS if full else settings.SEEDS)
    if not full:
        config["cause_seeds"] = 0
    from experiments.bandits import figures, panels, report

    panels.check(config)
    with study.Study("2D bandits", config, f"{config['seeds']} seeds") as work:
        found = panels.compute(work, config)
        rows = report.rows(config, found)
        draw = {"bandits.png": lambda path: figures.draw(config, found, path)}
        work.write(report.text(config, rows), {"rows": rows}, draw)


if __name__ == "__main__":
    cli.launch(run, __doc__, define, live=True)
