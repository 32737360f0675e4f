"""Scores against closed forms, scipy, and a bootstrap that lists every resample."""

import itertools

import numpy as np
import pytest
import scipy.stats

from dtql_jax.envs.spec import EnvSpec
from dtql_jax.errors import UserError
from dtql_jax.evaluation.scores import (
    interquartile_mean,
    mean_and_standard_error,
    normalised_score,
    score,
    stratified_bootstrap_interval,
)

MAZE = EnvSpec("PointMaze_UMaze-v3", 10, success="reward")
HOPPER = EnvSpec("Hopper-v5", 10)


def test_normalised_score_is_0_for_random_and_100_for_expert():
    # hopper's published reference returns; 99.6 is the paper's score of hopper-medium
    random, expert = -20.272305, 3234.3
    returns = np.array([random, expert, random + 0.996 * (expert - random)])
    np.testing.assert_allclose(normalised_score(returns, random, expert), [0, 100, 99.6], atol=1e-9)


@pytest.mark.parametrize("references", [(1.0, 1.0), (np.nan, 1.0), (0.0, np.inf)])
def test_reference_scores_must_differ_and_be_finite(references):
    with pytest.raises(UserError, match="reference scores"):
        normalised_score(np.ones(3), *references)


def test_the_score_and_its_name():
    returns, successes = np.array([[2.0, 0.0]]), np.array([[True, False]])
    name, values = score(returns, successes, MAZE, None)
    assert name == "success rate" and values.tolist() == [[100, 0]]
    name, values = score(returns, None, HOPPER, (0.0, 4.0))
    assert name == "normalised score" and values.tolist() == [[50, 0]]
    name, values = score(returns, None, HOPPER, None)
    assert name == "return" and values.tolist() == [[2, 0]]
    with pytest.raises(UserError, match="successes are None"):
        score(returns, None, MAZE, None)


def test_standard_error_over_episodes_and_over_seeds():
    values = np.random.default_rng(0).normal(size=(5, 20)) + np.arange(5)[:, None]
    mean, error = mean_and_standard_error(values)
    assert mean == pytest.approx(values.mean())
    assert error == pytest.approx(scipy.stats.sem(values, axis=None))
    mean, error = mean_and_standard_error(values, over="seeds")
    assert mean == pytest.approx(values.mean())
    assert error == pytest.approx(scipy.stats.sem(values.mean(axis=1)))


def test_the_error_of_a_single_seed_is_unknown():
    values = np.ones((1, 10))
    assert mean_and_standard_error(values)[1] == 0
    assert np.isnan(mean_and_standard_error(values, over="seeds")[1])
    with pytest.raises(UserError, match="episodes, seeds"):
        mean_and_standard_error(values, over="tasks")


def test_interquartile_mean_is_the_mean_of_the_middle_half():
    # a quarter of 5, rounded down, is left out at either end
    values = np.array([[-100.0, 1.0, 2.0, 6.0, 100.0], [0.0, 0.0, 0.0, 3.0, 9.0]])
    assert interquartile_mean(values, axis=1).tolist() == [3.0, 1.0]
    assert interquartile_mean(values) == pytest.approx(np.mean([0, 0, 1, 2, 3, 6]))


@pytest.mark.parametrize("statistic", [np.mean, interquartile_mean])
def test_interval_is_that_of_all_resamples(statistic):
    # 3 runs of 2 tasks have 27 * 27 equally likely stratified resamples: few enough to list
    values = np.array([[0.0, 10.0], [1.0, 14.0], [5.0, 11.0]])
    rows = list(itertools.product(range(3), repeat=3))
    every = [
        statistic(np.concatenate([values[list(first), 0], values[list(second), 1]]), axis=-1)
        for first in rows
        for second in rows
    ]
    low, high = stratified_bootstrap_interval(
        values, statistic, confidence=0.8, resamples=40_000, seed=3
    )
    np.testing.assert_allclose([low, high], np.percentile(every, [10, 90]), atol=0.1)


def test_tasks_are_strata_and_do_not_mix():
    # Each task's runs agree, so nothing is uncertain, far apart as the tasks are.
    values = np.tile([0.0, 50.0, 1000.0], (4, 1))
    low, high = stratified_bootstrap_interval(values, np.mean, resamples=200)
    assert low == pytest.approx(350.0) and high == pytest.approx(350.0)


def test_a_single_run_has_an_empty_interval():
    assert stratified_bootstrap_interval(np.array([[1.0, 3.0]]), np.mean) == (2.0, 2.0)


def test_interval_covers_the_mean_about_as_often_as_it_says():
    rng, covered = np.random.default_rng(0), 0
    for trial in range(200):
        values = rng.normal([0, 5, -5], size=(20, 3))
        low, high = stratified_bootstrap_interval(
            values, np.mean, confidence=0.9, resamples=300, seed=trial
        )
        covered += low <= 0 <= high
    # 20 runs make it some 2 % too narrow; 200 trials scatter by 2 %.
    assert 0.82 <= covered / 200 <= 0.95


def test_interval_is_the_same_for_the_same_seed_and_wider_for_more_confidence():
    values = np.random.default_rng(0).normal(size=(5, 4))
    first = stratified_bootstrap_interval(values, resamples=500, seed=1)
    assert stratified_bootstrap_interval(values, resamples=500, seed=1) == first
    assert stratified_bootstrap_interval(values, resamples=500, seed=2) != first
    low, high = stratified_bootstrap_interval(values, resamples=500, seed=1, confidence=0.5)
    assert first[0] < low < high < first[1]


@pytest.mark.parametrize(
    ("values", "arguments", "words"),
    [
        (np.zeros((0, 2)), {}, "empty"),
        (np.array([[1.0, np.nan]]), {}, "1 values that are not finite"),
        (np.zeros((2, 2, 2)), {}, "expected .runs, tasks."),
        (np.zeros((2, 2)), {"confidence": 1.0}, "confidence"),
        (np.zeros((2, 2)), {"resamples": 0}, "resamples"),
    ],
)
def test_wrong_intervals_are_refused(values, arguments, words):
    with pytest.raises(UserError, match=words):
        stratified_bootstrap_interval(values, **arguments)
