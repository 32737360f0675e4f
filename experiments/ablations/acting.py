"""How the trained members of a task's own setting act: numbers of candidates, softmax or argmax."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dtql_jax.commands import restore, runner
from dtql_jax.commands.cli import StuckError
from dtql_jax.envs.spec import EnvSpec
from dtql_jax.evaluation import scores
from dtql_jax.evaluation.pool import SimulatorError
from dtql_jax.evaluation.rollout import Evaluator
from dtql_jax.training.progress import Progress
from dtql_jax.training.run_folder import RunFolder, write_json
from dtql_jax.types import Transition


def variants(config: Mapping[str, Any]) -> list[tuple[str, int]]:
    """(selection, candidates) of all evaluations; of one candidate every selection is the same."""
    found = []
    for selection in config["selection"]:
        for number in config["candidates"]:
            if number > 1 or selection == config["selection"][0]:
                found.append((selection, number))
    return found


def evaluate(
    folder: Path,
    settings: Mapping[str, float],
    wanted: Sequence[tuple[str, int]],
    episodes: int,
    out: Path,
    display: Progress,
) -> list[dict[str, Any]]:
    """Plays the members of a run with these traced settings in several ways.

    Args:
      folder: of the run, which has ended.
      settings: traced numbers of the members that play.
      wanted: (selection, candidates) of each evaluation.
      episodes: of each member; the same starts in every evaluation.
      out: folder of one JSON file for each evaluation; what it has is not played again.
      display: what the user sees.

    Returns:
      For each evaluation: selection, candidates, score_name, scores [P][episodes], seconds.
    """
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / f"{folder.name}-{selection}-{number}.json" for selection, number in wanted]
    missing = [i for i, path in enumerate(paths) if not path.exists()]
    if missing:
        with RunFolder.open(folder) as opened:
            _play(opened, settings, [(wanted[i], paths[i]) for i in missing], episodes, display)
    return [json.loads(path.read_text()) for path in paths]


def _play(
    folder: RunFolder,
    settings: Mapping[str, float],
    wanted: Sequence[tuple[tuple[str, int], Path]],
    episodes: int,
    display: Progress,
) -> None:
    config, dataset = folder.run["config"], folder.run["dataset"]
    everybody = runner.members_of(folder.run)
    places = [i for i, member in enumerate(everybody) if member.settings == dict(settings)]
    members = [everybody[i] for i in places]
    state = jax.tree.map(lambda x: np.asarray(x)[places], restore.trainer_of(folder).state)
    rows = [np.zeros((1, dataset[f"{name}_dim"]), np.float32) for name in ("observation", "action")]
    one = np.zeros(1, np.float32)
    sample = Transition(rows[0], rows[1], rows[0], one, one)
    spec, reference = EnvSpec.from_dict(dataset["env"]), dataset["reference_scores"]
    with Evaluator(spec, [member.seed for member in members]) as evaluator:
        for (selection, number), path in wanted:
            own = {"action_selection": selection, "num_candidates": number}
            acting = config | {"algorithm": config["algorithm"] | own}
            fit = runner.make_trainer(acting, sample, members)
            policy = fit.policy(fit.placement.put(state))
            phase, total = f"{folder.path.name}, {number} by {selection}", len(members) * episodes
            display.start(phase, total, unit="episodes")
            try:
                found = evaluator.run(policy, episodes, progress=display.advance)
            except SimulatorError as error:
                raise StuckError(str(error).strip().splitlines()[0]) from error
            name, values = scores.score(found.returns, found.successes, spec, reference)
            facts = {
                "selection": selection,
                "candidates": number,
                "score_name": name,
                "seeds": [member.seed for member in members],
                "scores": values.tolist(),
                "seconds": found.seconds,
                "policy_seconds": found.policy_seconds,
            }
            write_json(path, facts)
            display.say(
                f"{folder.path.name}: {number} candidate(s) by {selection}: {values.mean():.1f}"
            )
