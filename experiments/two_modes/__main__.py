"""Rewards with two equally good modes: DTQL beside DQL and IDQL, in a bandit and in a maze.

    python -m experiments.two_modes --out=results/two_modes

The bandit's reward is highest at two opposite corners of its data; the maze has two ways of equal
length, and its data takes each half the time. Writes two_modes.png, table.md, table.json, run.json
and samples.npz. What samples.npz already holds of the same settings is not trained again, so that a
study that was stopped goes on.
"""

import time
from pathlib import Path

from absl import flags

from dtql_jax.commands import cli
from dtql_jax.errors import UserError
from experiments.two_modes import settings as two_modes_config


def define(argv: list[str]) -> None:
    """The flags of this command."""
    cli.define_own_config(argv, two_modes_config.get_config)
    flags.DEFINE_string("out", "results/two_modes", "Folder.")
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
    from experiments.two_modes import corners, figures, ring, study

    study.check(config)
    out = Path(values.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out={out} cannot be made: {error.strerror}") from error
    use_cpu_cores()
    enable_compilation_cache()
    display, began = cli.open_display("two modes"), time.monotonic()
    with display:
        bandit, maze = corners.make(config["bandit"], config["seed"]), config["maze"]
        display.start("collect", maze["episodes"], unit="episodes")
        spec = ring.environment(maze["max_episode_steps"], maze["noise"])
        collection = ring.collect(spec, maze["episodes"], config["seed"], display.advance)
        display.say(f"maze: {len(collection.data.rewards):,} transitions collected")
        found = study.run(config, bandit, collection, out / "samples.npz", display)
    seconds = time.monotonic() - began
    rows = {
        "bandit": study.bandit_rows(config, bandit, found),
        "maze": study.maze_rows(config, collection, found),
    }
    text, about = study.markdown(**rows), study.describe(config, collection)
    (out / "table.md").write_text(f"{about}\n\n{text}\n")
    write_json(out / "table.json", {"about": about, **rows})
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
    figures.figure(config, bandit, collection, found, out / "two_modes.png")
    print(f"{about}\n\n{text}")
    display.say(f"done in {duration(seconds)}")
    for name in ("two_modes.png", "table.md", "table.json", "run.json"):
        display.say(f"  {out / name}")


if __name__ == "__main__":
    cli.launch(run, __doc__, define)
