"""The loop: what it draws, logs, saves, and that stopping it anywhere changes nothing."""

import math
from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.algorithms.base import Algorithm
from dtql_jax.errors import UserError
from dtql_jax.training import population
from dtql_jax.training.checkpoint import Checkpoints
from dtql_jax.training.logging import MetricsLog, read_rows
from dtql_jax.training.trainer import Trainer, TrainerConfig
from dtql_jax.types import Array, Transition
from tests.training.fakes import TRACES, Line, data, linear_algorithm

SETTINGS = TrainerConfig(
    batch_size=16,
    pretrain_steps=30,
    train_steps=100,
    updates_per_call=7,
    log_every=20,
    eval_every=40,
    checkpoint_every=50,
)


def evaluate(policy, update: int) -> list[dict]:
    observations = np.ones((2, 4, 3), np.float32)
    numbers = np.zeros((2, 4), np.int32)
    actions = policy(observations, numbers, numbers)
    return [
        {
            "score": float(np.mean(a)),
            "return_mean": 0.0,
            "return_std": 0.0,
            "success_rate": math.nan,
            "length_mean": 1.0,
            "episodes": 4,
        }
        for a in actions
    ]


def make_trainer(folder: Path, checkpoints: Checkpoints | None, seeds=(3, 5)) -> Trainer:
    return Trainer(
        linear_algorithm(),
        data(),
        seeds,
        SETTINGS,
        evaluate=evaluate,
        checkpoints=checkpoints,
        make_log=lambda names, at: MetricsLog(
            folder, seeds, names, resume_at=at, tensorboard=False
        ),
    )


def assert_equal(found: Any, wanted: Any) -> None:
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(a, b)


def logs(folder: Path) -> tuple[str, str]:
    return (folder / "metrics.csv").read_text(), (folder / "evaluations.csv").read_text()


def test_a_whole_run(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        fit = make_trainer(tmp_path, checkpoints)
        result = fit.run()
        assert checkpoints.latest() == 130
    assert result.finished
    assert result.update == 130
    metrics, evaluations = map(read_rows, (tmp_path / "metrics.csv", tmp_path / "evaluations.csv"))
    assert [int(r["update"]) for r in metrics[::2]] == [20, 30, 50, 70, 90, 110, 130]
    assert [r["phase"] for r in metrics[::2]] == ["pretrain"] * 2 + ["train"] * 5
    assert [int(r["step"]) for r in evaluations[::2]] == [40, 80, 100]
    assert [r["seed"] for r in metrics[:2]] == ["3", "5"]
    assert metrics[0]["noise"] == ""  # pretraining does not report it
    assert float(metrics[-1]["loss"]) < 0.05
    assert set(result.seconds) >= {"init", "compile", "pretrain", "train", "evaluate"}


def test_stopping_anywhere_changes_nothing(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    with Checkpoints(whole / "checkpoints") as checkpoints:
        expected = make_trainer(whole, checkpoints).run()
    rng, stops, finished = np.random.default_rng(0), 0, False
    while not finished:
        with Checkpoints(parts / "checkpoints") as checkpoints:
            fit = make_trainer(parts, checkpoints)
            if stops:
                fit.resume()
            calls = iter(range(int(rng.integers(1, 6))))
            result = fit.run(lambda calls=calls: next(calls, None) is None)
        finished, stops = result.finished, stops + 1
    assert stops > 4
    assert logs(parts) == logs(whole)
    assert_equal(result.state, expected.state)


def test_dying_between_checkpoints_leaves_no_double_rows(tmp_path: Path) -> None:
    """The process dies without a word: rows newer than the checkpoint are written again."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    make_trainer(whole, None).run()
    with Checkpoints(parts / "checkpoints") as checkpoints:
        fit = make_trainer(parts, checkpoints)
        calls = iter(range(14))

        def die() -> bool:
            if next(calls, None) is None:
                raise RuntimeError("killed")
            return False

        with pytest.raises(RuntimeError, match="killed"):
            fit.run(die)
        checkpoints.wait()
        newest = checkpoints.latest()
        with (parts / "metrics.csv").open("a") as file:
            file.write("999,train,torn")  # and its last line is torn
        again = make_trainer(parts, checkpoints)
        again.resume()
        assert again.update == newest
        assert again.run().finished
    assert logs(parts) == logs(whole)


def test_no_recompilation_after_the_first_calls() -> None:
    settings = TrainerConfig(16, 40, 400, 20, 40, 10_000, 10_000)
    fit = Trainer(linear_algorithm(), data(), [0], settings)
    fit.run()
    before = dict(TRACES)
    again = Trainer(linear_algorithm(), data(), [0], settings)
    again.run()
    traced = {name: TRACES[name] - before[name] for name in TRACES}
    # one trace serves the names of the metrics and the program with its 2 and 20 calls
    assert traced == {"pretrain": 1, "train": 1}


def test_a_population_equals_its_single_runs(tmp_path: Path) -> None:
    together = Trainer(linear_algorithm(), data(), [3, 5], SETTINGS).run().state
    for i, seed in enumerate((3, 5)):
        alone = Trainer(linear_algorithm(), data(), [seed], SETTINGS).run().state
        for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
            np.testing.assert_array_equal(a[0], b[i])


def test_wrong_settings() -> None:
    for name in ("batch_size", "train_steps", "log_every"):
        with pytest.raises(UserError, match=f"{name} is 0; expected an integer >= 1"):
            TrainerConfig(**{name: 0})
    with pytest.raises(UserError, match="no checkpoint"):
        Trainer(linear_algorithm(), data(), [0], SETTINGS).resume()


def test_a_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "c") as checkpoints:
        make_trainer(tmp_path, checkpoints).run()
    with Checkpoints(tmp_path / "c") as checkpoints:
        fit = Trainer(linear_algorithm(), data(), [1], SETTINGS, checkpoints=checkpoints)
        with pytest.raises(UserError, match="does not fit this run"):
            fit.resume()


def diverging(data_at: int) -> Algorithm:
    """The line, but a member whose weights are infinite from update `data_at` on."""
    line = linear_algorithm()

    @flax.struct.dataclass
    class Config:
        scale: Array

    @flax.struct.dataclass
    class State:
        line: Line
        count: Array
        config: Config

    def init(key: Array, sample: Transition) -> State:
        return State(line.init(key, sample), jnp.int32(0), Config(jnp.float32(0.0)))

    def step(state: State, batch: Transition, key: Array):
        moved, metrics = line.train_step(state.line, batch, key)
        late = (state.count >= data_at) & (state.config.scale > 0)
        metrics["burst"] = jnp.where(late, jnp.inf, 0.0)
        weights = moved.weights + metrics["burst"]
        state = state.replace(line=moved._replace(weights=weights), count=state.count + 1)
        return state, metrics

    return Algorithm(init, step, step, lambda s, o, k: line.act(s.line, o, k))


def fit_with_divergence(folder: Path, scales: list[float], checkpoints=None) -> Trainer:
    return Trainer(
        diverging(75),
        data(),
        [3] * len(scales),
        SETTINGS,
        hyperparameters={"scale": scales},
        checkpoints=checkpoints,
        make_log=lambda names, at: MetricsLog(
            folder, [3] * len(scales), names, resume_at=at, tensorboard=False
        ),
    )


def test_a_diverging_member_is_frozen_and_the_others_go_on(tmp_path: Path) -> None:
    result = fit_with_divergence(tmp_path, [0.0, 1.0, 0.0]).run()
    assert result.finished
    assert result.diverged[1][:2] == (75, "burst") and len(result.diverged) == 1
    for leaf in jax.tree.leaves(result.state):
        assert np.all(np.isfinite(leaf))
    # the call of updates 71 to 77 is taken back as a whole
    assert np.asarray(result.state.count).tolist() == [130, 70, 130]
    rows = read_rows(tmp_path / "metrics.csv")
    assert [int(r["update"]) for r in rows if r["member"] == "1"] == [20, 30, 50, 70, 90]
    assert [int(r["update"]) for r in rows if r["member"] == "2"][-1] == 130
    alone = fit_with_divergence(tmp_path, [0.0]).run().state
    assert_equal(population.member(result.state, 2), population.member(alone, 0))


def test_a_run_without_a_member_left_stops_with_its_last_finite_state(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "c") as checkpoints:
        result = fit_with_divergence(tmp_path, [1.0], checkpoints).run()
    assert not result.finished
    assert result.update == 80 and result.diverged[0][:2] == (75, "burst")
    with Checkpoints(tmp_path / "c") as checkpoints:
        again = fit_with_divergence(tmp_path, [1.0], checkpoints)
        again.resume()
        assert again.diverged == result.diverged
        assert np.asarray(again.state.count).tolist() == [70]
        assert not again.run().finished and again.update == 80


def test_members_with_other_numbers_than_there_are() -> None:
    with pytest.raises(UserError, match="'slope' cannot differ between members"):
        Trainer(diverging(5), data(), [0], SETTINGS, hyperparameters={"slope": [1.0]})
    with pytest.raises(UserError, match="scale has 1 values; expected one for each of the 2"):
        Trainer(diverging(5), data(), [0, 1], SETTINGS, hyperparameters={"scale": [1.0]})
