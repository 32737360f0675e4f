"""The examples run, at tiny size (act_with_numpy: tests/test_export.py)."""

from pathlib import Path

import numpy as np
import pytest

import dtql_jax
from examples import own_algorithm, own_data_and_environment, quickstart

TINY = {"steps": 20, "batch_size": 16, "quiet": True, "episodes": 2}


def test_own_data_and_environment(capsys: pytest.CaptureFixture) -> None:
    trained, score = own_data_and_environment.main(
        rows=200, algorithm="bc", settings={"hidden_dim": 8}, **TINY
    )
    assert score.lengths.tolist() == [[20, 20]] and trained.env is not None
    assert "at -0.5 with the target at 0.5: [" in capsys.readouterr().out


def test_own_algorithm() -> None:
    _, score = own_algorithm.main(
        own_data_and_environment.record(100),
        env=own_data_and_environment.Line,
        max_episode_steps=20,
        **TINY,
    )
    assert np.isfinite(score.mean)


@pytest.mark.slow
def test_quickstart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("DTQL_JAX_CACHE", str(tmp_path / "cache"))
    small = {"hidden_dim": 16, "num_candidates": 4}
    score = quickstart.main(
        out=tmp_path / "policy.zip", transitions=2_000, pretrain_steps=10, settings=small, **TINY
    )
    assert score.name == "success rate"
    assert f"success rate {score.mean:.1f}" in capsys.readouterr().out
    policy = dtql_jax.load_policy(tmp_path / "policy.zip")
    assert policy.metadata["task"] == "pointmaze-umaze"
    assert policy(np.zeros(policy.observation_dim)).shape == (2,)
