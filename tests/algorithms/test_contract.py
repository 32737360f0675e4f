"""The contract of an algorithm with the loop, populations and evaluation, for every variant."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.algorithms import ALGORITHMS, make_algorithm
from dtql_jax.algorithms.base import Algorithm
from dtql_jax.errors import UserError
from tests.algorithms import small

# the algorithms, and variants whose step or state is another program
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in ALGORITHMS} | {
    "dtql-implicit": ("dtql", {"policy": "implicit"}),
    "bc-ddpm": ("bc", {"policy": "ddpm"}),
    "bc-edm": ("bc", {"policy": "edm"}),
}
UPDATES, ROWS = 2, 8


def signature(tree: Any) -> tuple[Any, list[tuple[tuple[int, ...], Any]]]:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(x.shape, x.dtype) for x in leaves]


def updates_and_actions(algorithm: Algorithm, state: Any, key: jax.Array) -> Any:
    """The state after a scan of updates, their metrics, and actions [2, 3, A]."""
    data = small.batch(ROWS)

    def update(state: Any, k: jax.Array) -> tuple[Any, Any]:
        return algorithm.train_step(state, data, jax.random.fold_in(key, k))

    # the scan refuses a state whose structure, shapes or dtypes change
    state, metrics = jax.lax.scan(update, state, jnp.arange(UPDATES))
    observations = jax.random.normal(jax.random.key(1), (2, 3, small.OBSERVATION_DIM))
    return state, metrics, algorithm.act(state, observations, key)


@pytest.mark.parametrize("variant", VARIANTS)
def test_scanned_updates_of_a_population(variant: str) -> None:
    """All numbers are finite, actions within their bounds, and a member equals the single run."""
    name, changes = VARIANTS[variant]
    algorithm = make_algorithm(name, small.settings(name, **changes))
    keys = jax.random.split(jax.random.key(0), 2)
    init = small.jit(algorithm.init)
    members = [init(key, small.batch(1)) for key in keys]

    def run(state: Any, key: jax.Array) -> Any:
        return updates_and_actions(algorithm, state, key)

    states = jax.tree.map(lambda *x: jnp.stack(x), *members)
    pair = small.jit(jax.vmap(run))(states, keys)
    state, metrics, actions = pair
    assert all(m.shape == (2, UPDATES) and np.all(np.isfinite(m)) for m in metrics.values())
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(state))
    assert actions.shape == (2, 2, 3, small.ACTION_DIM)
    assert np.all(np.abs(actions) <= small.MAX_ACTION + 1e-6)
    assert not np.allclose(actions[0], actions[1])
    if not changes:
        alone = small.jit(run)(members[1], keys[1])
        for found, expected in zip(jax.tree.leaves(pair), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(found[1], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_acting_takes_one_observation_or_many(variant: str) -> None:
    name, changes = VARIANTS[variant]
    algorithm = make_algorithm(name, small.settings(name, **changes))
    state = jax.eval_shape(algorithm.init, jax.random.key(0), small.batch(1))
    for shape in ((), (3,), (2, 3)):
        observations = jnp.zeros((*shape, small.OBSERVATION_DIM))
        actions = jax.eval_shape(algorithm.act, state, observations, jax.random.key(0))
        assert actions.shape == (*shape, small.ACTION_DIM)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_pretraining_keeps_the_structure(name: str) -> None:
    algorithm = make_algorithm(name, small.settings(name))
    data, key = small.batch(ROWS), jax.random.key(0)
    state = jax.eval_shape(algorithm.init, key, data)
    after, metrics = jax.eval_shape(algorithm.pretrain_step, state, data, key)
    assert signature(after) == signature(state)
    assert all(m.shape == () for m in metrics.values())


@pytest.mark.parametrize("name", ALGORITHMS)
def test_wrong_settings_are_named(name: str) -> None:
    with pytest.raises(UserError, match="learning_rate is -1"):
        make_algorithm(name, {"learning_rate": -1.0})
    with pytest.raises(UserError, match=f"{name} has no setting 'learning_rat'"):
        make_algorithm(name, {"learning_rat": 1.0})
    with pytest.raises(UserError, match="hidden_dim is 0"):
        make_algorithm(name, {"hidden_dim": 0})
    choice = "q_aggregation" if name == "fql" else "action_selection"
    with pytest.raises(UserError, match=rf"{choice} is 'best'; expected one of \('"):
        make_algorithm(name, {choice: "best"})
