"""Behaviour policies: the numbers of a file, evaluated as its layout says, or one line."""

import hashlib

import numpy as np
import pytest

from dtql_jax.collect import policies
from dtql_jax.collect.policies import read_policy
from dtql_jax.errors import UserError
from tests.datasets.dataset_files import policy_arrays, write_policy

RNG = np.random.default_rng(0)
OBSERVATION = RNG.normal(size=5)


def expected_gaussian(arrays, observation, log_std_min=-5.0):
    """Mean and standard deviation in float64, straight from the layout."""
    activation = {"relu": lambda x: x * (x > 0), "tanh": np.tanh}[str(arrays["meta/activation"])]

    def layer(x, name):
        kernel = arrays[f"{name}/kernel"].astype(np.float64)
        return sum(x[i] * kernel[i] for i in range(len(x))) + arrays[f"{name}/bias"]

    hidden = activation(layer(activation(layer(observation, "dense_0")), "dense_1"))
    log_std = np.minimum(np.maximum(layer(hidden, "log_std"), log_std_min), 2.0)
    return layer(hidden, "mean"), np.exp(log_std)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("squash", ["tanh", "none"])
def test_the_mean_action(tmp_path, activation, squash):
    arrays = policy_arrays(RNG, 5, 3, squash=squash, activation=activation)
    policy = read_policy(write_policy(tmp_path / "p.npz", arrays))
    mean, _ = expected_gaussian(arrays, OBSERVATION)
    expected = np.tanh(mean) if squash == "tanh" else np.clip(mean, -1, 1)
    action = policy.action(OBSERVATION)
    np.testing.assert_allclose(action, expected, rtol=1e-5, atol=1e-6)
    assert action.dtype == np.float32
    assert (policy.observation_dim, policy.action_dim, policy.name) == (5, 3, "p.npz")
    assert policy.sha256 == hashlib.sha256((tmp_path / "p.npz").read_bytes()).hexdigest()


@pytest.mark.parametrize("bound", [None, -1.0])
def test_draws_have_the_deviation_of_the_clipped_logarithm(tmp_path, bound):
    arrays = policy_arrays(RNG, 5, 3)
    arrays["log_std/bias"][:] = -50.0, 0.0, -1.5
    arrays["log_std/kernel"] *= 0.1
    if bound is not None:
        arrays["meta/log_std_min"] = np.array(bound)
    policy = read_policy(write_policy(tmp_path / "p.npz", arrays))
    mean, std = expected_gaussian(arrays, OBSERVATION, -5.0 if bound is None else bound)
    draws = np.random.default_rng(1)
    actions = np.stack([policy.action(OBSERVATION, draws) for _ in range(4000)])
    assert np.abs(actions).max() <= 1
    drawn = np.arctanh(actions.astype(np.float64).clip(-1 + 1e-7, 1 - 1e-7))
    # the median and the quartiles survive the squashing
    np.testing.assert_allclose(np.median(drawn, axis=0), mean, atol=0.08 * std.max())
    spread = (np.quantile(drawn, 0.75, axis=0) - np.quantile(drawn, 0.25, axis=0)) / 1.349
    np.testing.assert_allclose(spread, std, rtol=0.1)
    # float32 tells means apart only so far
    assert spread[0] >= np.exp(-5.0) / 1.2


def test_the_same_draws_give_the_same_actions(tmp_path):
    policy = read_policy(write_policy(tmp_path / "p.npz", policy_arrays(RNG, 5, 3)))
    one, other = (policy.action(OBSERVATION, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def broken(key, value):
    def change(arrays):
        if value is None:
            del arrays[key]
        else:
            arrays[key] = value(arrays[key]) if callable(value) else value

    return change


def set_nan(array):
    array = array.copy()
    array.flat[0] = np.nan
    return array


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (broken("mean/bias", None), "lacks mean/bias; found dense_0/bias"),
        (broken("meta/squash", None), "lacks meta/squash"),
        (broken("dense_0/kernel", set_nan), "dense_0/kernel has .*expected finite numbers"),
        (broken("dense_1/kernel", np.zeros((7, 8))), r"dense_1/kernel .*\(7, 8\).*shape \(8, 8\)"),
        (broken("mean/bias", np.zeros(4)), r"mean/bias has shape \(4,\).*of shape \(3,\)"),
        (broken("mean/kernel", np.zeros(4)), "mean/kernel must have two axes"),
        (broken("log_std/kernel", np.zeros((8, 2))), r"log_std/kernel .*\(8, 2\).*shape \(8, 3\)"),
        (broken("dense_0/bias", np.array(["a"])), "dense_0/bias has .*type <U1; expected finite"),
        (broken("meta/activation", np.array("relo")), "activation is 'relo': did you mean relu"),
        (broken("meta/squash", np.array(3)), "squash is 3: known: none, tanh"),
        (broken("meta/log_std_min", np.array(3.0)), "log_std_min is 3.0; expected a number below"),
        (
            broken("meta/log_std_min", np.zeros(2)),
            r"log_std_min is \[0.0, 0.0\]; expected a number",
        ),
        (
            broken("mean/bias", np.array([{}], object)),
            r"p\.npz is no valid \.npz file \(Object arrays",
        ),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, change, message):
    arrays = policy_arrays(RNG, 5, 3) | {"meta/log_std_min": np.array(-5.0)}
    change(arrays)
    path = write_policy(tmp_path / "p.npz", arrays)
    with pytest.raises(UserError, match=message) as caught:
        read_policy(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_something_else_is_one_line(tmp_path, content):
    (tmp_path / "p.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"p\.npz is no valid \.npz file"):
        read_policy(tmp_path / "p.npz")


def test_an_absent_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"p\.npz cannot be read: No such file"):
        read_policy(tmp_path / "p.npz")


def test_files_from_a_list_and_shipped_ones(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = policies.policy_files("a.npz, b.npz", "hopper-medium")
    assert found == [tmp_path / "a.npz", tmp_path / "b.npz"]
    with pytest.raises(UserError, match=r"expected FILE\.npz or FILE\.npz,FILE\.npz"):
        policies.policy_files("a.npz,,", "hopper-medium")
    (shipped,) = policies.policy_files("", "hopper-medium")
    assert shipped == policies.SHIPPED_FOLDER / "hopper-medium.npz"


def test_the_digest_of_several_depends_on_all_and_their_order(tmp_path):
    a, b = (
        read_policy(write_policy(tmp_path / f"{name}.npz", policy_arrays(RNG, 5, 3)))
        for name in "ab"
    )
    assert policies.digest([a]) == a.sha256
    assert len({policies.digest(given) for given in ([a], [b], [a, b], [b, a], [a, a])}) == 5
