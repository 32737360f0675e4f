"""The paper's 2D bandits: trust region against KL, in one figure and one table.

    python -m experiments.bandits --out=results/bandits
    python -m experiments.bandits --full                 (the paper's full batch; hours on a CPU)
    python -m experiments.bandits --animate              (the same over training, as a GIF)

Writes bandits.png, table.md, table.json, run.json and samples.npz. What samples.npz already holds
of the same configuration is not trained again: a study that was stopped goes on.
"""

import time
from pathlib import Path

from absl import flags

from dtql_jax.commands import cli
from dtql_jax.errors import UserError
from experiments.bandits import settings as bandits_config


def define(argv: list[str]) -> None:
    """The flags of this command."""
    cli.define_own_config(argv, bandits_config.get_config)
    flags.DEFINE_string("out", "", "Folder; by default results/bandits or results/bandits-full.")
    flags.DEFINE_boolean("full", False, "All of the data in each update (config.batch_size=0).")
    flags.DEFINE_boolean("animate", False, "Draw bandits.gif too.")
    flags.DEFINE_integer("frames", 24, "Pictures in bandits.gif.")
    cli.define_display()


def run() -> None:
    """The command."""
    values = flags.FLAGS
    if values.full:
        values.config.batch_size = 0
    config = values.config.to_dict()
    from dtql_jax.training.device import (
        describe_device,
        enable_compilation_cache,
        use_cpu_cores,
    )
    from dtql_jax.training.progress import duration
    from dtql_jax.training.run_folder import commit, versions, write_json
    from experiments.bandits import figures, panels

    panels.check(config)
    if values.frames < 2:
        raise UserError(f"--frames is {values.frames}; expected at least 2")
    bandits = panels.make_bandits(config)
    out = Path(values.out or ("results/bandits-full" if values.full else "results/bandits"))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out={out} cannot be made: {error.strerror}") from error
    display, kept = cli.open_display("2D bandits"), out / "samples.npz"
    trained = panels.load(kept, config)
    if len(trained) == len(panels.ROWS) * len(bandits):
        display.say(f"{kept} is of this configuration: drawn from it, not trained again")
    else:
        batch = config["batch_size"] or f"all {config['points']:,}"
        display.say(f"{2 * len(bandits)} panels, batches of {batch}; compiling")
        use_cpu_cores()
        enable_compilation_cache()
        began = time.monotonic()
        started = False

        def say(done: int, total: int) -> None:
            nonlocal started
            if not started:
                display.start("train", total, unit="updates")
            started = True
            display.advance(done)

        with display:
            trained = panels.train(config, bandits, kept, say)
        seconds = time.monotonic() - began
        about = {
            "config": config,
            "seconds": seconds,
            "device": describe_device(),
            "versions": versions(),
            "commit": commit(),
        }
        write_json(out / "run.json", about)
        display.say(f"trained in {duration(seconds)}")
    rows = panels.table(config, bandits, trained)
    text = panels.markdown(rows)
    (out / "table.md").write_text(text + "\n")
    write_json(out / "table.json", {"rows": rows})
    with display:
        display.start("pictures")
        figures.figure(config, bandits, trained, out / "bandits.png")
        if values.animate:
            figures.animation(config, bandits, trained, out / "bandits.gif", frames=values.frames)
    print(text)
    for name in ("bandits.png", *["bandits.gif"] * values.animate, "table.md", "table.json"):
        display.say(f"  {out / name}")


if __name__ == "__main__":
    cli.launch(run, __doc__, define, live=True)
