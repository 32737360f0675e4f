"""The trained bodies and their settings of PPO."""

import dataclasses
from typing import Any

from dtql_jax.datasets.registry import get_task
from dtql_jax.datasets.sources import GeneratedSource
from dtql_jax.errors import UserError, near_matches


@dataclasses.dataclass(frozen=True)
class Settings:
    """PPO's settings."""

    steps: int  # of all environments together
    envs: int = 64  # environments that step at once
    rollout: int = 64  # steps of each environment between two updates
    batch: int = 128  # rows of a minibatch
    epochs: int = 10  # passes over a rollout
    learning_rate: float = 3e-4  # at the beginning; it falls linearly
    last_learning_rate: float = 0.1  # at the end, as a share of `learning_rate`
    gamma: float = 0.99  # discount
    gae: float = 0.95  # lambda of the generalised advantage estimate
    entropy: float = 0.0  # weight of the policy's entropy
    log_std: float = 0.0  # of the first policy
    hidden: int = 64  # units of each of the policy's two layers
    critic_hidden: int = 128  # of the critic's two layers
    euler: float = 0.75  # share of the steps, the first ones, made with Euler's integrator


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
    """Returns a body by its name; UserError if there is no such body."""
    bodies = {body.name: body for body in _bodies()}
    if name not in bodies:
        raise UserError(f"unknown body {name!r}: {near_matches(name, bodies)}")
    return bodies[name]


def _bodies() -> list[Body]:
    def collected(task: str) -> Any:
        return get_task(task).generated

    antmaze: Any = get_task("antmaze-umaze")
    ant = Settings(steps=3_000_000, rollout=128, batch=512, epochs=8, critic_hidden=64, euler=0.85)
    # the D4RL ant has 150 of torque, this one 30; the gait carries over
    weak_ant = dataclasses.replace(ant, steps=500_000, log_std=-1.6, learning_rate=2e-4)
    cheetah = Settings(3_000_000, gamma=0.98, gae=0.92, log_std=-1.0)
    pen = Settings(2_000_000, 32, rollout=128, batch=512, epochs=8, log_std=-0.5, euler=0.0)
    return [
        Body("hopper", "levels", collected("hopper-medium"), Settings(1_500_000)),
        Body("walker2d", "levels", collected("walker2d-medium"), Settings(1_500_000)),
        Body("halfcheetah", "levels", collected("halfcheetah-medium"), cheetah),
        Body("antmaze-d4rl-ant", "ant", antmaze.generated, ant, speed=2.5),
        Body(
            *("antmaze-gymnasium-ant", "ant", antmaze.generated_variants[0], weak_ant),
            speed=3.0,
            start="antmaze-d4rl-ant.npz",
            start_scale=0.2,
        ),
        Body("pen", "best", collected("pen-expert"), pen),
    ]
