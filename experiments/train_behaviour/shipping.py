"""From the snapshots of a training to the files that are shipped, and the account of them."""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np

from dtql_jax.collect.policies import read_policy
from experiments.train_behaviour.bodies import Body
from experiments.train_behaviour.choice import choose_levels
from experiments.train_behaviour.measure import measure_maze, measure_returns

_SELECTION_EPISODES = 10
# shares of the --episodes: a large maze takes ten times as long as a small one
_MAZE_SHARES = {"umaze": 1.0, "medium": 0.6, "large": 0.4}
# so many of the last snapshots of an ant are compared
_LAST_ANTS = 4
# the choice must not know the episodes that the chosen ones are measured with
_SELECTION_SEED, _FINAL_SEED = 1, 0

Report = Callable[[str], None]


def choose(body: Body, folder: pathlib.Path, episodes: int, report: Report) -> None:
    """Chooses among FOLDER/snapshots; writes the files and FOLDER/BODY.json.

    Args:
      body: what was trained.
      folder: with `training.json`.
      episodes: that each chosen policy is measured with.
      report: told of results.
    """
    paths = sorted((folder / "snapshots").glob("*.npz"))
    if body.kind == "ant":
        paths = paths[-_LAST_ANTS:]
    scores = []
    for path in paths:
        scores.append(_score(body, path))
        report(f"snapshot {path.stem}: {scores[-1]:.1f}")
    steps = [int(path.stem) for path in paths]
    if body.kind == "levels":
        levels = choose_levels(steps, scores)
        chosen = {f"{body.name}-{level}": paths[index] for level, index in levels.items()}
    else:
        chosen = {body.name: paths[int(np.argmax(scores))]}
    for old in folder.glob(f"{body.name}*.npz"):
        old.unlink()
    policies = {}
    for name, path in chosen.items():
        copy = folder / f"{name}.npz"
        shutil.copyfile(path, copy)
        result = _measure(body, copy, episodes)
        policies[copy.name] = {
            "sha256": read_policy(copy).sha256,
            "steps": int(path.stem),
            **result,
        }
        report(f"{copy.name}: {json.dumps(result)}")
    account = json.loads((folder / "training.json").read_text())
    account["snapshots"] = dict(zip(map(str, steps), np.round(scores, 1).tolist(), strict=True))
    account["policies"] = policies
    (folder / f"{body.name}.json").write_text(json.dumps(account, indent=2) + "\n")


def _score(body: Body, path: pathlib.Path) -> float:
    """Returns what snapshots are compared by: mean return, or percent of goals reached."""
    if body.kind != "ant":
        result = measure_returns(path, body.source, _SELECTION_EPISODES, _SELECTION_SEED)
        return result["return_mean"]
    results = [
        measure_maze(path, maze, body.source.variant, 2 * _SELECTION_EPISODES, _SELECTION_SEED)
        for maze in ("umaze", "medium")
    ]
    return 100.0 * float(np.mean([result["successes"] / result["episodes"] for result in results]))


def _measure(body: Body, path: pathlib.Path, episodes: int) -> dict[str, Any]:
    if body.kind != "ant":
        return measure_returns(path, body.source, episodes, _FINAL_SEED)
    return {
        maze: measure_maze(
            path,
            maze,
            body.source.variant,
            max(1, round(share * episodes)),
            _FINAL_SEED,
        )
        for maze, share in _MAZE_SHARES.items()
    }
