"""Rewards with two equally good modes: DTQL beside DQL and IDQL, in a bandit and in a maze.

    python -m experiments.two_modes --out=results/two_modes

The bandit's reward is highest at two opposite corners of its data. The maze has two ways of equal
length, and its data takes each half the time. Writes two_modes.png, table.md, table.json and
run.json. Trained algorithms are kept in OUT/cells, so an interrupted study resumes.
"""

from collections.abc import Mapping
from typing import Any

from dtql_jax.algorithms import make_algorithm
from dtql_jax.commands import cli
from experiments import study
from experiments.two_modes import bandit, figures, maze
from experiments.two_modes.settings import NAMES, get_config

PARTS = {"bandit": bandit, "maze": maze}


def check(config: Mapping[str, Any]) -> None:
    """Raises UserError if a setting is out of range."""
    study.check_least(config, seed=0, seeds=1)
    for part, module in PARTS.items():
        module.check(config[part])
        for name, entry in config[part]["algorithms"].items():
            study.check_least(entry, f"{part}.algorithms.{name}.", pretrain_steps=0, train_steps=1)
            make_algorithm(name, dict(entry["settings"]))


def cell_settings(config: Mapping[str, Any], part: str, name: str) -> dict[str, Any]:
    """Returns all settings that the result of one algorithm depends on."""
    own = {key: value for key, value in config[part].items() if key != "algorithms"}
    own["entry"] = config[part]["algorithms"][name]
    return own | {key: config[key] for key in ("seed", "seeds")}


def describe(config: Mapping[str, Any], collection: maze.Collection) -> str:
    """Returns the setup in a few sentences."""
    corners, ring = config["bandit"], config["maze"]
    entries = [*corners["algorithms"].values(), *ring["algorithms"].values()]
    widths = sorted({entry["settings"]["hidden_dim"] for entry in entries})
    return (
        f"{config['seeds']} seeds of each algorithm, networks of width "
        f"{', '.join(map(str, widths))}. "
        f"Bandit: {corners['points']:,} actions, batches of {corners['batch_size']}, "
        f"{corners['samples']:,} samples a seed. "
        f"Maze: {len(collection.data.rewards):,} transitions of {ring['episodes']} episodes "
        f"of the planner (collected here, not D4RL's), batches of {ring['batch_size']}, "
        f"{ring['eval_episodes']} episodes a seed of at most "
        f"{ring['max_episode_steps']} steps. Steps to the goal are means over the episodes "
        "that reach it."
    )


def define(argv: list[str]) -> None:
    """Defines the flags of this command."""
    study.define(argv, get_config, "results/two_modes")


def run() -> None:
    """Trains both parts and writes the results."""
    config = study.settings()
    check(config)
    seeds = [config["seed"] + i for i in range(config["seeds"])]
    with study.Study("two modes", config) as s:
        data: dict[str, Any] = {
            part: module.make(config[part], config["seed"], s.display)
            for part, module in PARTS.items()
        }
        found: dict[str, dict[str, study.Arrays]] = {}
        for part, module in PARTS.items():
            found[part] = {}
            for name, title in NAMES.items():
                s.display.about(f"{part}, {title}", f"{len(seeds)} seeds")
                found[part][name] = s.cell(
                    f"{part}/{name}",
                    cell_settings(config, part, name),
                    lambda module=module, part=part, name=name: module.train(
                        config[part], data[part], name, seeds, s.display
                    ),
                )
        rows = {p: module.rows(config[p], data[p], found[p]) for p, module in PARTS.items()}
        about = describe(config, data["maze"])
        tables = [study.table(module.COLUMNS, rows[part]) for part, module in PARTS.items()]
        s.write(
            "\n\n".join([about, *tables]),
            {"about": about, **rows},
            {"two_modes.png": lambda path: figures.draw(data, found, rows, path)},
        )


if __name__ == "__main__":
    cli.launch(run, __doc__, define)
