"""Evaluation of a population of policies in a vector of environments.

One batched call of the policy serves all members and all their environments. Each
environment plays a fixed quota of episodes, never "the first N to finish", which would
favour short episodes. The course of an episode depends on its member's seed, its number and
the policy alone: not on how many environments, members or worker processes there are. (A
policy computed in another batch shape may round its last bit otherwise, and an environment
may enlarge that; the environments themselves are exact.)
"""

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from typing import Self

import numpy as np

from dtql_jax.envs.spec import EnvSpec
from dtql_jax.errors import UserError
from dtql_jax.evaluation.layout import arrange, bucket_sizes
from dtql_jax.evaluation.simulator import Simulator, StepResult
from dtql_jax.evaluation.workers import WorkerPool

# (observations [P, E, O] float32, episodes [P, E] int32, steps [P, E] int32) -> [P, E, A]
Policy = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
Progress = Callable[[int, int], None]

# Below this many seconds for one step of the whole vector, workers cost more than they save.
_WORTH_WORKERS = 15e-3


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """One recorded episode of T steps.

    Attributes:
      member: index into the population.
      episode: number of the episode, from 0.
      observations: [T + 1, O] float32, from the first to the closing one.
      actions: [T, A] float32, as the environment received them.
    """

    member: int
    episode: int
    observations: np.ndarray
    actions: np.ndarray


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """N episodes of each of P members.

    Attributes:
      returns: [P, N] float64, undiscounted sums of the environment's own rewards.
      lengths: [P, N] int32, steps.
      successes: [P, N] bool, or None where the environment knows no success.
      nonfinite_actions: [P] int64, actions of each member that held a NaN or an infinity;
        the environment received zeros in their place. Above 0, the member has diverged.
      seconds: wall time, of which `policy_seconds` went into the policy's calls.
      policy_seconds: see `seconds`; the policy's compilation is in it.
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
    """Environments of a population, kept ready for several evaluations.

    Worker processes start with the first run and environments are made when they first play;
    both live until `close`, or the end of a `with` block. After an exception, also Ctrl-C,
    the workers are ended, and the next run starts new ones.

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
        timeout: float = 60.0,
    ):
        """Makes one environment, to learn its spaces and the cost of its steps.

        Args:
          spec: the environment.
          seeds: one non-negative integer for each of the P members.
          num_envs: environments of each member, P * num_envs in all; None: 128 over all
            members, but 10 to 100 of each. No result depends on it: more make the policy's
            batches larger, but each takes memory (a PointMaze 12 MB, FrankaKitchen 60 MB).
          workers: processes that step the environments; 0: none, this process does;
            None: as many as there are cores where a step of the whole vector takes longer
            than 15 ms, else 0.
          timeout: seconds that one make, reset or step of one environment may take in a
            worker before the worker is taken for hung and replaced.

        Raises:
          UserError: an argument is out of its range, or the action space is not a box.
        """
        self._seeds = _checked_seeds(seeds)
        if num_envs is None:
            num_envs = min(100, max(10, 128 // len(self._seeds)))
        for name, value, least in (("num_envs", num_envs, 1), ("workers", workers or 0, 0)):
            if value < least:
                raise UserError(f"{name} is {value}; expected at least {least}")
        if not timeout > 0:
            raise UserError(f"timeout is {timeout}; expected seconds above 0")
        if spec.success not in ("reward", "none"):
            raise UserError(f"success of {spec.env_id} is {spec.success!r}; known: reward, none")
        # Late: gymnasium and mujoco cost a second that an import of this module need not pay.
        from dtql_jax.envs.make import make_env

        self._spec = spec
        self._num_envs = num_envs
        env = make_env(spec)
        if not hasattr(env.action_space, "low"):
            raise UserError(f"{spec.env_id} has action space {env.action_space}; expected a Box")
        self._low = np.asarray(env.action_space.low, np.float32)
        self._high = np.asarray(env.action_space.high, np.float32)
        (self.observation_dim,) = env.observation_space.shape
        (self.action_dim,) = self._low.shape
        slot_seeds = np.repeat(self._seeds, num_envs)
        if workers is None:
            workers = _choose_workers(env, len(slot_seeds))
        self.workers = workers
        self._simulator: Simulator | WorkerPool
        if workers:
            env.close()
            self._simulator = WorkerPool(spec, slot_seeds, num_envs, workers, timeout)
        else:
            self._simulator = Simulator(spec, slot_seeds, num_envs, first_env=env)

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the workers that run now."""
        return self._simulator.pids if self.workers else []

    def run(
        self,
        policy: Policy,
        episodes: int,
        record: int = 0,
        progress: Progress | None = None,
    ) -> EvaluationResult:
        """Plays `episodes` episodes with every member.

        Args:
          policy: (observations [P, E, O] float32, episodes [P, E] int32, steps [P, E] int32)
            -> actions [P, E, A]. `episodes` and `steps` tell each row's episode and its step
            in it, from 0: a policy that draws should draw from them, so that a row's action
            does not depend on its place in the batch. Rows beyond a member's active
            environments repeat one of its rows, and their actions are ignored. E takes at
            most six values, those of `bucket_sizes(min(num_envs, episodes))`, so that a
            jitted policy compiles few shapes. Actions are clipped to the action space.
          episodes: N, episodes a member. Environment j plays j, j + num_envs, ...
          record: keep the trajectories of this many first episodes of each member.
          progress: called with (episodes done, episodes in all) whenever some end.

        Raises:
          UserError: an argument is out of its range.
          ValueError: the policy returned another shape than [P, E, A].
          SimulatorError: an environment failed, or a worker was lost twice; the message names
            the seed of the episode.
        """
        if episodes < 1:
            raise UserError(f"episodes is {episodes}; expected at least 1")
        if record < 0:
            raise UserError(f"record is {record}; expected at least 0")
        try:
            return self._run(policy, episodes, record, progress)
        except BaseException:
            # The workers may be amid a step whose answer nobody will fetch.
            if self.workers:
                self._simulator.kill()
            raise

    def _run(
        self, policy: Policy, episodes: int, record: int, progress: Progress | None
    ) -> EvaluationResult:
        began = time.perf_counter()
        policy_seconds = 0.0
        members = len(self._seeds)
        tally = _Tally(members, self._num_envs, episodes, record)
        buckets = bucket_sizes(min(self._num_envs, episodes))
        nonfinite = np.zeros(members, np.int64)
        slots = np.arange(members * self._num_envs)
        active = slots[slots % self._num_envs < episodes]
        observations = np.zeros((len(slots), self.observation_dim), np.float32)
        observations[active] = self._simulator.start(active, tally.episode[active], episodes)
        layout = arrange(active, members, self._num_envs, buckets)
        while active.size:
            called = time.perf_counter()
            actions = np.asarray(
                policy(
                    observations[layout.slots],
                    tally.episode[layout.slots].astype(np.int32),
                    tally.step[layout.slots].astype(np.int32),
                ),
                np.float32,
            )
            policy_seconds += time.perf_counter() - called
            expected = (*layout.slots.shape, self.action_dim)
            if actions.shape != expected:
                raise ValueError(f"the policy's actions are {actions.shape}; expected {expected}")
            actions = actions[layout.member, layout.column]
            bad = ~np.isfinite(actions).all(axis=1)
            if bad.any():
                nonfinite += np.bincount(layout.member[bad], minlength=members)
                actions[bad] = 0.0
            actions = np.clip(actions, self._low, self._high)
            if self.workers:
                result = self._simulator.step(actions, active, tally.episode[active])
            else:
                result = self._simulator.step(actions)
            tally.add(active, observations[active], actions, result)
            observations[active] = result.observations
            if result.ended.any():
                remaining = active[tally.episode[active] < episodes]
                if remaining.size < active.size:
                    active = remaining
                    layout = arrange(active, members, self._num_envs, buckets)
                if progress is not None:
                    progress(tally.done, members * episodes)
        return EvaluationResult(
            returns=tally.returns,
            lengths=tally.lengths,
            successes=tally.rewarded if self._spec.success == "reward" else None,
            nonfinite_actions=nonfinite,
            seconds=time.perf_counter() - began,
            policy_seconds=policy_seconds,
            env_steps=int(tally.lengths.sum()),
            trajectories=tuple(tally.trajectories[key] for key in sorted(tally.trajectories)),
        )

    def close(self) -> None:
        """Ends the workers and closes the environments."""
        self._simulator.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
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
    timeout: float = 60.0,
) -> EvaluationResult:
    """Evaluates once; arguments, result and errors are those of `Evaluator` and its `run`."""
    with Evaluator(spec, seeds, num_envs, workers, timeout) as evaluator:
        return evaluator.run(policy, episodes, record, progress)


class _Tally:
    """What the episodes have brought so far: sums of those in flight, results of those ended.

    Slot k plays for member k // num_envs; its environment there is k % num_envs.
    """

    def __init__(self, members: int, num_envs: int, episodes: int, record: int):
        slots = np.arange(members * num_envs)
        self.episode = slots % num_envs
        self.step = np.zeros(len(slots), np.int64)
        self.returns = np.zeros((members, episodes))
        self.lengths = np.zeros((members, episodes), np.int32)
        self.rewarded = np.zeros((members, episodes), bool)
        self.trajectories: dict[tuple[int, int], Trajectory] = {}
        self.done = 0
        self._member = slots // num_envs
        self._num_envs = num_envs
        self._record = record
        self._return = np.zeros(len(slots))
        self._rewarded = np.zeros(len(slots), bool)
        self._recorded: dict[int, tuple[list, list]] = {}

    def add(
        self, active: np.ndarray, observations: np.ndarray, actions: np.ndarray, result: StepResult
    ) -> None:
        """Adds a step of the `active` slots [n], taken at `observations` with `actions`."""
        self.step[active] += 1
        self._return[active] += result.rewards
        self._rewarded[active] |= result.rewards > 0
        for row in np.flatnonzero(self.episode[active] < self._record):
            seen, taken = self._recorded.setdefault(int(active[row]), ([], []))
            seen.append(observations[row])
            taken.append(actions[row])
        if result.restarted.any():
            self._begin(active[result.restarted])
        if not result.ended.any():
            return
        slots = active[result.ended]
        for slot, last in zip(slots, result.last_observations, strict=True):
            if slot in self._recorded:
                self._keep(int(slot), last)
        at = self._member[slots], self.episode[slots]
        self.returns[at] = self._return[slots]
        self.lengths[at] = self.step[slots]
        self.rewarded[at] = self._rewarded[slots]
        self.done += slots.size
        self.episode[slots] += self._num_envs
        self._begin(slots)

    def _begin(self, slots: np.ndarray) -> None:
        self.step[slots] = 0
        self._return[slots] = 0.0
        self._rewarded[slots] = False
        for slot in slots:
            self._recorded.pop(int(slot), None)

    def _keep(self, slot: int, last: np.ndarray) -> None:
        seen, taken = self._recorded[slot]
        key = int(self._member[slot]), int(self.episode[slot])
        self.trajectories[key] = Trajectory(*key, np.stack([*seen, last]), np.stack(taken))


def _checked_seeds(seeds: Sequence[int]) -> np.ndarray:
    seeds = np.asarray(seeds)
    if seeds.ndim != 1 or not seeds.size or seeds.dtype.kind not in "iu" or seeds.min() < 0:
        raise UserError(f"seeds are {seeds.tolist()}; expected one or more integers from 0")
    return seeds.astype(np.int64)


def _choose_workers(env, slots: int) -> int:
    """Returns how many workers pay for `slots` environments such as `env`, which it steps."""
    if os.name != "posix":
        return 0  # the workers' pipes are inherited file descriptors
    action = np.clip(0.0, env.action_space.low, env.action_space.high)
    action = action.astype(env.action_space.dtype)
    env.reset(seed=0)
    best = np.inf
    for _ in range(3):
        # The least of three: another process may have taken the core meanwhile.
        began = time.perf_counter()
        for _ in range(8):
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset(seed=0)
        best = min(best, (time.perf_counter() - began) / 8)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return cores if cores > 1 and slots * best > _WORTH_WORKERS else 0
