"""A small algorithm with known numbers, for tests of the loop: it compiles in no time."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.algorithms.base import Algorithm
from dtql_jax.training.progress import Progress
from dtql_jax.types import Array, Transition

TRACES = {"pretrain": 0, "train": 0}


class Line(NamedTuple):
    """a ~ weights . s, fitted by noisy gradient steps."""

    weights: Array
    noise: Array


def linear_algorithm() -> Algorithm:
    """Fits actions by a linear map; its noise makes every key count."""

    def init(key: Array, sample: Transition) -> Line:
        shape = (sample.observations.shape[-1], sample.actions.shape[-1])
        return Line(jax.random.normal(key, shape), jnp.zeros(()))

    def update(name: str, state: Line, batch: Transition, key: Array):
        TRACES[name] += 1
        error = batch.observations @ state.weights - batch.actions
        gradient = batch.observations.T @ error / len(error)
        noise = jax.random.normal(key, state.weights.shape)
        weights = state.weights - 0.05 * gradient + 1e-4 * noise
        metrics = {"loss": jnp.mean(error**2)}
        if name == "train":
            metrics["noise"] = jnp.mean(noise)
        return Line(weights, state.noise + jnp.mean(noise)), metrics

    def act(state: Line, observations: Array, key: Array) -> Array:
        return observations @ state.weights

    return Algorithm(
        init,
        lambda s, b, k: update("pretrain", s, b, k),
        lambda s, b, k: update("train", s, b, k),
        act,
    )


def data(rows: int = 200) -> Transition:
    """Actions that are a linear map of observations [rows, 3] -> [rows, 2]."""
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(rows, 3)).astype(np.float32)
    actions = observations @ np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]], np.float32)
    ones = np.ones(rows, np.float32)
    return Transition(observations, actions, observations, ones, ones)


class Lines(Progress):
    """A display that keeps its warnings."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)
