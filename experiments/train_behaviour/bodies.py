"""What is trained for each behaviour policy, and the settings it is trained with."""

from __future__ import annotations

import dataclasses

from dtql_jax.datasets.registry import get_task
from dtql_jax.datasets.sources import GeneratedSource
from dtql_jax.errors import UserError, near_matches


@dataclasses.dataclass(frozen=True)
class Settings:
    """PPO's settings.

    Attributes:
      steps: of the environments, together.
      envs: how many environments step at once.
      rollout: steps of each environment between two updates.
      batch: rows of a minibatch.
      epochs: passes over a rollout.
      learning_rate: at the beginning; it falls linearly to `last_learning_rate` times that.
      last_learning_rate: a share of `learning_rate`.
      gamma: discount.
      gae: lambda of the generalised advantage estimate.
      entropy: weight of the policy's entropy.
      log_std: of the policy at the beginning.
      hidden: units of each of the policy's two layers.
      critic_hidden: of the critic's two layers.
      euler: share of the steps, from the beginning, that Euler's integrator makes.
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
      source: how the data is collected that the policy is for.
      settings: PPO's.
      speed: ants: no more than so many metres a second are rewarded.
      start: shipped file that training begins with; "": with a new policy.
      start_scale: of that policy's actions.
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
    antmaze = get_task("antmaze-umaze")
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
        Body("hopper", "levels", get_task("hopper-medium").generated, Settings(1_500_000)),
        Body("walker2d", "levels", get_task("walker2d-medium").generated, Settings(1_500_000)),
        Body(
            "halfcheetah",
            "levels",
            get_task("halfcheetah-medium").generated,
            Settings(3_000_000, gamma=0.98, gae=0.92, log_std=-1.0),
        ),
        Body("antmaze-d4rl-ant", "ant", antmaze.generated, ant, speed=2.5),
        Body(
            "antmaze-gymnasium-ant",
            "ant",
            antmaze.generated_variants[0],
            dataclasses.replace(ant, steps=500_000, log_std=-1.6, learning_rate=2e-4),
            speed=3.0,
            # 30 of 150: the D4RL ant's torque, whose gait carries over
            start="antmaze-d4rl-ant.npz",
            start_scale=0.2,
        ),
        Body(
            "pen",
            "best",
            get_task("pen-expert").generated,
            Settings(2_000_000, envs=32, rollout=128, batch=512, epochs=8, log_std=-0.5, euler=0.0),
        ),
    ]
