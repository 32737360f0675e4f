"""How many members a device holds."""

import jax
import pytest

from dtql_jax.algorithms import make_algorithm
from dtql_jax.training import capacity
from tests.algorithms import small


def test_members_fit_into_what_the_data_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm, batch = make_algorithm("bc", small.settings("bc")), small.batch(2)
    state = jax.eval_shape(algorithm.init, jax.eval_shape(lambda: jax.random.key(0)), batch)
    parameters = sum(x.size for x in jax.tree.leaves(state))
    one = capacity.member_bytes(algorithm, batch, 256)
    # at least the state and the next one, in float32
    assert one > 2 * 4 * parameters
    assert capacity.member_bytes(algorithm, batch, 512) > one
    devices = jax.local_device_count()
    monkeypatch.setattr(capacity, "device_memory", lambda device: 100 * one)
    assert 0 < capacity.members_that_fit(algorithm, batch, 256, 0) < 100 * devices
    half = capacity.members_that_fit(algorithm, batch, 256, 50 * one)
    assert half < capacity.members_that_fit(algorithm, batch, 256, 0)
    # a device gets a member, whatever the data
    assert capacity.members_that_fit(algorithm, batch, 256, 1000 * one) == devices


def test_a_cpu_device_has_a_share_of_the_machines_memory() -> None:
    memory = capacity.device_memory(jax.local_devices()[0])
    assert memory > 10_000_000
