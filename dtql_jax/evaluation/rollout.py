"""Evaluates a population of policies in a vector of environments.

One batched call of the policy serves all members and all their environments. Each member plays
a fixed number of episodes; counting the first ones to finish would favour short episodes. The
course of an episode depends only on its member's seed, its number and the policy, not on the
number of environments, members or worker processes. (A policy computed in another batch shape
may differ in its last bit, and an environment may amplify that.)
"""

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from dtql_jax.envs.spec import EnvSpec
from dtql_jax.errors import UserError
from dtql_jax.evaluation.pool import Environments, Step, WorkerPool

# (observations [P, E, O] float32, episodes [P, E] int32, steps [P, E] int32) -> [P, E, A]
Policy = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
Progress = Callable[[int, int], None]

# Seconds for one step of all environments below which workers cost more than they save.
_WORTH_WORKERS = 15e-3
_WIDTHS = 6


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """One recorded episode of T steps."""

    member: int  # index into the population
    episode: int  # number of the episode, from 0
    observations: np.ndarray  # [T + 1, O] float32, from the first to the closing one
    actions: np.ndarray  # [T, A] float32, as the environment received them


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """N episodes of each of P members.

    Attributes:
      returns: [P, N] float64, undiscounted sums of the environment's own rewards.
      lengths: [P, N] int32, steps.
      successes: [P, N] bool, or None where the environment defines no success.
      nonfinite_actions: [P] int64, number of actions with a NaN or an infinity; the environment
        received zeros instead. A member with such actions has diverged.
      seconds: wall time.
      policy_seconds: the part of `seconds` spent in the policy, its compilation included.
      env_steps: sum of `lengths`.
      trajectories: the recorded episodes, by member, then episode.
    """

    returns: np.ndarray
    lengths: np.ndarray
    successes: np.ndarray | None
    nonfinite_actions: np.ndarray
    seconds: float
    policy_seconds: float
    env_steps: int
    trajectories: tuple[Trajectory, ...] = ()


class Evaluator:
    """The environments of a population, kept for several evaluations.

    Worker processes start with the first run. Environments and workers live until `close` or
    the end of a `with` block; an exception, also Ctrl-C, closes them too, and the next run
    starts new ones.

    Attributes:
      workers: number of worker processes; 0 where this process steps the environments.
      observation_dim: O.
      action_dim: A.
    """

    def __init__(
        self,
        spec: EnvSpec,
        seeds: Sequence[int],
        num_envs: int | None = None,
        workers: int | None = None,
    ):
        """Makes one environment, to read its spaces and to time its steps.

        Args:
          spec: the environment.
          seeds: one non-negative integer for each of the P members.
          num_envs: environments of each member; None: 128 over all members, but 10 to 100 of
            each. Results do not depend on it. More environments make the policy's batches
            larger but take memory (a PointMaze 12 MB, FrankaKitchen 60 MB).
          workers: processes that step the environments; 0: this process does; None: one a core
            where a step of all environments takes longer than 15 ms, else 0.

        Raises:
          UserError: an argument is out of its range, or the action space is not a box.
        """
        given = np.asarray(seeds)
        if given.ndim != 1 or not given.size or given.dtype.kind not in "iu" or given.min() < 0:
            raise UserError(f"seeds are {given.tolist()}; expected one or more integers from 0")
        self._seeds = [int(seed) for seed in given]
        if num_envs is None:
            num_envs = min(100, max(10, 128 // len(self._seeds)))
        _check_least("num_envs", num_envs, 1)
        _check_least("workers", workers or 0, 0)
        from dtql_jax.envs.make import make_env  # imports gymnasium, about a second

        self._spec, self._num_envs = spec, num_envs
        env: Any = make_env(spec)
        space = env.action_space
        if not hasattr(space, "low"):
            raise UserError(f"{spec.env_id} has action space {space}; expected a Box")
        self._low, self._high = space.low.astype(np.float32), space.high.astype(np.float32)
        (self.observation_dim,) = env.observation_space.shape
        (self.action_dim,) = self._low.shape
        if workers is None:
            workers = _choose_workers(env, len(self._seeds) * num_envs)
        self.workers = workers
        if workers:
            env.close()
        self._pool = WorkerPool(spec, workers) if workers else Environments(spec, env)

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the running workers."""
        return self._pool.pids if isinstance(self._pool, WorkerPool) else []

    def run(
        self,
        policy: Policy,
        episodes: int,
        record: int = 0,
        progress: Progress | None = None,
    ) -> EvaluationResult:
        """Plays `episodes` episodes with every member.

        Args:
          policy: see `Policy`; its actions are clipped to the action space. A policy that draws
            random numbers should derive them from episode and step (from 0), so that an action
            does not depend on its place in the batch. Rows beyond a member's active environments
            repeat one of its rows; their actions are ignored. E takes the few values of
            `batch_widths`, so that a jitted policy compiles few shapes.
          episodes: N, episodes a member. Environment j plays j, j + num_envs, ...
          record: number of first episodes of each member whose trajectories are kept.
          progress: called with (episodes done, episodes in all) whenever some end.

        Raises:
          UserError: an argument is out of its range.
          ValueError: the policy returned another shape than [P, E, A].
          SimulatorError: an environment failed, or a worker died.
        """
        _check_least("episodes", episodes, 1)
        _check_least("record", record, 0)
        try:
            return self._run(policy, episodes, record, progress)
        except BaseException:
            self.close()  # workers may be in the middle of a step
            raise

    def _run(
        self, policy: Policy, episodes: int, record: int, progress: Progress | None
    ) -> EvaluationResult:
        began, policy_seconds = time.perf_counter(), 0.0
        members = len(self._seeds)
        played = _Episodes(members, self._num_envs, episodes, record)
        # [P, episodes + num_envs]; -1 beyond the last episode
        seeds = np.full((members, episodes + self._num_envs), -1, np.int64)
        for member, seed in enumerate(self._seeds):
            seeds[member, :episodes] = [episode_seed(seed, number) for number in range(episodes)]
        nonfinite = np.zeros(members, np.int64)
        widths = batch_widths(min(self._num_envs, episodes))
        active = np.flatnonzero(played.episode < episodes)
        observations = np.zeros((members * self._num_envs, self.observation_dim), np.float32)
        first = seeds[played.member[active], played.episode[active]]
        observations[active] = self._pool.reset(active, first)
        batch = arrange(active, members, self._num_envs, widths)
        while active.size:
            called = time.perf_counter()
            rows = (array[batch.slots] for array in (observations, played.episode, played.step))
            actions = np.asarray(policy(*rows), np.float32)
            policy_seconds += time.perf_counter() - called
            expected = (*batch.slots.shape, self.action_dim)
            if actions.shape != expected:
                raise ValueError(f"the policy's actions are {actions.shape}; expected {expected}")
            actions = actions[batch.member, batch.column]
            bad = ~np.isfinite(actions).all(axis=1)
            nonfinite += np.bincount(batch.member[bad], minlength=members)
            actions[bad] = 0.0
            actions = np.clip(actions, self._low, self._high)
            following = seeds[batch.member, played.episode[active] + self._num_envs]
            step = self._pool.step(active, actions, following)
            played.add(active, observations[active], actions, step)
            observations[active] = step.observations
            if step.ended.any():
                active = active[played.episode[active] < episodes]
                batch = arrange(active, members, self._num_envs, widths)
                if progress is not None:
                    progress(played.done, members * episodes)
        return EvaluationResult(
            returns=played.returns,
            lengths=played.lengths,
            successes=played.rewarded if self._spec.success == "reward" else None,
            nonfinite_actions=nonfinite,
            seconds=time.perf_counter() - began,
            policy_seconds=policy_seconds,
            env_steps=int(played.lengths.sum()),
            trajectories=tuple(played.trajectories[key] for key in sorted(played.trajectories)),
        )

    def close(self) -> None:
        """Ends the workers and closes the environments."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def evaluate(
    policy: Policy,
    spec: EnvSpec,
    *,
    seeds: Sequence[int],
    episodes: int,
    num_envs: int | None = None,
    workers: int | None = None,
    record: int = 0,
    progress: Progress | None = None,
) -> EvaluationResult:
    """Evaluates once; see `Evaluator` and `Evaluator.run` for arguments and errors."""
    with Evaluator(spec, seeds, num_envs, workers) as evaluator:
        return evaluator.run(policy, episodes, record, progress)


def episode_seed(member_seed: int, episode: int) -> int:
    """Returns the seed, in [0, 2**32), that resets an episode of a member."""
    return int(np.random.SeedSequence([member_seed, episode]).generate_state(1)[0])


class Batch(NamedTuple):
    """Places of n active slots in the policy's batch [P, E]."""

    slots: np.ndarray  # [P, E], the slot in each place; surplus places repeat one of the member's
    member: np.ndarray  # [n], row of each active slot
    column: np.ndarray  # [n], column of each active slot


def batch_widths(num_envs: int) -> tuple[int, ...]:
    """Returns the batch widths E in use, ascending: num_envs and its halvings to 1/32."""
    return tuple(sorted({-(-num_envs // 2**power) for power in range(_WIDTHS)}))


def arrange(active: np.ndarray, members: int, num_envs: int, widths: tuple[int, ...]) -> Batch:
    """Arranges the active slots [n], ascending; slot k belongs to member k // num_envs."""
    member = active // num_envs
    counts = np.bincount(member, minlength=members)
    first = np.cumsum(counts) - counts
    column = np.arange(active.size) - first[member]
    width = next(width for width in widths if width >= counts.max())
    filler = np.arange(members) * num_envs
    filler[counts > 0] = active[first[counts > 0]]
    slots = np.repeat(filler[:, None], width, axis=1)
    slots[member, column] = active
    return Batch(slots, member, column)


class _Episodes:
    """Sums of the episodes in progress, and results of those that ended.

    Slot k plays for member k // num_envs, from episode k % num_envs on.
    """

    def __init__(self, members: int, num_envs: int, episodes: int, record: int):
        slots = np.arange(members * num_envs)
        self.member = slots // num_envs
        self.episode = (slots % num_envs).astype(np.int32)
        self.step = np.zeros(len(slots), np.int32)
        self.returns = np.zeros((members, episodes))
        self.lengths = np.zeros((members, episodes), np.int32)
        self.rewarded = np.zeros((members, episodes), bool)
        self.trajectories: dict[tuple[int, int], Trajectory] = {}
        self.done = 0
        self._num_envs, self._record = num_envs, record
        self._recorded: dict[int, tuple[list, list]] = {}

    def add(
        self, active: np.ndarray, observations: np.ndarray, actions: np.ndarray, step: Step
    ) -> None:
        """Adds a step of the active slots [n], taken at `observations` with `actions`."""
        at = self.member[active], self.episode[active]
        self.step[active] += 1
        self.lengths[at] += 1
        self.returns[at] += step.rewards
        self.rewarded[at] |= step.rewards > 0
        for row in np.flatnonzero(self.episode[active] < self._record):
            seen, taken = self._recorded.setdefault(int(active[row]), ([], []))
            seen.append(observations[row])
            taken.append(actions[row])
        ended = active[step.ended]
        for slot, last in zip(ended, step.last_observations, strict=True):
            if slot in self._recorded:
                seen, taken = self._recorded.pop(slot)
                key = int(self.member[slot]), int(self.episode[slot])
                self.trajectories[key] = Trajectory(*key, np.stack([*seen, last]), np.stack(taken))
        self.done += ended.size
        self.episode[ended] += self._num_envs
        self.step[ended] = 0


def _check_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise UserError(f"{name} is {value}; expected at least {least}")


def _choose_workers(env: Any, slots: int) -> int:
    """Returns the number of workers that `slots` environments like `env` are worth."""
    if os.name != "posix":
        return 0  # the workers inherit file descriptors
    space = env.action_space
    action = np.clip(0.0, space.low, space.high).astype(space.dtype)
    env.reset(seed=0)
    best = np.inf
    for _ in range(24):  # the fastest step: other processes may take the core in between
        began = time.perf_counter()
        _, _, terminated, truncated, _ = env.step(action)
        best = min(best, time.perf_counter() - began)
        if terminated or truncated:
            env.reset(seed=0)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return cores if cores and cores > 1 and slots * best > _WORTH_WORKERS else 0
