"""The trained bodies and their settings of PPO."""

import dataclasses
from typing import Any

from dtql_jax.datasets.registry import get_task
from dtql_jax.datasets.sources import GeneratedSource
from dtql_jax.errors import UserError, near_matches


@dataclasses.dataclass(frozen=True)
class Settings:
    """PPO's settings.

    Attributes:
      steps: of all environments together.
      envs: environments that step at once.
      rollout: steps of each environment between two updates.
      batch: rows of a minibatch.
      epochs: passes over a rollout.
      learning_rate: at the beginning; it falls linearly.
      last_learning_rate: at the end, as a share of `learning_rate`.
      gamma: discount.
      gae: lambda of the generalised advantage estimate.
      entropy: weight of the policy's entropy.
      log_std: of the first policy.
      hidden: units of each of the policy's two layers.
      critic_hidden: of the critic's two layers.
      euler: share of the steps, the first ones, made with Euler's integrator.
    """

    steps: int
    envs: int = 64
    rollout: int = 64
    batch: int = 128
    epochs: int = 10
    learning_rate: float = 3e-4
    last_learning_rate: float = 0.1
    gamma: float = 0.99
    gae: float = 0.95
    entropy: float = 0.0
    log_std: float = 0.0
    hidden: int = 64
    critic_hidden: int = 128
    euler: float = 0.75


@dataclasses.dataclass(frozen=True)
class Body:
    """A body that a policy is trained for.

    Attributes:
      name: of the files.
      kind: "levels" (several levels of skill are kept), "ant" or "best" (one policy is kept).
      source: record of the data that the policy will collect.
      settings: PPO's.
      speed: largest rewarded speed of an ant, in m/s.
      start: shipped policy file to start from; "": a new policy.
      start_scale: factor of that policy's actions.
    """

    name: str
    kind: str
    source: GeneratedSource
    settings: Settings
    speed: float = 0.0
    start: str = ""
    start_scale: float = 1.0


def get_body(name: str) -> Body:
    """Returns a body by its name.

    Raises:
      UserError: no such body.
    """
    bodies = {body.name: body for body in _bodies()}
    if name not in bodies:
        raise UserError(f"unknown body {name!r}: {near_matches(name, bodies)}")
    return bodies[name]


def _bodies() -> list[Body]:
    def collected(task: str) -> Any:
        return get_task(task).generated

    antmaze: Any = get_task("antmaze-umaze")
    ant = Settings(
        steps=3_000_000,
        euler=0.85,
        envs=64,
        rollout=128,
        batch=512,
        epochs=8,
        hidden=64,
        critic_hidden=64,
    )
    return [
        Body("hopper", "levels", collected("hopper-medium"), Settings(1_500_000)),
        Body("walker2d", "levels", collected("walker2d-medium"), Settings(1_500_000)),
        Body(
            "halfcheetah",
            "levels",
            collected("halfcheetah-medium"),
            Settings(3_000_000, gamma=0.98, gae=0.92, log_std=-1.0),
        ),
        Body("antmaze-d4rl-ant", "ant", antmaze.generated, ant, speed=2.5),
        Body(
            "antmaze-gymnasium-ant",
            "ant",
            antmaze.generated_variants[0],
            dataclasses.replace(ant, steps=500_000, log_std=-1.6, learning_rate=2e-4),
            speed=3.0,
            # the D4RL ant has 150 of torque, this one 30; the gait carries over
            start="antmaze-d4rl-ant.npz",
            start_scale=0.2,
        ),
        Body(
            "pen",
            "best",
            collected("pen-expert"),
            Settings(2_000_000, envs=32, rollout=128, batch=512, epochs=8, log_std=-0.5, euler=0.0),
        ),
    ]
