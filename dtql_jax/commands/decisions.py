"""Plots a policy's choices at states of an episode: candidates, diffusion samples, Q-values.

dtql-jax decisions --run=runs/... --episode=0

For tasks with two actions (the point mazes) and algorithms with candidates and critics (DTQL,
DQL-KL, DQL). Writes decisions.png into the run's folder.
"""

from pathlib import Path
from typing import Any

from absl import flags

from dtql_jax.commands import cli
from dtql_jax.errors import UserError

EXTRAS = ("envs", "reports")


def define(argv: list[str]) -> None:
    """Defines the flags of this command."""
    cli.define_run()
    flags.DEFINE_integer("member", 0, "Which of the run's seeds, from 0.")
    flags.DEFINE_integer("episode", 0, "Number of the evaluation's episode.", 0)
    flags.DEFINE_integer("states", 5, "Number of states, spread over the episode.", 1)
    flags.DEFINE_string("out", "", "The PNG; by default decisions.png in the run's folder.")


def run() -> None:
    """Runs the command."""
    values = flags.FLAGS
    path = cli.run_folder()
    import jax

    from dtql_jax.commands import restore
    from dtql_jax.envs.spec import EnvSpec
    from dtql_jax.plots import decisions, mazes
    from dtql_jax.training.population import member
    from dtql_jax.training.run_folder import RunFolder

    with RunFolder.open(path) as folder:
        config, dataset = folder.run["config"], folder.run["dataset"]
        decisions.check(config["algorithm"]["name"], dataset["action_dim"])
        trainer = restore.trainer_of(folder, member=values.member)
    spec = EnvSpec.from_dict(dataset["env"])
    observations, steps = _episode(trainer, spec, values.member, values.episode, values.states)
    settings = dict(config["algorithm"])
    name = settings.pop("name")
    if "decay_steps" in settings:
        settings["decay_steps"] = max(settings["decay_steps"], 1)
    state = member(trainer.state, values.member)
    explained = decisions.explain(name, settings, state, observations[steps], jax.random.key(0))
    positions, goals = mazes.positions_and_goals(spec, observations)
    out = Path(values.out or path / "decisions.png")
    about = f"{name} on {config['task']}, seed {trainer.seeds[values.member]}"
    try:
        decisions.draw(
            explained,
            out,
            maze=mazes.read_maze(spec),
            positions=positions,
            steps=steps,
            goal=None if goals is None else goals[0],
            title=about,
            subtitle=f"episode {values.episode}; acting by {settings['action_selection']} over "
            f"{settings['num_candidates']} candidates",
        )
    except OSError as error:
        raise UserError(f"--out={out} cannot be written: {error.strerror}") from error
    print(f"{about}: episode {values.episode}, steps {', '.join(map(str, steps))}")
    print(f"  {out}")


def _episode(trainer: Any, spec: Any, member: int, episode: int, number: int) -> Any:
    """Plays one episode; returns (its observations [T + 1, O], steps of the states [number])."""
    import numpy as np

    from dtql_jax.evaluation.rollout import evaluate

    act = trainer.policy()

    def policy(*rows: Any) -> Any:
        # the compiled policy takes all members: they get the same observations
        everybody = (np.repeat(row, len(trainer.seeds), axis=0) for row in rows)
        return act(*everybody)[member][None]

    seeds = [trainer.seeds[member]]
    played = evaluate(policy, spec, seeds=seeds, episodes=episode + 1, record=episode + 1)
    observations = played.trajectories[episode].observations
    # no action is chosen at the last state
    steps = np.linspace(0, max(len(observations) - 2, 0), number + 1)[:number].round().astype(int)
    return observations, np.unique(steps)
