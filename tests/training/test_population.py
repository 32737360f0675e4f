"""A member of a population is the single run with its seed and its settings."""

import jax
import numpy as np

from dtql_jax.algorithms import make_algorithm
from dtql_jax.algorithms.base import Algorithm
from dtql_jax.training import population
from dtql_jax.training.data_parallel import Placement
from tests.algorithms import small

UPDATES, BATCH = 1_000, 16
SEEDS, ALPHAS = (3, 1, 4), (0.5, 1.0, 5.0)


def train(algorithm: Algorithm, seeds: tuple[int, ...], alphas: tuple[float, ...]) -> list[list]:
    """Parameters after UPDATES updates, one list of leaves a member; as one vmapped program."""
    placement = Placement(len(seeds), jax.devices()[:1], together=True)
    keys, data = population.member_keys(seeds), small.batch(200)
    state = population.init(algorithm, placement, placement.put(keys.init), data)
    state = population.set_hyperparameters(placement, state, {"alpha": alphas})
    names = population.metric_names(algorithm, placement, state, data, BATCH)["train"]
    update = population.make_update(algorithm.train_step, names, BATCH, UPDATES, placement)
    sums = placement.put(population.empty_sums(len(names), len(seeds)))
    start = placement.copy(np.int32(0))
    state, _ = update(state, sums, placement.copy(data), placement.put(keys.run), start)
    return [jax.tree.leaves(population.member(state, i)) for i in range(len(seeds))]


def test_members_equal_their_own_runs() -> None:
    """Within 1e-4 after 1,000 updates, vmapped as on a GPU; rounding differs, nothing else."""
    algorithm = make_algorithm("dtql", small.settings("dtql"))
    together = train(algorithm, SEEDS, ALPHAS)
    for i, (seed, alpha) in enumerate(zip(SEEDS, ALPHAS, strict=True)):
        (alone,) = train(algorithm, (seed,), (alpha,))
        for a, b in zip(together[i], alone, strict=True):
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-4, atol=1e-4)
    first, _, last = ([leaf for leaf in member if leaf.ndim == 2] for member in together)
    assert max(float(np.abs(a - b).max()) for a, b in zip(first, last, strict=True)) > 1e-2
