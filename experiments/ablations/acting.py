"""Acting of the trained members in several ways: number of candidates, softmax or argmax."""

from collections.abc import Mapping
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
from dtql_jax.training.run_folder import RunFolder
from experiments import study


def variants(config: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Returns (selection, candidates) of all evaluations.

    With one candidate every selection is the same, so only the first is evaluated.
    """
    return [
        (selection, number)
        for selection in config["selection"]
        for number in config["candidates"]
        if number > 1 or selection == config["selection"][0]
    ]


def evaluate(
    path: Path,
    settings: Mapping[str, float],
    selection: str,
    candidates: int,
    episodes: int,
    display: Progress,
) -> study.Arrays:
    """Evaluates the members of a finished run that have certain settings.

    Args:
      path: of the run's folder.
      settings: traced hyperparameters of these members.
      selection: how one of the candidates is chosen ("softmax", "argmax").
      candidates: actions drawn for each observation.
      episodes: of each member; every evaluation has the same start states.
      display: progress.

    Returns:
      "scores" [P, episodes] and "score_name" [].
    """
    with RunFolder.open(path) as folder:
        config, dataset = folder.run["config"], folder.run["dataset"]
        everybody = runner.members_of(folder.run)
        trained = restore.trainer_of(folder).state
    places = [i for i, member in enumerate(everybody) if member.settings == settings]
    members = [everybody[i] for i in places]
    own = {"action_selection": selection, "num_candidates": candidates}
    acting = config | {"algorithm": config["algorithm"] | own}
    trainer = runner.make_trainer(acting, study.sample_of(dataset), members)
    state = jax.tree.map(lambda x: np.asarray(x)[places], trained)
    policy = trainer.policy(trainer.placement.put(state))
    spec = EnvSpec.from_dict(dataset["env"])
    phase = f"{path.name}, {candidates} by {selection}"
    display.start(phase, len(members) * episodes, unit="episodes")
    try:
        with Evaluator(spec, trainer.seeds) as evaluator:
            found = evaluator.run(policy, episodes, progress=display.advance)
    except SimulatorError as error:
        raise StuckError(str(error).strip().splitlines()[0]) from error
    name, values = scores.score(found.returns, found.successes, spec, dataset["reference_scores"])
    display.say(f"{phase}: {values.mean():.1f}")
    return {"scores": values, "score_name": np.array(name)}
