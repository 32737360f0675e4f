"""What hosts say to each other comes through as it was said."""

import math

import numpy as np
import pytest

from dtql_jax.errors import UserError
from dtql_jax.evaluation.rollout import EvaluationResult, Trajectory
from dtql_jax.training.messages import decode, encode


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -3,
        0.1,
        1e300,
        "",
        "a\nü",
        [],
        [1, [2.5, None]],
        {},
        {"a": {"b": [1]}, 3: "x"},
    ],
)
def test_plain_values(value: object) -> None:
    found = decode(encode(value))
    assert found == value and type(found) is type(value)


def test_numbers_of_numpy_and_what_is_not_finite() -> None:
    assert decode(encode({"a": np.float32(0.5), "b": np.int64(7)})) == {"a": 0.5, "b": 7}
    assert math.isnan(decode(encode(math.nan))) and decode(encode(-math.inf)) == -math.inf


@pytest.mark.parametrize("dtype", ["float64", "float32", "int32", "bool"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_arrays_to_the_bit(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).normal(size=shape).astype(dtype)
    found = decode(encode(array))
    assert found.dtype == array.dtype and found.shape == array.shape
    np.testing.assert_array_equal(found, array)
    found[...] = 0  # one's own


def test_an_evaluation() -> None:
    rng = np.random.default_rng(0)
    path = Trajectory(1, 2, rng.normal(size=(4, 3)), rng.normal(size=(3, 2)))
    given = EvaluationResult(
        rng.normal(size=(2, 3)), np.ones((2, 3), np.int32), None, np.zeros(2), 1.5, 0.5, 6, (path,)
    )
    found = decode(encode(given))
    assert isinstance(found, EvaluationResult) and found.successes is None
    np.testing.assert_array_equal(found.returns, given.returns)
    (episode,) = found.trajectories
    assert isinstance(episode, Trajectory) and (episode.member, episode.episode) == (1, 2)
    np.testing.assert_array_equal(episode.observations, path.observations)


def test_errors() -> None:
    found = decode(encode(UserError("no data")))
    assert type(found) is UserError and str(found) == "no data"
    found = decode(encode(OSError(28, "No space left")))
    assert type(found) is RuntimeError and "OSError" in str(found) and "No space" in str(found)


def test_no_foreign_class_is_made() -> None:
    with pytest.raises(ValueError, match="no class of this program"):
        decode(b'{"object": ["subprocess", "Popen", {"args": "true"}]}')
