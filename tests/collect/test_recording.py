"""A collection equals the record of Minari's DataCollector of the same episodes."""

import warnings

import minari
import numpy as np
import pytest

from dtql_jax.collect.pointmaze import PointMazeBehaviour
from dtql_jax.collect.recording import play
from dtql_jax.datasets import get_task, load
from dtql_jax.envs.make import make_base_env


def test_the_collection_equals_a_data_collectors(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("DTQL_JAX_CACHE", str(tmp_path / "cache"))
    found, info = load("pointmaze-umaze", "generated", transitions=700, quiet=True)

    env = make_base_env(get_task("pointmaze-umaze").generated.env)
    behaviour = PointMazeBehaviour(env)
    collector = minari.DataCollector(env)
    steps = number = 0
    while steps < 700:
        # seed 0, the number of the episode, no second policy
        steps += len(play(collector, behaviour, (0, number, 0)).actions)
        number += 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no author, no e-mail address
        recorded = collector.create_dataset("test/recorded-v0")
    recorded_rows = [
        (
            np.concatenate([e.observations["observation"], e.observations["desired_goal"]], 1),
            e.actions,
            e.rewards,
            e.terminations,
        )
        for e in recorded.iterate_episodes()
    ]
    stored = minari.load_dataset(info.dataset_id)
    assert recorded.total_episodes == stored.total_episodes == info.episodes
    # the collection cuts its last episode
    assert recorded.total_steps == steps and stored.total_steps == 700
    observations = np.concatenate([o[:-1] for o, *_ in recorded_rows])[:700].astype(np.float32)
    np.testing.assert_array_equal(found.observations, observations)
    for i, name in ((1, "actions"), (2, "rewards")):
        column = np.concatenate([row[i] for row in recorded_rows])[:700].astype(np.float32)
        np.testing.assert_array_equal(getattr(found, name), column)
    ends = np.concatenate([row[3] for row in recorded_rows])[:700]
    np.testing.assert_array_equal(found.masks, 1.0 - ends)
    collector.close()
