"""Both parts of the study from their settings, and what they found as tables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dtql_jax.errors import UserError
from dtql_jax.evaluation.scores import mean_and_standard_error
from dtql_jax.training.progress import Progress
from experiments.bandits.problems import Bandit
from experiments.two_modes import corners, maze, ring, store, training
from experiments.two_modes.ring import Collection
from experiments.two_modes.store import Found

PARTS = ("bandit", "maze")
NAMES = {"dtql": "DTQL", "dql": "DQL", "idql": "IDQL"}


def check(config: Mapping[str, Any]) -> None:
    """UserError where a number of the configuration is out of range."""
    for name, least in (("seed", 0), ("seeds", 1)):
        if config[name] < least:
            raise UserError(f"{name} is {config[name]}; expected at least {least}")
    corners.check(config["bandit"])
    ring.check(config["maze"])
    training.check("maze", config["maze"]["algorithms"])
    for part in PARTS:
        for name in config[part]["algorithms"]:
            if name.partition("_")[0] not in NAMES:
                raise UserError(
                    f"{part}.algorithms has {name!r}; expected {', '.join(NAMES)}, or one of them "
                    "followed by _ and a word"
                )


def title(name: str) -> str:
    """How an algorithm's entry is written: the algorithm's name and what follows a "_"."""
    algorithm, _, variant = name.partition("_")
    return NAMES.get(algorithm, algorithm) + (f", {variant.replace('_', ' ')}" if variant else "")


def names(config: Mapping[str, Any], part: str) -> list[str]:
    """The entries of a part of the study ("bandit", "maze"), DTQL's first."""
    order = list(NAMES)
    return sorted(config[part]["algorithms"], key=lambda n: (order.index(n.partition("_")[0]), n))


def seeds(config: Mapping[str, Any]) -> list[int]:
    """One for each member of an algorithm."""
    return [config["seed"] + i for i in range(config["seeds"])]


def run(
    config: Mapping[str, Any],
    bandit: Bandit,
    collection: Collection,
    kept: Path,
    display: Progress,
) -> Found:
    """Trains what `kept` does not hold yet.

    Args:
      config: the study's.
      bandit: of `corners.make`.
      collection: of `ring.collect`.
      kept: file of what was found; written after each algorithm.
      display: what the user sees.
    """
    found = store.load(kept, config)
    for part in PARTS:
        for name in names(config, part):
            if f"{part}/{name}" in found:
                display.say(f"{part}, {title(name)}: in {kept} already")
                continue
            display.about(f"{part}, {title(name)}", f"{config['seeds']} seeds")
            if part == "bandit":
                own = corners.run(config[part], bandit, name, seeds(config), display)
            else:
                own = maze.run(config[part], collection, name, seeds(config), display)
            found[f"{part}/{name}"] = own
            store.save(kept, config, found)
    return found


def bandit_rows(config: Mapping[str, Any], bandit: Bandit, found: Found) -> list[dict[str, Any]]:
    """Two rows of numbers for each algorithm: the policy's own draws, and what acts."""
    rows = []
    for name in names(config, "bandit"):
        entry = config["bandit"]["algorithms"][name]
        for kind in ("policy", "acting"):
            numbers = corners.numbers(found[f"bandit/{name}"][kind], bandit)
            shares = numbers.at.mean(axis=0)
            larger = numbers.larger
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
    """One row of numbers for the data and for each algorithm."""
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
        entry = config["maze"]["algorithms"][name]
        own = found[f"maze/{name}"]
        members = maze.member_numbers(own)
        by_seed = np.array([member.shares for member in members])
        mean, error = mean_and_standard_error(own["successes"].astype(np.float64))
        reached = own["successes"].astype(bool)
        went = by_seed.sum(axis=1)
        larger = by_seed.max(axis=1)[went > 0] / went[went > 0]
        rows.append(
            {
                "algorithm": title(name),
                "updates": entry["pretrain_steps"] + entry["train_steps"],
                "success": mean,
                "standard_error": None if np.isnan(error) else error,
                **dict(zip(ring.WAYS, (float(x) for x in by_seed.mean(axis=0)), strict=True)),
                "neither": float(1.0 - by_seed.sum(axis=1).mean()),
                "favourite": float(larger.mean()) if len(larger) else None,
                "upper_by_seed": [float(x) for x in by_seed[:, 0]],
                "steps": float(own["lengths"][reached].mean()) if reached.any() else None,
            }
        )
    return rows


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _by_seed(shares: list[float] | None) -> str:
    return "-" if shares is None else " ".join(f"{100 * share:.0f}" for share in shares)


def markdown(bandit: list[dict[str, Any]], maze: list[dict[str, Any]]) -> str:
    """The rows of both parts as two Markdown tables; shares in percent."""
    lines = [
        "| bandit | samples | updates | reward / best mode's | at upper right % |"
        " at lower left % | elsewhere in the data % | outside the data % |"
        " at a seed's favourite of the two % | upper right by seed % | lower left by seed % |",
        "|" + "---|" * 11,
    ]
    for row in bandit:
        shares = ("upper_right", "lower_left", "elsewhere", "outside", "favourite")
        cells = [row["algorithm"], row["samples"], f"{row['updates']:,}", f"{row['reward']:.3f}"]
        cells += [_percent(row[key]) for key in shares]
        cells += [_by_seed(row[key]) for key in ("upper_right_by_seed", "lower_left_by_seed")]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "| maze | updates | success % | upper way % | lower way % | neither % |"
        " a seed's favourite way % | upper way by seed % | steps to goal |",
        "|" + "---|" * 9,
    ]
    for row in maze:
        error = row["standard_error"]
        success = _percent(row["success"]) + ("" if error is None else f" ± {100 * error:.1f}")
        cells = [row["algorithm"], f"{row['updates']:,}", success]
        cells += [_percent(row[key]) for key in (*ring.WAYS, "neither", "favourite")]
        cells += [_by_seed(row["upper_by_seed"])]
        cells += ["-" if row["steps"] is None else f"{row['steps']:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def describe(config: Mapping[str, Any], collection: Collection) -> str:
    """What the numbers are of, in sentences."""
    bandit, maze = config["bandit"], config["maze"]
    widths = sorted(
        {e["settings"]["hidden_dim"] for p in (bandit, maze) for e in p["algorithms"].values()}
    )
    return (
        f"{config['seeds']} seeds of each algorithm, networks of width "
        f"{', '.join(str(width) for width in widths)}. "
        f"Bandit: {bandit['points']:,} actions, batches of {bandit['batch_size']}, "
        f"{bandit['samples']:,} samples a seed. "
        f"Maze: {len(collection.data.rewards):,} transitions of {maze['episodes']} episodes of the "
        f"planner (collected here, not D4RL's), batches of {maze['batch_size']}, "
        f"{maze['eval_episodes']} episodes a seed of at most {maze['max_episode_steps']} steps; "
        "steps to goal are means over the episodes that reach it."
    )
