"""The simulator's side of an evaluation: environments that play their quotas of episodes.

The same class runs inside the evaluating process and inside a worker process, so this
module, and all it imports, stays free of jax.
"""

import traceback
from typing import Any, NamedTuple

import numpy as np

from dtql_jax.envs.spec import EnvSpec
from dtql_jax.evaluation.models import compiled_once

HEARTBEAT = 3  # numbers in a heartbeat


class SimulatorError(RuntimeError):
    """An environment failed; the message names the episode and the seed it was reset with."""


class StepResult(NamedTuple):
    """What one step of n environments gave, one row an environment.

    Attributes:
      observations: [n, O] float32, what to act on next. Where an episode ended and the
        environment has another one to play: that one's first observation.
      rewards: [n] float64.
      ended: [n] bool, whether this step ended the episode (termination or time limit).
      last_observations: [k, O] float32, the closing observations of the k rows in `ended`.
      restarted: [n] bool, whether the row's episode was lost with its worker and has been
        reset to its start instead of stepped; rewards and `ended` are 0 there.
    """

    observations: np.ndarray
    rewards: np.ndarray
    ended: np.ndarray
    last_observations: np.ndarray
    restarted: np.ndarray


def episode_seed(member_seed: int, episode: int) -> int:
    """Returns the seed, in [0, 2**32), that resets episode `episode` of a member.

    It depends on nothing else, so an episode's start is the same for any number of
    environments, members and workers.
    """
    return int(np.random.SeedSequence([member_seed, episode]).generate_state(1)[0])


def describe_episode(spec: EnvSpec, member_seed: int, episode: int) -> str:
    """Returns the words by which errors name an episode, with what is needed to replay it."""
    return (
        f"{spec.env_id}, member seed {member_seed}, episode {episode} "
        f"(env.reset(seed={episode_seed(member_seed, episode)}))"
    )


class Simulator:
    """Environments ("slots") stepped one after the other.

    A slot plays the episodes e, e + stride, e + 2 * stride, ... below a total, whatever the
    other slots do. Environments are made when their slot first plays, and kept.

    Attributes:
      active: slots that still play, ascending; `step` takes one action for each of them.
    """

    def __init__(
        self,
        spec: EnvSpec,
        member_seeds: np.ndarray,
        stride: int,
        heartbeat: np.ndarray | None = None,
        first_env: Any = None,
    ):
        """Prepares the slots; makes no environment yet.

        Args:
          spec: the environment.
          member_seeds: [S] int, the seed of the population member that each slot plays for.
          stride: distance between two episodes of a slot.
          heartbeat: [HEARTBEAT] int64, shared with whoever watches over this process: a
            counter raised at each operation, and the slot and episode that it is for.
          first_env: an environment of `spec` to use for slot 0 instead of a new one.
        """
        self._spec = spec
        self._member_seeds = member_seeds
        self._stride = stride
        self._heartbeat = np.zeros(HEARTBEAT, np.int64) if heartbeat is None else heartbeat
        self._models: dict[Any, Any] = {}
        self._envs: list[Any] = [None] * len(member_seeds)
        if self._envs:
            self._envs[0] = first_env
        self._episodes = np.zeros(len(member_seeds), np.int64)
        self._steps = np.zeros(len(member_seeds), np.int64)
        self._total = 0
        self.active = np.zeros(0, np.int64)

    def start(self, slots: np.ndarray, episodes: np.ndarray, total: int) -> np.ndarray:
        """Begins a run: resets `slots` to `episodes`; all other slots stay idle.

        Args:
          slots: [n] int, ascending.
          episodes: [n] int, the first episode of each.
          total: episodes a member; a slot stops when its next one is not below it.

        Returns:
          First observations, [n, O] float32.

        Raises:
          SimulatorError: an environment could not be made or reset.
        """
        self.active = np.asarray(slots)
        self._total = total
        self._episodes[self.active] = episodes
        return np.stack([self._reset(slot) for slot in self.active])

    def step(self, actions: np.ndarray) -> StepResult:
        """Steps the active slots and begins the next episode where one ended.

        Args:
          actions: [n, A] float32, within the action space, in the order of `active`.

        Raises:
          SimulatorError: an environment raised an exception.
        """
        observations, last_observations = [], []
        rewards = np.zeros(len(self.active))
        ended = np.zeros(len(self.active), bool)
        for row, slot in enumerate(map(int, self.active)):
            self._beat(slot)
            try:
                step = self._envs[slot].step(actions[row])
            except Exception as error:
                raise self._failure(slot, "step") from error
            observation, reward, terminated, truncated, _ = step
            self._steps[slot] += 1
            rewards[row] = reward
            # The limit holds even where the environment was built without its TimeLimit.
            if terminated or truncated or self._steps[slot] >= self._spec.max_episode_steps:
                ended[row] = True
                last_observations.append(observation)
                self._episodes[slot] += self._stride
                if self._episodes[slot] < self._total:
                    observation = self._reset(slot)
            observations.append(observation)
        observations = np.asarray(observations, np.float32)
        last = np.asarray(last_observations, np.float32).reshape(-1, observations.shape[1])
        if ended.any():
            self.active = self.active[self._episodes[self.active] < self._total]
        return StepResult(observations, rewards, ended, last, np.zeros(len(ended), bool))

    def close(self) -> None:
        """Closes the environments."""
        for env in self._envs:
            if env is not None:
                env.close()
        self._envs = [None] * len(self._envs)
        self._models.clear()

    def _reset(self, slot: int) -> np.ndarray:
        self._beat(slot)
        try:
            if self._envs[slot] is None:
                # Late: gymnasium and mujoco cost a second that a caller may not need to pay.
                from dtql_jax.envs.make import make_env

                with compiled_once(self._models):
                    self._envs[slot] = make_env(self._spec)
                self._beat(slot)
            seed = episode_seed(int(self._member_seeds[slot]), int(self._episodes[slot]))
            observation, _ = self._envs[slot].reset(seed=seed)
        except Exception as error:
            raise self._failure(slot, "reset") from error
        self._steps[slot] = 0
        return np.asarray(observation, np.float32)

    def _beat(self, slot: int) -> None:
        self._heartbeat[1] = slot
        self._heartbeat[2] = self._episodes[slot]
        self._heartbeat[0] += 1

    def _failure(self, slot: int, during: str) -> SimulatorError:
        episode = describe_episode(
            self._spec, int(self._member_seeds[slot]), int(self._episodes[slot])
        )
        # The traceback is text, because an exception may not survive the way out of a worker.
        return SimulatorError(
            f"{during} {int(self._steps[slot])} of {episode} failed:\n{traceback.format_exc()}"
        )
