"""From data to a trained policy and its score in a few lines, for programs and notebooks.

A task's name takes the same settings as the command: `dtql_jax.train("antmaze-umaze")` trains what
`dtql-jax train --env=antmaze-umaze` trains, without a run folder, checkpoints or flags.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dtql_jax import export
from dtql_jax.algorithms.base import Algorithm
from dtql_jax.datasets import DatasetInfo, own
from dtql_jax.datasets.transitions import transform_rewards
from dtql_jax.envs.spec import EnvSpec
from dtql_jax.errors import UserError
from dtql_jax.evaluation import scores
from dtql_jax.evaluation.rollout import evaluate
from dtql_jax.presets import parts
from dtql_jax.presets.arguments import configuration, own_configuration
from dtql_jax.training import population
from dtql_jax.training.history import History
from dtql_jax.training.progress import Progress
from dtql_jax.training.trainer import Trainer
from dtql_jax.types import Transition


class Score(NamedTuple):
    """The result of an evaluation.

    Attributes:
      name: "normalised score", "success rate" (%) or "return".
      mean: over seeds and episodes.
      standard_error: of the mean, over seeds x episodes; NaN for a single episode.
      values: [P, N], the score of each episode of each seed.
      returns: [P, N], undiscounted.
      lengths: [P, N], steps.
    """

    name: str
    mean: float
    standard_error: float
    values: np.ndarray
    returns: np.ndarray
    lengths: np.ndarray


class Trained:
    """A trained policy, or one for each of several seeds.

    Attributes:
      config: the configuration that it was trained with, as nested dicts.
      state: states of all members, [P, ...], one for each of `seeds`.
      env: where it is evaluated, or None.
      info: facts about a task's dataset, else None.
      history: training metrics.
      seconds: wall time by phase.
    """

    def __init__(
        self,
        trainer: Trainer,
        config: dict[str, Any],
        env: EnvSpec | None,
        info: DatasetInfo | None,
        history: History,
        sizes: tuple[int, int],
        quiet: bool,
    ) -> None:
        """Called by `train`."""
        self.algorithm, self.state, self.seeds = trainer.algorithm, trainer.state, trainer.seeds
        self.config, self.env, self.info, self.history = config, env, info, history
        self.seconds = trainer.seconds
        self._trainer, self._sizes, self._quiet = trainer, sizes, quiet
        self._max_action = config["algorithm"].get("max_action", 1.0)

        def act(state: Any, observation: Any, words: Any) -> Any:
            return trainer.algorithm.act(state, observation, export.wrap_key(words))

        self._act = jax.jit(jax.vmap(act, in_axes=(None, 0, 0)))

    def act(self, observation: Any, seed: Any = 0, member: int = 0) -> np.ndarray:
        """Chooses actions as a `LoadedPolicy` does: [O] -> [A], or [B, O] -> [B, A]."""
        rows, keys = export.rows_and_keys(observation, seed, self._sizes[0])
        actions = np.asarray(self._act(population.member(self.state, member), rows, keys))
        actions = np.clip(actions, -self._max_action, self._max_action)
        return actions.reshape(*np.shape(observation)[:-1], self._sizes[1])

    def evaluate(self, env: own.Env | None = None, episodes: int | None = None) -> Score:
        """Plays episodes with every seed's policy.

        Args:
          env: a Gymnasium id, a function that makes an environment, or an `EnvSpec`; None: the
            environment of the data.
          episodes: episodes of each seed; None: the preset's number, 20 for data of your own.

        Raises:
          UserError: no environment is known, or its sizes are not the data's.
        """
        spec = self.env if env is None else own.spec_of(env)
        if spec is None:
            raise UserError("no environment is known for this data; pass env=... to evaluate")
        if episodes is None:
            episodes = parts.final_episodes(self.config)
        # an environment that the user's function makes exists in this process only
        workers = 0 if spec.env_id.startswith("dtql_jax_user/") else None
        with Progress(self._quiet) as progress:
            progress.start("evaluate", len(self.seeds) * episodes, unit="episodes")
            result = evaluate(
                self._trainer.policy(),
                spec,
                seeds=self.seeds,
                episodes=episodes,
                workers=workers,
                progress=progress.advance,
            )
        reference = self.info.reference_scores if self.info is not None else None
        name, values = scores.score(result.returns, result.successes, spec, reference)
        mean, error = scores.mean_and_standard_error(values)
        return Score(name, mean, error, values, result.returns, result.lengths)

    def save(self, path: str | os.PathLike, member: int = 0) -> None:
        """Writes the policy of one seed to a file that `dtql_jax.load_policy` reads."""
        bound = np.full(self._sizes[1], self._max_action, np.float32)
        settings = dict(self.config["algorithm"])
        export.export_policy(
            path,
            self.algorithm.act,
            population.member(self.state, member),
            observation_dim=self._sizes[0],
            action_low=-bound,
            action_high=bound,
            metadata={
                "task": self.config["task"],
                "source": self.info.source if self.info is not None else "own",
                "dataset_id": self.info.dataset_id if self.info is not None else "own",
                "algorithm": settings.pop("name"),
                "settings": settings,
                "seed": self.seeds[member],
                "update": self._trainer.update,
            },
        )


def train(
    data: own.Data,
    env: own.Env | None = None,
    *,
    preset: str = "auto",
    algorithm: str | Algorithm = "dtql",
    settings: Mapping[str, Any] | None = None,
    steps: int | None = None,
    pretrain_steps: int | None = None,
    batch_size: int | None = None,
    seeds: int | Sequence[int] = 0,
    reward_scale: float | None = None,
    reward_shift: float | None = None,
    max_episode_steps: int | None = None,
    success: str = "none",
    log_every: int | None = None,
    quiet: bool = False,
    **options: Any,
) -> Trained:
    """Trains a policy on offline data.

    Where `data` names a task, every argument that is not given comes from the task's preset, as in
    `dtql-jax train --env=TASK`. Data of your own takes the defaults in brackets.

    Args:
      data: a task's name ("antmaze-umaze"), a Minari id ("me/mine-v0"), the path of an HDF5
        file in D4RL's layout (observations, actions, rewards, terminals, timeouts), a
        `Transition` of arrays, or a mapping of arrays with its names.
      env: environment of the evaluation: a Gymnasium id, a function that makes one, or an
        `EnvSpec`; None: the task's, or the one that Minari's dataset names.
      preset: preset of a task: "paper", "quick", "full" (point mazes) or "auto".
      algorithm: one of `dtql_jax.algorithms.ALGORITHMS`, or an `Algorithm` of your own.
      settings: hyperparameters of a named algorithm, by field ({"alpha": 5.0}).
      steps: training updates [10,000].
      pretrain_steps: updates before the policy learns [a quarter of `steps` where the algorithm
        has such a phase].
      batch_size: transitions in an update [256].
      seeds: one seed, or several that are trained at once.
      reward_scale: rewards are trained as reward * scale + shift [1].
      reward_shift: see `reward_scale` [0].
      max_episode_steps: time limit of `env`, where it has none of its own.
      success: "reward" where any reward above 0 of `env` is a success: scores are rates then.
      log_every: updates between two rows of the history [50 rows in all].
      quiet: no lines on stderr.
      **options: reward_standardise, updates_per_call; for a task also source, transitions, seed
        (of a collection), d4rl_dir and behaviour_policy, as in `datasets.load`.

    Raises:
      UserError: data, environment or an argument is wrong, or the training diverged.
    """
    changes = options | {
        "steps": steps,
        "pretrain_steps": pretrain_steps,
        "batch_size": batch_size,
        "reward_scale": reward_scale,
        "reward_shift": reward_shift,
        "log_every": log_every,
    }
    changes = {name: value for name, value in changes.items() if value is not None}
    members = [seeds] if isinstance(seeds, (int, np.integer)) else list(seeds)
    spec = None if env is None else own.spec_of(env, max_episode_steps, success=success)
    is_task = isinstance(data, str) and "/" not in data and not data.endswith((".hdf5", ".h5"))
    if is_task:
        config = configuration(str(data), preset, algorithm, settings, **changes)
    else:
        config = own_configuration(algorithm, settings, changes)
    # a wrong setting fails before any data is read or collected
    loop = parts.trainer_config(config)
    made = parts.algorithm_of(config) if isinstance(algorithm, str) else algorithm
    title = f"{config['algorithm']['name']} on {config['task']}"
    with Progress(quiet) as progress:
        if is_task:
            changed = ", ".join([*changes, *(settings or {})])
            note = f", changed: {changed}" if changed else ""
            progress.say(f"{title}: preset {config['preset']}{note}")
            arrays, info, _ = parts.load_data(config, progress)
            spec = spec or info.env
        else:
            given = (settings or {}).get("max_action")
            arrays, info, spec = _read_own(data, spec, config, given)
            if isinstance(algorithm, str):
                made = parts.algorithm_of(config)  # with the bound of the actions
        progress.about(title, f"{len(members)} seed(s)")
        history = History(members)
        trainer = Trainer(
            made,
            arrays,
            members,
            loop,
            make_log=lambda names, resumed: history,  # type: ignore[arg-type,return-value]
            display=progress,
        )
        result = trainer.run()
    if not result.finished:
        raise UserError(f"training diverged: NaN or infinity at update {result.update:,}")
    sizes = arrays.observations.shape[1], arrays.actions.shape[1]
    return Trained(trainer, config, spec, info, history, sizes, quiet)


def _read_own(
    data: own.Data, env: EnvSpec | None, config: dict[str, Any], bound: float | None
) -> tuple[Transition, DatasetInfo | None, EnvSpec | None]:
    """Reads data of the user's own, transforms its rewards and sets `max_action`.

    The bound of the actions is the user's, else the environment's, else 1.
    """
    arrays, info, env = own.read_data(data, env)
    if bound is None:
        bound = 1.0 if env is None else own.bound_of(env)
    largest = float(np.abs(arrays.actions).max())
    if largest > bound * (1 + 1e-5):
        raise UserError(
            f"actions reach {largest:g}, beyond the bound {bound:g}; scale them, or pass "
            "settings={'max_action': ...}"
        )
    config["algorithm"]["max_action"] = float(bound)
    rewards = np.asarray(arrays.rewards)
    rewards = transform_rewards(rewards, *parts.reward_transform(config, rewards))
    return arrays._replace(rewards=rewards), info, env
