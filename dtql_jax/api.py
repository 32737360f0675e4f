"""From data to a trained policy and its score in a few lines, for programs and notebooks.

The commands under `experiments/` do more (checkpoints, pictures, logs, presets of the paper); this
is the same training and evaluation with nothing around it: no flags, no files, no global state.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dtql_jax import export
from dtql_jax.algorithms import default_settings, make_algorithm
from dtql_jax.algorithms.base import Algorithm
from dtql_jax.datasets import DatasetInfo, own
from dtql_jax.datasets.transitions import transform_rewards
from dtql_jax.envs.spec import EnvSpec
from dtql_jax.errors import UserError
from dtql_jax.evaluation import scores
from dtql_jax.evaluation.rollout import evaluate
from dtql_jax.training import population
from dtql_jax.training.progress import Progress
from dtql_jax.training.trainer import Trainer, TrainerConfig


class Score(NamedTuple):
    """What an evaluation found.

    Attributes:
      name: "normalised score", "success rate" (%) or "return".
      mean: over seeds and episodes.
      standard_error: of it, over seeds x episodes; NaN for a single episode.
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


class History:
    """Training metrics in memory: one dict for each member and each `log_every` updates.

    Attributes:
      rows: [{"update", "phase", "step", "seed", metric: float, ...}].
    """

    problem = ""  # nothing can keep rows from memory

    def __init__(self, seeds: Sequence[int]) -> None:
        self.rows: list[dict[str, Any]] = []
        self._seeds = list(seeds)

    def write_metrics(
        self,
        update: int,
        phase: str,
        step: int,
        values: Mapping[str, np.ndarray],
        members: Sequence[int],
    ) -> None:
        """As `MetricsLog.write_metrics`."""
        for i in members:
            head = {"update": update, "phase": phase, "step": step, "seed": self._seeds[i]}
            self.rows.append(head | {name: float(value[i]) for name, value in values.items()})

    def scalar(self, name: str, value: float, update: int) -> None:
        """Rates are not kept."""

    def flush(self) -> str:
        """There is nothing to write."""
        return self.problem

    def close(self) -> None:
        """There is nothing to close."""

    def column(self, name: str) -> np.ndarray:
        """A metric of the first seed, row by row; rows without it are left out.

        Raises:
          UserError: no row has it.
        """
        own = [r[name] for r in self.rows if r["seed"] == self._seeds[0] and name in r]
        if not own:
            known = sorted({key for row in self.rows for key in row})
            raise UserError(f"no metric {name!r}; known: {', '.join(known)}")
        return np.asarray(own)


class Trained:
    """A trained policy, or one for each of several seeds.

    Attributes:
      algorithm: its four functions.
      state: of all members, [P, ...].
      seeds: one for each member.
      env: where it is evaluated, or None.
      info: of the dataset of a task, else None.
      history: training metrics.
      seconds: wall time by phase.
    """

    def __init__(
        self,
        fit: Trainer,
        env: EnvSpec | None,
        info: DatasetInfo | None,
        history: History,
        max_action: float,
        sizes: tuple[int, int],
        about: dict[str, Any],
        quiet: bool,
    ) -> None:
        """Use `train`."""
        self.algorithm, self.state, self.seeds = fit.algorithm, fit.state, fit.seeds
        self.env, self.info, self.history, self.seconds = env, info, history, fit.seconds
        self._fit, self._max_action, self._sizes, self._about = fit, max_action, sizes, about
        self._quiet = quiet
        self._act = jax.jit(jax.vmap(fit.algorithm.act, in_axes=(None, 0, 0)))

    def act(self, observation: Any, seed: int = 0, member: int = 0) -> np.ndarray:
        """Chooses actions: [O] -> [A], or [B, O] -> [B, A], within the action space.

        The same seed gives the same action; rows of a batch draw apart, as in `load_policy`.
        """
        rows = np.asarray(observation, np.float32)
        if rows.ndim not in (1, 2) or rows.shape[-1] != self._sizes[0]:
            size = self._sizes[0]
            raise UserError(f"observation is {rows.shape}; expected ({size},) or (batch, {size})")
        key = jax.random.key(seed)
        one = rows.ndim == 1
        keys = (
            key[None] if one else jax.vmap(jax.random.fold_in, (None, 0))(key, np.arange(len(rows)))
        )
        state = population.member(self.state, member)
        actions = np.asarray(self._act(state, rows[None] if one else rows, keys))
        actions = np.clip(actions, -self._max_action, self._max_action)
        return actions[0] if one else actions

    def evaluate(self, env: own.Env | None = None, episodes: int = 20) -> Score:
        """Plays episodes with every seed's policy.

        Args:
          env: a Gymnasium id, a function that makes an environment, or an `EnvSpec`; None: the
            one that the data comes from.
          episodes: of each seed.

        Raises:
          UserError: no environment is known, or its sizes are not the data's.
        """
        spec = self.env if env is None else own.spec_of(env)
        if spec is None:
            raise UserError("no environment is known of this data; give env=... to evaluate in")
        # a function of the user's lives in this process only
        workers = 0 if spec.env_id.startswith("dtql_jax_user/") else None
        with Progress(self._quiet) as display:
            display.start("evaluate", len(self.seeds) * episodes, unit="episodes")
            result = evaluate(
                self._fit.policy(),
                spec,
                seeds=self.seeds,
                episodes=episodes,
                workers=workers,
                progress=display.advance,
            )
        reference = self.info.reference_scores if self.info is not None else None
        name, values = scores.score(result.returns, result.successes, spec, reference)
        mean, error = scores.mean_and_standard_error(values)
        return Score(name, mean, error, values, result.returns, result.lengths)

    def save(self, path: str | os.PathLike, member: int = 0) -> None:
        """Writes the policy to a file that `dtql_jax.load_policy` reads."""
        bound = np.full(self._sizes[1], self._max_action, np.float32)
        export.export_policy(
            path,
            self.algorithm.act,
            population.member(self.state, member),
            observation_dim=self._sizes[0],
            action_low=-bound,
            action_high=bound,
            metadata=self._about | {"seed": self.seeds[member], "update": self._fit.update},
        )


def train(
    data: own.Data,
    env: own.Env | None = None,
    *,
    algorithm: str | Algorithm = "dtql",
    settings: Mapping[str, Any] | None = None,
    steps: int = 10_000,
    pretrain_steps: int | None = None,
    batch_size: int = 256,
    seeds: int | Sequence[int] = 0,
    reward_scale: float = 1.0,
    reward_shift: float = 0.0,
    max_episode_steps: int | None = None,
    success: str = "none",
    log_every: int | None = None,
    quiet: bool = False,
    **load_options: Any,
) -> Trained:
    """Trains a policy on offline data.

    Args:
      data: a task's name ("pointmaze-umaze"), a Minari id ("me/mine-v0"), the path of an HDF5
        file in D4RL's layout (observations, actions, rewards, terminals, timeouts), a
        `Transition` of arrays, or a mapping of arrays with its names.
      env: to evaluate in: a Gymnasium id, a function that makes an environment, or an `EnvSpec`;
        None: the task's, or the one that Minari's dataset names.
      algorithm: one of `dtql_jax.algorithms.ALGORITHMS`, or an `Algorithm` of your own.
      settings: of a named algorithm, by field ({"alpha": 5.0}).
      steps: training updates.
      pretrain_steps: updates before the policy learns; None: a quarter of `steps` where the
        algorithm has such a phase, else 0.
      batch_size: transitions an update.
      seeds: one, or several trained at once.
      reward_scale: rewards are trained as reward * scale + shift.
      reward_shift: see `reward_scale`; -1 in tasks with a reward at the goal only.
      max_episode_steps: time limit of `env`, where it has none of its own.
      success: "reward" where any reward above 0 of `env` is a success: scores are rates then.
      log_every: updates between two rows of the history; None: 50 rows.
      quiet: no lines on stderr.
      **load_options: of `datasets.load` for a task: source, transitions, seed, d4rl_dir, ...

    Returns:
      the trained policy, with `act`, `evaluate` and `save`.

    Raises:
      UserError: data, environment or settings are wrong, or the training diverged.
    """
    spec = None if env is None else own.spec_of(env, max_episode_steps, success=success)
    with Progress(quiet) as display:
        if isinstance(data, str):
            display.start("data", unit="transitions")
            load_options = {"report": display.say, "progress": display.advance} | load_options
        arrays, info, spec = own.read_data(data, spec, **load_options)
        bound = _max_action(settings or {}, spec, info, np.asarray(arrays.actions))
        made, about = _make(algorithm, dict(settings or {}), bound, steps)
        if pretrain_steps is None:
            pretrained = made.pretrain_step is not made.train_step
            pretrain_steps = steps // 4 if pretrained else 0
        members = [seeds] if isinstance(seeds, (int, np.integer)) else list(seeds)
        every = log_every or max((steps + pretrain_steps) // 50, 1)
        history = History(members)
        rewards = transform_rewards(np.asarray(arrays.rewards), reward_scale, reward_shift)
        display.about(f"{about['algorithm']} on {_known(info)['task']}", f"{len(members)} seed(s)")
        fit = Trainer(
            made,
            arrays._replace(rewards=rewards),
            members,
            TrainerConfig(
                batch_size=batch_size,
                pretrain_steps=pretrain_steps,
                train_steps=steps,
                updates_per_call=min(every, 100),
                log_every=every,
            ),
            make_log=lambda names, resumed: history,  # type: ignore[arg-type,return-value]
            display=display,
        )
        result = fit.run()
    if not result.finished:
        raise UserError(f"training ended at update {result.update}: its numbers are not finite")
    sizes = arrays.observations.shape[1], arrays.actions.shape[1]
    return Trained(fit, spec, info, history, bound, sizes, _known(info) | about, quiet)


def _make(
    algorithm: str | Algorithm, settings: dict[str, Any], max_action: float, steps: int
) -> tuple[Algorithm, dict[str, Any]]:
    """The algorithm, and what a saved policy says of it."""
    if not isinstance(algorithm, str):
        if settings:
            raise UserError(
                f"settings {sorted(settings)} are for a named algorithm; yours has its own"
            )
        return algorithm, {"algorithm": "own", "settings": {}}
    known = default_settings(algorithm)
    given = {"max_action": max_action, "decay_steps": steps}
    settings = {key: given[key] for key in given if key in known} | settings
    return make_algorithm(algorithm, settings), {"algorithm": algorithm, "settings": settings}


def _known(info: DatasetInfo | None) -> dict[str, str]:
    """What is known of the data, for a saved policy."""
    if info is None:
        return {"task": "own data", "source": "own", "dataset_id": "own"}
    return {"task": info.task, "source": info.source, "dataset_id": info.dataset_id}


def _max_action(
    settings: Mapping[str, Any], env: EnvSpec | None, info: DatasetInfo | None, actions: np.ndarray
) -> float:
    """The bound of the actions: as the user says, else the environment's, else 1."""
    if "max_action" in settings:
        bound = float(settings["max_action"])
    elif info is not None:
        return 1.0  # every action space of the registry; the loaders clip to it
    else:
        bound = 1.0 if env is None else own.bound_of(env)
    largest = float(np.abs(actions).max())
    if largest > bound * (1 + 1e-5):
        raise UserError(
            f"actions reach {largest:g}, beyond the bound {bound:g}; scale them, or give "
            "settings={'max_action': ...}"
        )
    return bound
