"""The rules from episodes to transitions, against a loop that takes one step at a time."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtql_jax.datasets.transitions import (
    concatenate,
    fingerprint,
    from_episode,
    transform_rewards,
    validate,
)
from dtql_jax.errors import UserError
from dtql_jax.types import Transition


def make(rows=6, observation_dim=3, action_dim=2):
    rng = np.random.default_rng(0)
    return Transition(
        observations=rng.normal(size=(rows, observation_dim)).astype(np.float32),
        actions=rng.uniform(-1, 1, size=(rows, action_dim)).astype(np.float32),
        next_observations=rng.normal(size=(rows, observation_dim)).astype(np.float32),
        rewards=rng.normal(size=rows).astype(np.float32),
        masks=np.ones(rows, np.float32),
    )


def changed(field, row, value):
    transitions = make()
    array = getattr(transitions, field).copy()
    array[row] = value
    return transitions._replace(**{field: array})


@settings(max_examples=50, deadline=None)
@given(data=st.data(), lengths=st.lists(st.integers(1, 7), min_size=1, max_size=5))
def test_episodes_become_transitions_as_in_a_loop(data, lengths):
    rng = np.random.default_rng(sum(lengths))
    parts, expected = [], []
    for steps in lengths:
        observations = rng.normal(size=(steps + 1, 3))
        actions = rng.normal(size=(steps, 2))
        rewards = rng.normal(size=steps)
        flags = st.lists(st.booleans(), min_size=steps, max_size=steps)
        terminals, keep = data.draw(flags), data.draw(flags)
        parts.append(from_episode(observations, actions, rewards, terminals, keep))
        for t in range(steps):
            if keep[t]:
                mask = 0.0 if terminals[t] else 1.0
                expected.append(
                    (observations[t], actions[t], observations[t + 1], rewards[t], mask)
                )
    result = concatenate(parts)
    assert len(result.rewards) == len(expected)
    for row, (observation, action, following, reward, mask) in enumerate(expected):
        np.testing.assert_array_equal(result.observations[row], observation.astype(np.float32))
        np.testing.assert_array_equal(result.actions[row], action.astype(np.float32))
        np.testing.assert_array_equal(result.next_observations[row], following.astype(np.float32))
        assert result.rewards[row] == np.float32(reward)
        assert result.masks[row] == mask
    for array in result:
        assert array.dtype == np.float32
        assert array.flags.c_contiguous


def test_next_observations_never_cross_episodes():
    # every observation carries its episode's number
    parts = [
        from_episode(np.full((4, 1), number), np.zeros((3, 1)), np.zeros(3), np.zeros(3))
        for number in range(5)
    ]
    result = concatenate(parts)
    np.testing.assert_array_equal(result.observations, result.next_observations)


def test_an_episode_whose_lengths_do_not_fit_is_refused():
    with pytest.raises(
        UserError, match=r"3 actions has 3 observations, 2 rewards and 3 terminals; expected"
    ):
        from_episode(np.zeros((3, 1)), np.zeros((3, 1)), np.zeros(2), np.zeros(3))


def test_nothing_cannot_be_concatenated():
    with pytest.raises(UserError, match="no episodes"):
        concatenate([])


def test_valid_transitions_pass():
    validate(make(), name="data", episodes=1, observation_dim=3, action_dim=2)


@pytest.mark.parametrize(
    ("transitions", "options", "message"),
    [
        (make(0), {}, "data is empty"),
        (make()._replace(masks=np.ones(5, np.float32)), {}, r"masks have shape \(5,\); .*\(6\)"),
        (make(), {"observation_dim": 4}, r"observations have shape \(6, 3\); expected \(6, 4\)"),
        (make(), {"action_dim": 1}, r"actions have shape \(6, 2\); expected \(6, 1\)"),
        (
            make()._replace(next_observations=np.zeros((6, 5), np.float32)),
            {},
            r"next_observations have shape \(6, 5\); expected \(6, 3\)",
        ),
        (
            make()._replace(rewards=np.zeros((6, 1), np.float32)),
            {},
            r"rewards have shape \(6, 1\); expected \(6\)",
        ),
        (
            changed("observations", 4, [np.nan, 1, np.inf]),
            {},
            "observations have 2 NaN or infinite entries, the first in row 4",
        ),
        (changed("rewards", 2, np.inf), {}, "rewards have 1 NaN .* row 2"),
        (changed("masks", 3, 0.5), {}, "masks must be 0 or 1; row 3 has 0.5"),
        (make(), {"episodes": 0}, "no terminal and no timeout in 6 rows"),
    ],
)
def test_invalid_transitions_are_named(transitions, options, message):
    with pytest.raises(UserError, match=message) as caught:
        validate(transitions, **({"name": "data", "episodes": 1} | options))
    assert "\n" not in str(caught.value)


def test_large_finite_numbers_are_valid():
    # their float32 sum would be infinite
    validate(make()._replace(rewards=np.full(6, 3e38, np.float32)), name="data", episodes=1)


def test_rewards_are_scaled_then_shifted():
    rewards = np.array([0.0, 1.0], np.float32)
    np.testing.assert_array_equal(transform_rewards(rewards, 1, -1), [-1, 0])
    # DQL's 4 (r - 0.5)
    transformed = transform_rewards(rewards, 4, -2)
    np.testing.assert_array_equal(transformed, [-2, 2])
    assert transformed.dtype == np.float32


def test_fingerprint_is_the_sha256_over_names_types_shapes_and_bytes():
    transitions = make()
    digest = hashlib.sha256()
    for name, array in zip(Transition._fields, transitions, strict=True):
        digest.update(f"{name}:<f4:{array.shape}:".encode() + array.tobytes())
    assert fingerprint(transitions) == f"sha256:{digest.hexdigest()}"


def test_fingerprint_does_not_depend_on_memory_layout():
    fortran = make()._replace(observations=np.asfortranarray(make().observations))
    assert fingerprint(fortran) == fingerprint(make())
