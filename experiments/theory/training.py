"""Denoisers trained on a mixture, by DTQL's own update of its diffusion policy."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax import networks
from dtql_jax.algorithms import common, dtql
from dtql_jax.algorithms.config import with_traced
from dtql_jax.algorithms.shared_updates import update_diffusion
from dtql_jax.diffusion import edm
from dtql_jax.training import population
from dtql_jax.training.data_parallel import Placement
from dtql_jax.types import Array, Transition
from experiments.theory.mixture import Mixture

UPDATES_PER_CALL = 200


def settings(config: Mapping[str, Any], weights: str) -> dict[str, Any]:
    """Returns DTQL's settings in this study; actions are in [-1, 1]."""
    own = {name: config[name] for name in ("learning_rate", "hidden_dim", "time_dim")}
    return own | {"lr_decay": True, "decay_steps": config["train_steps"], "weighting": weights}


def train(
    config: Mapping[str, Any],
    mixture: Mixture,
    weights: str,
    seeds: Sequence[int],
    measure: Callable[[edm.Network], Array],
    advance: Callable[[int], None] = lambda step: None,
) -> np.ndarray:
    """Trains a denoiser for each of P seeds, all as one population.

    Args:
      config: the study's.
      mixture: each update draws new actions from it, so that no dataset is learned by heart.
      weights: "edm" or "elbo", of the denoising loss.
      seeds: one for each denoiser.
      measure: takes the raw F of a trained denoiser.
      advance: called with the updates made.

    Returns:
      The result of `measure` for each denoiser, [P, ...].
    """
    own = dtql.DTQLConfig(**settings(config, weights))
    modules = dtql.make_networks(own)

    def draw(_: Any, key: Array, size: int) -> Transition:
        actions = mixture.sample(key, size)
        state, one = jnp.zeros_like(actions), jnp.ones(size)
        return Transition(state, actions, state, one, one)

    def step(state: Any, batch: Transition, key: Array) -> tuple[Any, dict[str, Array]]:
        draws = dtql.draw(key, *batch.actions.shape, weights=weights)
        decay = common.decay_factor(own, state.diffusion.step)
        traced = with_traced(own, state)
        return update_diffusion(modules, traced, state, batch, draws, decay, weights)

    def init(key: Array) -> Any:
        return dtql.init_state(own, modules, key, draw(None, key, 1))

    def losses(params: Any) -> Array:
        denoiser = networks.Denoiser(config["hidden_dim"], config["time_dim"])
        return measure(functools.partial(denoiser.apply, params))

    placement = Placement(len(seeds))
    keys = placement.put(population.member_keys(seeds))
    metrics = ["denoising_loss"]

    @functools.cache
    def program(number: int) -> Any:
        update = population.scan_updates(step, metrics, config["batch_size"], number, draw)
        return placement.map_members(update, (0, 0, None, 0, None), donate=(0,))

    state = placement.map_members(init, (0,))(keys.init)
    sums = placement.put(population.empty_sums(len(metrics), len(seeds)))
    for start in range(0, config["train_steps"], UPDATES_PER_CALL):
        number = min(UPDATES_PER_CALL, config["train_steps"] - start)
        state, sums = program(number)(state, sums, (), keys.run, placement.copy(jnp.int32(start)))
        jax.block_until_ready(state)
        advance(start + number)
    measured = placement.map_members(losses, (0,))(state.diffusion.params)
    return np.asarray(placement.take(measured), np.float64)
