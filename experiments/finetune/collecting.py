"""New transitions from the environment that a dataset was recorded in, by the dataset's rules."""

from collections.abc import Sequence

import numpy as np

from dtql_jax.datasets.registry import ACTION_HIGH, ACTION_LOW
from dtql_jax.envs.spec import EnvSpec
from dtql_jax.training.data_parallel import Policy
from dtql_jax.types import Transition

_STREAM = 1  # part of the seeds of collected episodes, which differ from an evaluation's


class Collector:
    """One environment for each member; episodes continue from call to call.

    Transitions follow the dataset's rules. Rewards are reward * scale + shift. A termination sets
    the mask to 0, as does a reward above 0 in the mazes; a time limit does not.

    Attributes:
      episodes: [P] episodes ended.
      successes: [P] those of them with a reward above 0.
      steps: environment steps made by each member.
    """

    def __init__(self, spec: EnvSpec, seeds: Sequence[int], scale: float, shift: float) -> None:
        """Makes and resets the environments of members with these seeds."""
        from dtql_jax.envs.make import make_env

        self._spec, self._seeds = spec, list(seeds)
        self._scale, self._shift = np.float32(scale), np.float32(shift)
        self._envs = [make_env(spec) for _ in seeds]
        self.steps, members = 0, len(self._seeds)
        self.episodes, self.successes = np.zeros(members, np.int32), np.zeros(members, np.int32)
        self._step, self._rewarded = np.zeros(members, np.int32), np.zeros(members, bool)
        self._observations = np.array([self._reset(i) for i in range(members)])

    def _reset(self, member: int) -> np.ndarray:
        words = [self._seeds[member], int(self.episodes[member]), _STREAM]
        seed = int(np.random.SeedSequence(words).generate_state(1)[0])
        observation, _ = self._envs[member].reset(seed=seed)
        self._step[member], self._rewarded[member] = 0, False
        return np.asarray(observation, np.float32)

    def collect(self, policy: Policy, number: int) -> Transition:
        """Makes `number` steps with every member; returns [P, number, ...] float32."""
        steps = [self._advance(policy) for _ in range(number)]
        return Transition(*(np.stack(part, axis=1) for part in zip(*steps, strict=True)))

    def _advance(self, policy: Policy) -> Transition:
        before = self._observations.copy()
        chosen = policy(before[:, None], self.episodes[:, None], self._step[:, None])[:, 0]
        actions = np.clip(np.nan_to_num(chosen), ACTION_LOW, ACTION_HIGH).astype(np.float32)
        after = np.empty_like(before)
        rewards, masks = (np.ones(len(before), np.float32) for _ in range(2))
        for i, env in enumerate(self._envs):
            after[i], reward, terminated, truncated, _ = env.step(actions[i])
            reached = self._spec.success == "reward" and float(reward) > 0
            rewards[i], masks[i] = reward, not (terminated or reached)
            self._step[i] += 1
            self._rewarded[i] |= float(reward) > 0
            over = terminated or truncated or self._step[i] >= self._spec.max_episode_steps
            if over:
                self.episodes[i] += 1
                self.successes[i] += self._rewarded[i]
            self._observations[i] = self._reset(i) if over else after[i]
        self.steps += 1
        return Transition(before, actions, after, rewards * self._scale + self._shift, masks)

    def close(self) -> None:
        """Closes the environments."""
        for env in self._envs:
            env.close()
