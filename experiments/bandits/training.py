"""Training of several bandits at once, with samples of their policies recorded on the way."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax import networks
from dtql_jax.algorithms import make_algorithm
from dtql_jax.algorithms.base import Algorithm
from dtql_jax.algorithms.common import repeat
from dtql_jax.diffusion import edm
from dtql_jax.training import population
from dtql_jax.training.data_parallel import Placement
from dtql_jax.training.population import draw_batch
from dtql_jax.types import Array, Transition
from experiments.bandits.problems import Bandit

# far beyond every action: an implicit policy's samples are recorded as they are, not clipped
UNBOUNDED = 1e6


@dataclasses.dataclass(frozen=True)
class Budget:
    """How long, with how much, and how often somebody looks."""

    pretrain_steps: int  # updates before the policy learns
    train_steps: int  # updates
    batch_size: int  # actions; 0: all of the data
    record_every: int  # updates
    samples: int  # of each policy at each recording


class Recording(NamedTuple):
    """Samples over training, of P bandits at F moments.

    Attributes:
      steps: [F] training updates made.
      policy: [P, F, S, 2] of the policy that acts.
      behaviour: [P, F, S, 2] of the diffusion policy; None where the algorithm has none.
      metrics: {name: [P, F]}, means since the recording before; NaN at the first.
    """

    steps: np.ndarray
    policy: np.ndarray
    behaviour: np.ndarray | None
    metrics: dict[str, np.ndarray]


def _updates(
    step: Callable[..., Any], batch_size: int, number: int
) -> Callable[[Any, Transition, Array, Array], tuple[Any, dict[str, Array]]]:
    """`number` updates from number `start` on, and the means of their metrics."""

    def run(state: Any, data: Transition, key: Array, start: Array) -> tuple[Any, Any]:
        def one(state: Any, k: Array) -> tuple[Any, Any]:
            batch_key, step_key = jax.random.split(jax.random.fold_in(key, k))
            batch = draw_batch(data, batch_key, batch_size) if batch_size else data
            return step(state, batch, step_key)

        state, metrics = jax.lax.scan(one, state, start + jnp.arange(number))
        return state, jax.tree.map(jnp.mean, metrics)

    return run


def _sampler(
    algorithm: Algorithm, settings: Mapping[str, Any], number: int
) -> Callable[[Any, Array], tuple[Array, Array]]:
    """Samples [S, 2] of the acting and of the diffusion policy (empty without one)."""

    def samples(state: Any, key: Array) -> tuple[Array, Array]:
        keys = jax.random.split(key)
        states = jnp.zeros((number, 1))
        acted = algorithm.act(state, states, keys[0])
        if not hasattr(state, "diffusion"):
            return acted, jnp.zeros((0, 2))
        denoiser = networks.Denoiser(settings["hidden_dim"], settings["time_dim"])
        behaviour = edm.sample(
            lambda *inputs: denoiser.apply(state.diffusion.params, *inputs),
            repeat(jnp.zeros(1), number),
            jax.random.normal(keys[1], (number, 2)),
            None,
        )
        return acted, behaviour

    return samples


def train(
    name: str,
    settings: Mapping[str, Any],
    bandits: Sequence[Bandit],
    numbers: Mapping[str, Sequence[float]],
    budget: Budget,
    *,
    seeds: Sequence[int],
    say: Callable[[int], None] = lambda step: None,
) -> Recording:
    """Trains one member on each bandit, all as one population.

    Args:
      name: of the algorithm.
      settings: its settings, the same for all.
      bandits: P of them, with the same number of points.
      numbers: {name: one for each bandit} of the algorithm's traced numbers that differ.
      budget: of each.
      seeds: of each.
      say: called with the updates made, at each recording.
    """
    algorithm = make_algorithm(name, dict(settings))
    placement = Placement(len(bandits))
    stacked = jax.tree.map(lambda *rows: jnp.stack(rows), *(b.transitions() for b in bandits))
    data = placement.put(stacked)
    keys = placement.put(population.member_keys(seeds))
    sample = jax.tree.map(lambda x: x[0], stacked)
    state = population.init(algorithm, placement, keys.init, sample)
    state = population.set_hyperparameters(placement, state, numbers)
    sampler = _sampler(algorithm, settings, budget.samples)
    look = placement.map_members(
        lambda s, key, k: sampler(s, jax.random.fold_in(key, k)), (0, 0, None)
    )

    def program(step: Callable[..., Any], length: int) -> Any:
        updates = _updates(step, budget.batch_size, length)
        return placement.map_members(updates, (0, 0, 0, None), donate=(0,))

    def number(k: int) -> Any:
        return placement.copy(jnp.int32(k))

    if budget.pretrain_steps:
        pretrain = program(algorithm.pretrain_step, budget.pretrain_steps)
        state, _ = pretrain(state, data, keys.run, number(0))
    seen: list[Any] = [look(state, keys.evaluation, number(0))]
    measured: list[Any] = []
    steps = [0]
    while steps[-1] < budget.train_steps:
        length = min(budget.record_every, budget.train_steps - steps[-1])
        if not measured or length != budget.record_every:
            segment = program(algorithm.train_step, length)
        begin = number(budget.pretrain_steps + steps[-1])
        state, metrics = segment(state, data, keys.run, begin)
        steps.append(steps[-1] + length)
        measured.append(placement.take(jax.device_get(metrics)))
        seen.append(look(state, keys.evaluation, number(steps[-1])))
        say(steps[-1])
    policy, behaviour = (
        np.stack([np.asarray(placement.take(pair[i])) for pair in seen], axis=1) for i in (0, 1)
    )
    none = np.full((len(bandits), 1), np.nan)
    metrics = {
        name: np.concatenate([none, np.stack([m[name] for m in measured], axis=1)], axis=1)
        for name in measured[0]
    }
    return Recording(np.asarray(steps), policy, behaviour if behaviour.size else None, metrics)
