"""Denoisers trained on a mixture, by DTQL's own update of its diffusion policy."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

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


def settings(config: Mapping[str, Any], weights: str) -> dtql.DTQLConfig:
    """DTQL's settings in this study; actions lie in [-1, 1]."""
    return dtql.DTQLConfig(
        learning_rate=config["learning_rate"],
        lr_decay=True,
        decay_steps=config["train_steps"],
        hidden_dim=config["hidden_dim"],
        time_dim=config["time_dim"],
        weighting=weights,
    )


def train(
    config: Mapping[str, Any],
    mixture: Mixture,
    weights: str,
    seeds: Sequence[int],
    say: Callable[[int], None] = lambda step: None,
) -> list[Any]:
    """Trains a denoiser for each seed, all as one population.

    Args:
      config: the study's.
      mixture: whose actions each update draws anew, so that no data set is learned by heart.
      weights: "edm" or "elbo", of the denoising loss.
      seeds: one for each denoiser.
      say: called with the updates made.

    Returns:
      The denoisers' parameters.
    """
    own = settings(config, weights)
    modules = dtql.make_networks(own)
    placement = Placement(len(seeds))
    keys = placement.put(population.member_keys(seeds))
    number = config["batch_size"]
    state_zero, ones = jnp.zeros((number, 1)), jnp.ones((number,))
    sample = Transition(state_zero, state_zero, state_zero, ones, ones)

    def init(key: Array) -> Any:
        return dtql.init_state(own, modules, key, sample)

    def updates(state: Any, key: Array, start: Array, length: int) -> Any:
        def one(state: Any, k: Array) -> tuple[Any, None]:
            data_key, draw_key = jax.random.split(jax.random.fold_in(key, k))
            actions = mixture.sample(data_key, number)
            batch = Transition(state_zero, actions, state_zero, ones, ones)
            draws = dtql.draw(draw_key, number, 1, weights)
            decay = common.decay_factor(own, k)
            return update_diffusion(
                modules, with_traced(own, state), state, batch, draws, decay, weights
            )[0], None

        return jax.lax.scan(one, state, start + jnp.arange(length))[0]

    programs: dict[int, Any] = {}

    def advance(state: Any, start: int, length: int) -> Any:
        if length not in programs:
            programs[length] = placement.map_members(
                lambda state, key, start: updates(state, key, start, length), (0, 0, None), (0,)
            )
        return programs[length](state, keys.run, placement.copy(jnp.int32(start)))

    state = placement.map_members(init, (0,))(keys.init)
    done = 0
    while done < config["train_steps"]:
        length = min(UPDATES_PER_CALL, config["train_steps"] - done)
        state = jax.block_until_ready(advance(state, done, length))
        done += length
        say(done)
    params = jax.device_get(placement.take(state.diffusion.params))
    return [population.member(params, i) for i in range(len(seeds))]


def network(config: Mapping[str, Any], params: Any) -> edm.Network:
    """The raw F of a trained denoiser."""
    denoiser = networks.Denoiser(config["hidden_dim"], config["time_dim"])
    return lambda *inputs: denoiser.apply(params, *inputs)
