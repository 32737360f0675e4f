"""The ten panels: five bandits, each with the trust region and with the KL form."""

import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dtql_jax.errors import UserError
from experiments.bandits import problems, scoring, training
from experiments.bandits.problems import Bandit
from experiments.bandits.training import UNBOUNDED, Budget, Recording

ROWS = ("trust_region", "kl")
ROW_NAMES = {"trust_region": "trust region", "kl": "KL"}


class Panel(NamedTuple):
    """One bandit under one of the two losses.

    Attributes:
      name: of the bandit in the configuration.
      row: "trust_region" or "kl".
      shown_at: updates made by the policy that the picture shows.
      steps: [F] updates at each recording.
      policy: [F, S, 2] samples of the acting policy.
      behaviour: [F, S, 2] samples of the diffusion policy.
    """

    name: str
    row: str
    shown_at: int
    steps: np.ndarray
    policy: np.ndarray
    behaviour: np.ndarray

    def shown(self) -> np.ndarray:
        """The samples of the picture: [S, 2]."""
        return self.policy[int(np.argmax(self.steps == self.shown_at))]


def make_bandits(config: Mapping[str, Any]) -> dict[str, Bandit]:
    """The bandits of a configuration, by name."""
    return {
        name: problems.make(panel["data"], panel["reward"], config["points"], config["seed"])
        for name, panel in config["panels"].items()
    }


def check(config: Mapping[str, Any]) -> None:
    """UserError where a number of the configuration is out of range."""
    at_least = {"points": 2, "samples": 1, "batch_size": 0, "record_every": 1, "seed": 0}
    for name, least in at_least.items():
        if config[name] < least:
            raise UserError(f"{name} is {config[name]}; expected at least {least}")
    for name, panel in config["panels"].items():
        if not panel["eta"] > 0:
            raise UserError(f"panels.{name}.eta is {panel['eta']}; expected a number above 0")
        for row in ROWS:
            steps = panel[f"{row}_steps"]
            if steps < 1 or steps % config["record_every"]:
                raise UserError(
                    f"panels.{name}.{row}_steps is {steps}; expected a multiple of record_every "
                    f"({config['record_every']})"
                )
    if config["kl"]["gamma"]:
        raise UserError("kl.gamma is not 0; an implicit policy has no likelihood to weigh")


def _groups(row: str, bandits: Mapping[str, Bandit]) -> dict[float, list[str]]:
    """Bandits that can be one population: those whose policy has the same bound."""
    groups: dict[float, list[str]] = {}
    for name, bandit in bandits.items():
        groups.setdefault(bandit.bound if row == "trust_region" else UNBOUNDED, []).append(name)
    return groups


def train(
    config: Mapping[str, Any],
    bandits: Mapping[str, Bandit],
    kept: Path,
    say: Callable[[int, int], None] = lambda done, total: None,
) -> list[Panel]:
    """Trains the panels that `kept` does not hold yet, first those of the trust region.

    Args:
      config: the study's.
      bandits: by name.
      kept: file of the samples; written whenever a population has ended.
      say: told of (done, all) updates.
    """
    work = []
    for row in ROWS:
        for bound, names in _groups(row, bandits).items():
            steps = max(config["panels"][name][f"{row}_steps"] for name in names)
            work.append((row, bound, names, steps))
    panels = load(kept, config)
    have = {(panel.row, panel.name) for panel in panels}
    work = [job for job in work if not have.issuperset((job[0], name) for name in job[2])]
    total, before = sum(steps for *_, steps in work), 0
    for row, bound, names, steps in work:
        own = config[row]
        etas = [config["panels"][name]["eta"] for name in names]
        # divided by eta the loss is alpha * L_TR - Q + gamma * L_NLL, and Adam's steps are the same
        numbers = {"alpha": [1.0 / eta for eta in etas]}
        settings = dict(own["settings"]) | {"max_action": bound}
        if own["gamma"]:
            settings["gamma"] = own["gamma"]
            numbers["gamma"] = [own["gamma"] / eta for eta in etas]
        recording = training.train(
            own["algorithm"],
            settings,
            [bandits[name] for name in names],
            numbers,
            Budget(
                own["pretrain_steps"],
                steps,
                config["batch_size"],
                config["record_every"],
                config["samples"],
            ),
            seeds=[config["seed"]] * len(names),
            say=lambda step, before=before: say(before + step, total),
        )
        panels += [_panel(config, row, name, recording, i) for i, name in enumerate(names)]
        before += steps
        save(kept, config, panels)
    return sorted(panels, key=lambda p: (ROWS.index(p.row), list(bandits).index(p.name)))


def _panel(config: Mapping[str, Any], row: str, name: str, seen: Recording, i: int) -> Panel:
    assert seen.behaviour is not None  # both algorithms have a diffusion policy
    shown_at = config["panels"][name][f"{row}_steps"]
    return Panel(name, row, shown_at, seen.steps, seen.policy[i], seen.behaviour[i])


def save(path: Path, config: Mapping[str, Any], panels: list[Panel]) -> None:
    """Writes the samples of all panels, and the configuration that they are of."""
    arrays = {"config": np.array(json.dumps(config, sort_keys=True))}
    for panel in panels:
        key = f"{panel.row}/{panel.name}"
        arrays[f"{key}/steps"] = panel.steps
        arrays[f"{key}/policy"] = panel.policy
        arrays[f"{key}/behaviour"] = panel.behaviour
    partial = path.with_name(path.name + ".part")
    with partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    os.replace(partial, path)


def load(path: Path, config: Mapping[str, Any]) -> list[Panel]:
    """The panels that `save` wrote, where they are of this configuration; else none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["config"]) != json.dumps(config, sort_keys=True):
                return []
            panels = []
            for row in ROWS:
                for name, panel in config["panels"].items():
                    if f"{row}/{name}/steps" not in file:
                        continue
                    parts = (file[f"{row}/{name}/{k}"] for k in ("steps", "policy", "behaviour"))
                    panels.append(Panel(name, row, panel[f"{row}_steps"], *parts))
            return panels
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return []


def table(
    config: Mapping[str, Any], bandits: Mapping[str, Bandit], panels: list[Panel]
) -> list[dict[str, Any]]:
    """One row of numbers for each panel, at the update that its picture shows and at the last."""
    rows = []
    for panel in panels:
        bandit = bandits[panel.name]
        shown = scoring.score(panel.shown(), bandit)
        last = scoring.score(panel.policy[-1], bandit)
        behaviour = scoring.score(panel.behaviour[-1], bandit)
        rows.append(
            {
                "loss": ROW_NAMES[panel.row],
                "bandit": panel.name.replace("_", " "),
                "eta": config["panels"][panel.name]["eta"],
                "updates": panel.shown_at,
                "reward": shown.reward,
                "outside": shown.outside,
                "at_best": shown.at_best,
                "last_updates": int(panel.steps[-1]),
                "last_reward": last.reward,
                "last_outside": last.outside,
                "last_at_best": last.at_best,
                "diffusion_outside": behaviour.outside,
            }
        )
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table; shares in percent."""
    lines = [
        "| loss | bandit | eta | updates | reward / best mode's | outside % | at best mode % |"
        " after | outside % | at best mode % | diffusion outside % |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            *(row["loss"], row["bandit"], f"{row['eta']:g}", f"{row['updates']:,}"),
            scoring.reward_text(row["reward"], 3),
            *(f"{100 * row[key]:.1f}" for key in ("outside", "at_best")),
            f"{row['last_updates']:,}",
            *(
                f"{100 * row[key]:.1f}"
                for key in ("last_outside", "last_at_best", "diffusion_outside")
            ),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
