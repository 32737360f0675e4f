"""Rewards with two equally good modes: DTQL beside DQL and IDQL, in a bandit and in a maze.

    python -m experiments.two_modes --out=results/two_modes

The bandit's reward is highest at two opposite corners of its data. The maze has two ways of equal
length, and its data takes each half the time. Writes two_modes.png, table.md, table.json and
run.json. Trained algorithms are kept in OUT/cells, so an interrupted study resumes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dtql_jax.commands import cli
from dtql_jax.commands.tables import plus_minus
from dtql_jax.errors import UserError
from dtql_jax.evaluation.scores import mean_and_standard_error
from experiments import study
from experiments.bandits.problems import Bandit
from experiments.two_modes import corners, figures, maze, ring, training
from experiments.two_modes.ring import Collection
from experiments.two_modes.settings import get_config

PARTS = ("bandit", "maze")
NAMES = {"dtql": "DTQL", "dql": "DQL", "idql": "IDQL"}
Found = dict[str, study.Arrays]  # "bandit/dtql" -> arrays


def _by_seed(key: str) -> study.Column:
    def text(row: study.Row) -> str:
        shares = row[key]
        return "-" if shares is None else " ".join(f"{100 * share:.0f}" for share in shares)

    return text


def _success(row: study.Row) -> str:
    error = row["standard_error"]
    return plus_minus(100 * row["success"], None if error is None else 100 * error)


BANDIT_COLUMNS: dict[str, study.Column] = {
    "bandit": "algorithm",
    "samples": "samples",
    "updates": "updates:,",
    "reward / best mode's": "reward:.3f",
    "at upper right %": "upper_right:.1%",
    "at lower left %": "lower_left:.1%",
    "elsewhere in the data %": "elsewhere:.1%",
    "outside the data %": "outside:.1%",
    "at a seed's favourite of the two %": "favourite:.1%",
    "upper right by seed %": _by_seed("upper_right_by_seed"),
    "lower left by seed %": _by_seed("lower_left_by_seed"),
}
MAZE_COLUMNS: dict[str, study.Column] = {
    "maze": "algorithm",
    "updates": "updates:,",
    "success %": _success,
    "upper way %": "upper:.1%",
    "lower way %": "lower:.1%",
    "neither %": "neither:.1%",
    "a seed's favourite way %": "favourite:.1%",
    "upper way by seed %": _by_seed("upper_by_seed"),
    "steps to goal": "steps:.0f",
}


def check(config: Mapping[str, Any]) -> None:
    """Raises UserError if a setting is out of range."""
    study.check_least(config, seed=0, seeds=1)
    corners.check(config["bandit"])
    ring.check(config["maze"])
    for part in PARTS:
        training.check(part, config[part]["algorithms"])
        for name in config[part]["algorithms"]:
            if name.partition("_")[0] not in NAMES:
                raise UserError(
                    f"{part}.algorithms has {name!r}; expected {', '.join(NAMES)}, or one of them "
                    "followed by _ and a word"
                )


def title(name: str) -> str:
    """Returns an entry's name as written: "dql_large_eta" is "DQL, large eta"."""
    algorithm, _, variant = name.partition("_")
    return NAMES.get(algorithm, algorithm) + (f", {variant.replace('_', ' ')}" if variant else "")


def names(config: Mapping[str, Any], part: str) -> list[str]:
    """Returns the entries of a part of the study ("bandit", "maze"), DTQL's first."""
    order = list(NAMES)
    return sorted(config[part]["algorithms"], key=lambda n: (order.index(n.partition("_")[0]), n))


def cell_settings(config: Mapping[str, Any], part: str, name: str) -> dict[str, Any]:
    """Returns all settings that the result of one algorithm depends on."""
    own = {key: value for key, value in config[part].items() if key != "algorithms"}
    own["entry"] = config[part]["algorithms"][name]
    return own | {key: config[key] for key in ("seed", "seeds")}


def train(
    config: Mapping[str, Any], s: study.Study, bandit: Bandit, collection: Collection
) -> Found:
    """Trains all algorithms of both parts, or reads them from the study's folder."""
    seeds = [config["seed"] + i for i in range(config["seeds"])]
    runs = {
        "bandit": lambda name: corners.run(config["bandit"], bandit, name, seeds, s.display),
        "maze": lambda name: maze.run(config["maze"], collection, name, seeds, s.display),
    }
    found: Found = {}
    for part in PARTS:
        for name in names(config, part):
            s.display.about(f"{part}, {title(name)}", f"{config['seeds']} seeds")
            settings = cell_settings(config, part, name)
            key = f"{part}/{name}"
            found[key] = s.cell(key, settings, lambda part=part, name=name: runs[part](name))
    return found


def bandit_rows(config: Mapping[str, Any], bandit: Bandit, found: Found) -> list[dict[str, Any]]:
    """Returns two rows for each algorithm: the policy's own samples, and those that act."""
    rows = []
    for name in names(config, "bandit"):
        entry = config["bandit"]["algorithms"][name]
        for kind in ("policy", "acting"):
            numbers = corners.numbers(found[f"bandit/{name}"][kind], bandit)
            shares, larger = numbers.at.mean(axis=0), numbers.larger
            rows.append(
                {
                    "algorithm": title(name),
                    "samples": kind,
                    "updates": entry["pretrain_steps"] + entry["train_steps"],
                    "reward": numbers.reward,
                    "upper_right": float(shares[0]),
                    "lower_left": float(shares[1]),
                    "elsewhere": float(1.0 - shares.sum() - numbers.outside),
                    "outside": numbers.outside,
                    "favourite": None if np.isnan(larger).all() else float(np.nanmean(larger)),
                    "upper_right_by_seed": [float(x) for x in numbers.at[:, 0]],
                    "lower_left_by_seed": [float(x) for x in numbers.at[:, 1]],
                }
            )
    return rows


def maze_rows(
    config: Mapping[str, Any], collection: Collection, found: Found
) -> list[dict[str, Any]]:
    """Returns one row for the data and one for each algorithm."""
    data = collection.numbers
    rows: list[dict[str, Any]] = [
        {
            "algorithm": "data (planner)",
            "updates": 0,
            "success": data.success,
            "standard_error": None,
            **dict(zip(ring.WAYS, data.shares, strict=True)),
            "neither": 1.0 - sum(data.shares),
            "favourite": None,
            "upper_by_seed": None,
            "steps": data.steps,
        }
    ]
    for name in names(config, "maze"):
        entry, own = config["maze"]["algorithms"][name], found[f"maze/{name}"]
        by_seed = np.array([member.shares for member in maze.member_numbers(own)])
        mean, error = mean_and_standard_error(own["successes"].astype(np.float64))
        reached, went = own["successes"].astype(bool), by_seed.sum(axis=1)
        larger = by_seed.max(axis=1)[went > 0] / went[went > 0]
        rows.append(
            {
                "algorithm": title(name),
                "updates": entry["pretrain_steps"] + entry["train_steps"],
                "success": mean,
                "standard_error": None if np.isnan(error) else error,
                **dict(zip(ring.WAYS, (float(x) for x in by_seed.mean(axis=0)), strict=True)),
                "neither": float(1.0 - went.mean()),
                "favourite": float(larger.mean()) if len(larger) else None,
                "upper_by_seed": [float(x) for x in by_seed[:, 0]],
                "steps": float(own["lengths"][reached].mean()) if reached.any() else None,
            }
        )
    return rows


def describe(config: Mapping[str, Any], collection: Collection) -> str:
    """Returns the setup in a few sentences."""
    bandit, maze_config = config["bandit"], config["maze"]
    entries = [*bandit["algorithms"].values(), *maze_config["algorithms"].values()]
    widths = sorted({entry["settings"]["hidden_dim"] for entry in entries})
    return (
        f"{config['seeds']} seeds of each algorithm, networks of width "
        f"{', '.join(str(width) for width in widths)}. "
        f"Bandit: {bandit['points']:,} actions, batches of {bandit['batch_size']}, "
        f"{bandit['samples']:,} samples a seed. "
        f"Maze: {len(collection.data.rewards):,} transitions of {maze_config['episodes']} episodes "
        f"of the planner (collected here, not D4RL's), batches of {maze_config['batch_size']}, "
        f"{maze_config['eval_episodes']} episodes a seed of at most "
        f"{maze_config['max_episode_steps']} steps. Steps to the goal are means over the episodes "
        "that reach it."
    )


def define(argv: list[str]) -> None:
    """Defines the flags of this command."""
    study.define(argv, get_config, "results/two_modes")


def run() -> None:
    """Trains both parts and writes the results."""
    config = study.settings()
    check(config)
    with study.Study("two modes", config) as s:
        bandit, own = corners.make(config["bandit"], config["seed"]), config["maze"]
        s.display.start("collect", own["episodes"], unit="episodes")
        spec = ring.environment(own["max_episode_steps"], own["noise"])
        collection = ring.collect(spec, own["episodes"], config["seed"], s.display.advance)
        s.display.say(f"maze: {len(collection.data.rewards):,} transitions collected")
        found = train(config, s, bandit, collection)
        rows = {
            "bandit": bandit_rows(config, bandit, found),
            "maze": maze_rows(config, collection, found),
        }
        about = describe(config, collection)
        tables = [
            study.table(BANDIT_COLUMNS, rows["bandit"]),
            study.table(MAZE_COLUMNS, rows["maze"]),
        ]
        panels = {part: {name: title(name) for name in names(config, part)} for part in PARTS}
        s.write(
            "\n\n".join([about, *tables]),
            {"about": about, **rows},
            {"two_modes.png": lambda p: figures.draw(bandit, collection, found, rows, panels, p)},
        )


if __name__ == "__main__":
    cli.launch(run, __doc__, define)
