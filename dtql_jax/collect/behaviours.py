"""The behaviours that collections are played by, by the names that the registry has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dtql_jax.collect.antmaze import AntMazeBehaviour
from dtql_jax.collect.pointmaze import ACTION_NOISE, Planner
from dtql_jax.collect.policies import BehaviourPolicy
from dtql_jax.collect.recording import Behaviour
from dtql_jax.errors import UserError, near_matches

if TYPE_CHECKING:
    import gymnasium


class PointMazeBehaviour(Behaviour):
    """The planner of `datasets.pointmaze`."""

    def __init__(self, env: gymnasium.Env):
        self._planner = Planner(env.unwrapped.maze.maze_map)

    def action(self, observation: dict[str, np.ndarray], draws: np.random.Generator) -> np.ndarray:
        """Returns a force with noise: float32 [2]."""
        return self._planner.action(observation["observation"], observation["desired_goal"], draws)


class PolicyBehaviour(Behaviour):
    """A policy's own draws, with nothing added."""

    def __init__(self, env: gymnasium.Env, policy: BehaviourPolicy):
        """Takes a policy for an environment with flat observations.

        Raises:
          UserError: the policy has other sizes than the environment.
        """
        expected = env.observation_space.shape[0], env.action_space.shape[0]
        if (policy.observation_dim, policy.action_dim) != expected:
            raise UserError(
                f"behaviour policy {policy.name} has {policy.observation_dim} inputs and "
                f"{policy.action_dim} actions; environment {env.spec.id} has {expected[0]} and "
                f"{expected[1]}"
            )
        self._policy = policy

    def action(self, observation: np.ndarray, draws: np.random.Generator) -> np.ndarray:
        """Returns a draw of the policy: float32 [A]."""
        return self._policy.action(observation, draws)


class RandomBehaviour(Behaviour):
    """Random actions, each held for some steps: a body moves far, where single draws tremble.

    The number of steps and the spread of the actions are drawn for each episode.
    """

    _HOLDS, _SPREADS = (10, 20, 40, 70), (0.5, 1.0)

    def __init__(self, env: gymnasium.Env):
        self._low, self._high = env.action_space.low, env.action_space.high

    def begin(self, env: gymnasium.Env, seed: int, draws: np.random.Generator) -> Any:
        """Resets the environment and draws how this episode is played."""
        self._hold = int(draws.choice(self._HOLDS))
        self._spread = float(draws.choice(self._SPREADS))
        self._step = 0
        return super().begin(env, seed, draws)

    def action(self, observation: Any, draws: np.random.Generator) -> np.ndarray:
        """Returns the action held, float32 [A], whatever is observed."""
        if self._step % self._hold == 0:
            action = self._spread * draws.normal(size=self._low.shape)
            self._held = np.clip(action, self._low, self._high).astype(np.float32)
        self._step += 1
        return self._held


_BEHAVIOURS = {
    "pointmaze": PointMazeBehaviour,
    "antmaze": AntMazeBehaviour,
    "policy": PolicyBehaviour,
    "random": RandomBehaviour,
}

# what a dataset says about who recorded it
DESCRIPTIONS = {
    "pointmaze": f"breadth-first waypoints, PD controller, action noise {ACTION_NOISE}",
    "antmaze": "breadth-first waypoints, goal-reaching policy, action noise 0.2",
    "policy": "stochastic policy",
    "random": "random actions, each held for 10 to 70 steps",
}

# Episodes in one part of a collection, the unit of work of a process, which a killed collection
# loses: a few seconds.
PART_EPISODES = {"pointmaze": 50, "antmaze": 32, "policy": 20, "random": 10}


def make_behaviour(
    name: str, env: gymnasium.Env, policy: BehaviourPolicy | None, settings: dict[str, Any]
) -> Behaviour:
    """Returns a behaviour for an environment.

    Args:
      name: "pointmaze", "antmaze" or "policy".
      env: as it comes, without its observations flattened.
      policy: None for a behaviour that has no need of one.
      settings: keyword arguments of the behaviour's class.

    Raises:
      UserError: there is no such behaviour, or the policy does not fit the environment.
    """
    if name not in _BEHAVIOURS:
        raise UserError(f"unknown behaviour {name!r}: {near_matches(name, _BEHAVIOURS)}")
    arguments = () if policy is None else (policy,)
    return _BEHAVIOURS[name](env, *arguments, **settings)
