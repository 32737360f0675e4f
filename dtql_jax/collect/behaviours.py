"""The behaviours of collections, by the names in the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dtql_jax.collect.antmaze import AntMazeBehaviour
from dtql_jax.collect.pointmaze import PointMazeBehaviour
from dtql_jax.collect.policies import BehaviourPolicy
from dtql_jax.collect.recording import Behaviour

if TYPE_CHECKING:
    import gymnasium


class PolicyBehaviour(Behaviour):
    """Samples from a policy."""

    description = "stochastic policy"

    def __init__(self, env: gymnasium.Env, policy: BehaviourPolicy):
        """Takes a policy for an environment with flat observations.

        Raises:
          UserError: the policy does not have the sizes of the environment.
        """
        spaces: Any = env
        policy.check_sizes(spaces.observation_space.shape[0], spaces.action_space.shape[0])
        self._policy = policy

    def action(self, observation: np.ndarray, draws: np.random.Generator) -> np.ndarray:
        """Returns a sample from the policy, float32 [A]."""
        return self._policy.action(observation, draws)


class RandomBehaviour(Behaviour):
    """Holds each random action for several steps, so that the body moves instead of trembling.

    Each episode draws the number of steps and the spread of the actions.
    """

    description = "random actions, each held for 10 to 70 steps"
    part_episodes = 10
    _HOLDS, _SPREADS = (10, 20, 40, 70), (0.5, 1.0)

    def __init__(self, env: gymnasium.Env):
        space: Any = env.action_space
        self._low, self._high = space.low, space.high

    def begin(self, env: gymnasium.Env, seed: int, draws: np.random.Generator) -> Any:
        """Draws the number of steps and the spread, and resets the environment."""
        self._hold = int(draws.choice(self._HOLDS))
        self._spread = float(draws.choice(self._SPREADS))
        self._step = 0
        return super().begin(env, seed, draws)

    def action(self, observation: Any, draws: np.random.Generator) -> np.ndarray:
        """Returns the current action, float32 [A]; ignores the observation."""
        if self._step % self._hold == 0:
            action = self._spread * draws.normal(size=self._low.shape)
            self._held = np.clip(action, self._low, self._high).astype(np.float32)
        self._step += 1
        return self._held


BEHAVIOURS = {
    "pointmaze": PointMazeBehaviour,
    "antmaze": AntMazeBehaviour,
    "policy": PolicyBehaviour,
    "random": RandomBehaviour,
}


def make_behaviour(
    name: str, env: gymnasium.Env, policy: BehaviourPolicy | None, settings: dict[str, Any]
) -> Behaviour:
    """Returns a behaviour for an environment.

    Args:
      name: key of `BEHAVIOURS`.
      env: the environment, its observations not flattened.
      policy: None for a behaviour without a policy.
      settings: keyword arguments of the class of the behaviour.

    Raises:
      UserError: the policy does not fit the environment.
    """
    arguments = () if policy is None else (policy,)
    return BEHAVIOURS[name](env, *arguments, **settings)
