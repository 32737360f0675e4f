"""Scores in the record of a run."""

import numpy as np
import pytest

from dtql_jax.commands import results
from dtql_jax.datasets.info import DatasetInfo
from dtql_jax.datasets.registry import get_task
from dtql_jax.evaluation.rollout import EvaluationResult


@pytest.mark.parametrize(
    ("recorded", "installed", "warns"),
    [("3.2.7", "3.6.0", True), ("3.2.7", "3.2.7", False), ("", "3.6.0", False)],
)
def test_another_mujoco_is_a_warning_in_the_record(monkeypatch, recorded, installed, warns):
    monkeypatch.setattr(results, "version", lambda name: installed)
    env = get_task("antmaze-umaze").minari.env
    info = DatasetInfo(
        *("antmaze-umaze", "minari", "id", "v1", "", "sha256:0", 1, 1, 29, 8, ("observation",)),
        *(env, None),
        mujoco_version=recorded,
    )
    shape = np.zeros((1, 2))
    result = EvaluationResult(shape, shape.astype(int), shape > 0, np.zeros(1, int), 1.0, 0.5, 2)
    warning = results.scores_of(info, result)["warning"]
    assert (warning is not None) == warns
    if warns:
        assert recorded in warning and installed in warning
