"""The trust-region loss against -log p(a|s) where that is known: EDM's weight beside the ELBO's.

    python -m experiments.theory --out=results/theory

A one-dimensional mixture of Gaussians in one state; denoisers trained with either weight, and the
exact one in closed form; DTQL's trust-region loss of each over a grid of actions. Writes
theory.png, table.md, table.json (with all curves) and run.json.
"""

import time
from pathlib import Path

from absl import flags

from dtql_jax.commands import cli
from dtql_jax.errors import UserError
from experiments.theory import settings as theory_config


def define(argv: list[str]) -> None:
    """The flags of this command."""
    cli.define_own_config(argv, theory_config.get_config)
    flags.DEFINE_string("out", "results/theory", "Folder.")
    cli.define_display()


def run() -> None:
    """The command."""
    values = flags.FLAGS
    config = values.config.to_dict()
    from dtql_jax.training.device import (
        describe_device,
        enable_compilation_cache,
        use_cpu_cores,
    )
    from dtql_jax.training.progress import duration
    from dtql_jax.training.run_folder import commit, versions, write_json
    from experiments.theory import figures, mixture, study

    study.check(config)
    data = mixture.make(config["mixture"])
    out = Path(values.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out={out} cannot be made: {error.strerror}") from error
    display = cli.open_display("theory")
    display.say(f"2 x {config['seeds']} denoisers of {config['train_steps']:,} updates; compiling")
    use_cpu_cores()
    enable_compilation_cache()
    began = time.monotonic()
    with display:
        display.start("train", 2 * config["train_steps"], unit="updates")
        found = study.compute(config, data, lambda done, total: display.advance(done))
    seconds = time.monotonic() - began
    rows = study.table(config, data, found)
    text = study.markdown(rows)
    about = study.describe(config, data)
    (out / "table.md").write_text(f"{about}\n\n{text}\n")
    curves = [
        {"weights": c.weights, "seed": c.seed, "nats": [round(float(x), 5) for x in c.values]}
        for c in found
    ]
    write_json(out / "table.json", {"about": about, "rows": rows, "curves": curves})
    write_json(
        out / "run.json",
        {
            "config": config,
            "seconds": seconds,
            "device": describe_device(),
            "versions": versions(),
            "commit": commit(),
        },
    )
    figures.figure(config, data, found, out / "theory.png")
    print(f"{about}\n\n{text}")
    display.say(f"computed in {duration(seconds)}")
    for name in ("theory.png", "table.md", "table.json", "run.json"):
        display.say(f"  {out / name}")


if __name__ == "__main__":
    cli.launch(run, __doc__, define)
