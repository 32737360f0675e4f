"""The study in words and tables: table.md begins with what a reader may conclude."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments import study
from experiments.bandits import panels, scoring

SETUP = """\
The rows of the figure are the authors' settings (trust region, KL) and a setting of this project's
own. "Reward" is the mean reward of 1,000 samples divided by the best mode's, the median over seeds.
"Outside" is the mean share of samples more than 3 standard deviations of the data (0.3, or 0.1 on
the roll) away from the nearest data point. A seed is inside if at least 95 % of its samples are.
"Distance" is the median distance to the nearest data point, the median over seeds. Each seed has
data, networks and random numbers of its own; its policies share the critics and the denoiser, which
do not depend on the policy. Each panel is drawn from the seed in the middle of the most common
outcome.

An update takes quasi-random rows in place of all 10,000 points: {critic_rows} for critics and
value, {denoiser_rows:,} for the denoiser, {policy_rows} for the policy, {generator_rows} for the
generator."""

AUTHORS = """\
The authors' own program does not always do what the paper's figure shows either. With 1,000
points it ended on the swiss roll, near, at reward 0.85 with 30 % of the samples outside, where
the paper shows the tip of the inner arm. In its KL form on 25 Gaussians, far, one of four
generators had run away to 1e8 by update 500."""

CAUSES = """\
## One cause at a time

The trust region with one setting changed after another. A cell holds the seeds inside, the mean
share outside and the mean reward."""


def rows(config: Mapping[str, Any], found: list[panels.Panel]) -> list[dict[str, Any]]:
    """Returns the numbers of each panel, of its population and of each seed."""
    result = []
    for panel in found:
        settings = config["panels"][panel.name]
        variant = config["variants"].get(panel.row)
        eta = config["kl_eta"] if panel.row == "kl" else settings["eta"]
        updates = settings["kl_updates" if panel.row == "kl" else "updates"]
        result.append(
            {
                "row": panel.row,
                "bandit": panel.name,
                "title": panels.title(settings),
                "seeds": len(panel.numbers),
                "eta": eta * variant["eta_scale"] if variant else eta,
                "updates": updates,
                "policy_updates": variant["updates"] if variant else updates,
                **_finite(panel.population._asdict()),
                "each_seed": [_finite(n._asdict()) | {"outcome": n.outcome} for n in panel.numbers],
            }
        )
    return result


def _finite(numbers: dict[str, Any]) -> dict[str, Any]:
    """Returns the numbers with None for an infinite distance, as JSON has no infinity."""
    return {k: None if k == "distance" and not np.isfinite(v) else v for k, v in numbers.items()}


def text(config: Mapping[str, Any], found: list[dict[str, Any]]) -> str:
    """Returns table.md."""
    shown = [row for row in found if row["row"] in panels.ROWS]
    parts = [
        "# The paper's 2D bandits",
        _conclusions(shown),
        AUTHORS,
        SETUP.format(**config),
        _numbers(shown),
    ]
    if config["cause_seeds"]:
        parts += [CAUSES, _causes(config, found)]
    return "\n\n".join(parts)


def _conclusions(found: list[dict[str, Any]]) -> str:
    """Returns one sentence for each row of the figure, counted from the numbers."""
    lines = []
    for key, name in panels.ROWS.items():
        own = [row for row in found if row["row"] == key]
        always = [r["title"] for r in own if r["inside_seeds"] == r["seeds"]]
        others = [r for r in own if r["inside_seeds"] < r["seeds"]]
        sentence = f"- **{name[0].upper()}{name[1:]}**: "
        if always:
            where = "all five bandits" if len(always) == len(own) else "; ".join(always)
            sentence += f"inside the data for every seed on {where}. "
        for row in others:
            sentence += f"On {row['title']}: {_outcomes(row)}. "
        best = [r for r in own if r["best_seeds"] == r["seeds"]]
        sentence += f"Every seed ends at the best mode on {len(best)} of {len(own)} bandits."
        lines.append(sentence)
    return "\n".join([f"Seeds: {found[0]['seeds']}.", "", *lines])


def _outcomes(row: study.Row) -> str:
    counted = ", ".join(f"{k} {name}" for name, k in row["outcomes"].items() if k)
    return f"{counted} of {row['seeds']}"


def _numbers(found: list[dict[str, Any]]) -> str:
    columns: dict[str, study.Column] = {
        "policy": lambda r: panels.ROWS[r["row"]],
        "bandit": "title",
        "eta": "eta:g",
        "updates": "policy_updates:,",
        "reward / best mode's": lambda r: scoring.number_text(r["reward"]),
        "outside %": "outside:.1%",
        "distance": lambda r: scoring.number_text(r["distance"]),
        "seeds inside": lambda r: f"{r['inside_seeds']} of {r['seeds']}",
        "of these at the best mode": "best_seeds",
        "outcomes": _outcomes,
    }
    return study.table(columns, found)


def _causes(config: Mapping[str, Any], found: list[dict[str, Any]]) -> str:
    """Returns one line for each variant, on the seeds that all of them have."""
    lines: dict[str, dict[str, Any]] = {}
    for row in found:
        if row["row"] == "kl":
            continue
        seeds = row["each_seed"][: config["cause_seeds"]]
        inside = sum(one["outcome"] == "inside" for one in seeds)
        outside = sum(one["outside"] for one in seeds) / len(seeds)
        reward = sum(one["reward"] for one in seeds) / len(seeds)
        line = lines.setdefault(row["row"], {"row": row["row"]})
        line[row["bandit"]] = f"{inside}/{len(seeds)}, {100 * outside:.0f} %, {reward:.2f}"
    differs = {name: variant["differs"] for name, variant in config["variants"].items()}
    columns: dict[str, study.Column] = {
        "setting": lambda r: differs.get(r["row"], "authors' settings")
    }
    columns |= {panels.title(panel): name for name, panel in config["panels"].items()}
    return study.table(columns, lines.values())
