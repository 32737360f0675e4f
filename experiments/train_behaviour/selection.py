"""From the snapshots of a training to the shipped policies and the record of their returns."""

import json
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dtql_jax.collect.antmaze import AntMazeBehaviour
from dtql_jax.collect.behaviours import make_behaviour
from dtql_jax.collect.policies import read_policy
from dtql_jax.collect.recording import Episode, play
from dtql_jax.datasets.registry import get_task
from dtql_jax.envs.make import make_base_env
from dtql_jax.envs.spec import EnvSpec
from experiments.train_behaviour.bodies import Body

REPLAY_PARTS = 5
MAZES = {"umaze": "antmaze-umaze", "medium": "antmaze-medium-play", "large": "antmaze-large-play"}
# shares of --episodes: an episode of the large maze takes ten times as long as one of the umaze
_MAZE_SHARES = {"umaze": 1.0, "medium": 0.6, "large": 0.4}
_MEDIUM = 1 / 3  # return of a medium policy, as a share of the expert's
_SELECTION_EPISODES = 10
_LAST_ANTS = 4  # only the last snapshots of an ant are compared
_MEASUREMENT = 7_000  # part of the seeds, which differ from those of collections
# the chosen policies are measured on other episodes than they were chosen by
_SELECTION_SEED, _FINAL_SEED = 1, 0


def choose(body: Body, folder: pathlib.Path, episodes: int, report: Callable[[str], None]) -> None:
    """Chooses among FOLDER/snapshots; writes the policies and FOLDER/BODY.json.

    Args:
      body: that was trained.
      folder: with `training.json`.
      episodes: that each chosen policy is measured with.
      report: receives the results as lines.
    """
    paths = sorted((folder / "snapshots").glob("*.npz"))
    if body.kind == "ant":
        paths = paths[-_LAST_ANTS:]
    scores = []
    for path in paths:
        scores.append(_score(body, path))
        report(f"snapshot {path.stem}: {scores[-1]:.1f}")
    steps = [int(path.stem) for path in paths]
    chosen = {body.name: int(np.argmax(scores))}
    if body.kind == "levels":
        levels = choose_levels(steps, scores)
        chosen = {f"{body.name}-{level}": index for level, index in levels.items()}
    for old in folder.glob(f"{body.name}*.npz"):
        old.unlink()
    policies = {}
    for name, index in chosen.items():
        copy = folder / f"{name}.npz"
        shutil.copyfile(paths[index], copy)
        result = _measure(body, copy, episodes)
        digest = read_policy(copy).sha256
        policies[copy.name] = {"sha256": digest, "steps": steps[index], **result}
        report(f"{copy.name}: {json.dumps(result)}")
    record = json.loads((folder / "training.json").read_text())
    record["snapshots"] = dict(zip(map(str, steps), np.round(scores, 1).tolist(), strict=True))
    record["policies"] = policies
    (folder / f"{body.name}.json").write_text(json.dumps(record, indent=2) + "\n")


def choose_levels(steps: Sequence[int], returns: Sequence[float]) -> dict[str, int]:
    """Chooses levels of skill among the snapshots of one training.

    Args:
      steps: of training, increasing; the first is 0, the untrained policy.
      returns: mean of each snapshot.

    Returns:
      {name: index of the snapshot}. "expert" is the best snapshot. "medium" is an earlier one,
      nearest to a third of its return. "simple" is earlier still, nearest to the middle between
      the untrained and the medium policy. "replay-1" to "replay-4" divide the training up to the
      medium policy into fifths.
    """
    values = np.asarray(returns)
    expert = int(values.argmax())
    medium = _nearest(values[: max(expert, 1)], _MEDIUM * values[expert])
    simple = _nearest(values[: max(medium, 1)], (values[0] + values[medium]) / 2)
    chosen = {"expert": expert, "medium": medium, "simple": simple}
    for part in range(1, REPLAY_PARTS):
        chosen[f"replay-{part}"] = _nearest(np.asarray(steps), steps[medium] * part / REPLAY_PARTS)
    return chosen


def _nearest(values: np.ndarray, wanted: float) -> int:
    return int(np.abs(values - wanted).argmin())


def _score(body: Body, path: pathlib.Path) -> float:
    """Returns a snapshot's mean return, or its percentage of goals reached."""
    if body.kind != "ant":
        return measure_returns(body, path, _SELECTION_EPISODES, _SELECTION_SEED)["return_mean"]
    number = 2 * _SELECTION_EPISODES
    reached = [
        measure_maze(body, path, maze, number, _SELECTION_SEED)["successes"]
        for maze in ("umaze", "medium")
    ]
    return 100.0 * float(np.mean(reached)) / number


def _measure(body: Body, path: pathlib.Path, episodes: int) -> dict[str, Any]:
    if body.kind != "ant":
        return measure_returns(body, path, episodes, _FINAL_SEED)
    return {
        maze: measure_maze(body, path, maze, max(1, round(share * episodes)), _FINAL_SEED)
        for maze, share in _MAZE_SHARES.items()
    }


def measure_returns(body: Body, path: pathlib.Path, episodes: int, seed: int) -> dict[str, Any]:
    """Returns mean and standard deviation of a policy's returns, as JSON."""
    source, policy = body.source, read_policy(path)

    def make(env: Any) -> Any:
        return make_behaviour(source.collector, env, policy, source.settings)

    played = _play(source.recording_env(), make, episodes, seed)
    returns = [episode.rewards.sum() for episode in played]
    return {
        "episodes": episodes,
        "return_mean": round(float(np.mean(returns)), 2),
        "return_std": round(float(np.std(returns)), 2),
        "length_mean": round(float(np.mean([len(episode.rewards) for episode in played])), 1),
    }


def measure_maze(
    body: Body, path: pathlib.Path, maze: str, episodes: int, seed: int
) -> dict[str, Any]:
    """Returns how often an ant reaches the evaluation goal of one of MAZES in time."""
    task, policy = get_task(MAZES[maze]), read_policy(path)
    sources = [source for source in (task.generated, *task.generated_variants) if source]
    (source,) = (source for source in sources if source.variant == body.source.variant)
    played = _play(source.env, lambda env: _ToGoal(env, policy), episodes, seed)
    lengths = [len(episode.rewards) for episode in played if episode.rewards.any()]
    return {
        "episodes": episodes,
        "successes": len(lengths),
        "length_of_successes_mean": round(float(np.mean(lengths)), 1) if lengths else None,
    }


def _play(spec: EnvSpec, make: Callable[[Any], Any], episodes: int, seed: int) -> list[Episode]:
    """Plays episodes with the behaviour that `make` returns for the environment."""
    env = make_base_env(spec)
    behaviour = make(env)
    played = [play(env, behaviour, (_MEASUREMENT, seed, i)) for i in range(episodes)]
    env.close()
    return played


class _ToGoal(AntMazeBehaviour):
    """Walks to the rewarded goal itself; collections walk to places around it."""

    def begin(self, env: Any, seed: int, draws: np.random.Generator) -> Any:
        observation = super().begin(env, seed, draws)
        self._goal = tuple(env.unwrapped.goal.tolist())
        return observation
