"""Evaluation beside training changes no row and no number, however the run ends."""

import threading
from pathlib import Path

import jax
import numpy as np
import pytest

from dtql_jax.errors import UserError
from dtql_jax.training import background
from dtql_jax.training.checkpoint import Checkpoints
from dtql_jax.training.logging import MetricsLog, read_rows
from dtql_jax.training.trainer import Trainer, TrainerConfig
from tests.training.fakes import data, linear_algorithm

SEEDS = [3, 5]
# evaluations at 70, 110 and 130; checkpoints there and at 30, 50, 80 and 100
SETTINGS = TrainerConfig(16, 30, 100, 10, 20, 40, 20)


def evaluate(policy, update: int) -> list[dict]:
    """Scores of the policy at a few observations."""
    numbers = np.zeros((2, 4), np.int32)
    actions = [policy(np.full((2, 4, 3), k, np.float32), numbers, numbers) for k in range(10)]
    fields = ("return_mean", "return_std", "success_rate", "length_mean")
    scores = np.mean(actions, axis=(0, 2, 3))
    return [{"score": float(s), "episodes": 4} | dict.fromkeys(fields, 0.0) for s in scores]


def make_trainer(folder: Path, checkpoints, overlaps: bool, play=evaluate) -> Trainer:
    return Trainer(
        linear_algorithm(),
        data(),
        SEEDS,
        SETTINGS,
        evaluate=play,
        overlap=overlaps,
        checkpoints=checkpoints,
        make_log=lambda names, at: MetricsLog(
            folder, SEEDS, names, resume_at=at, tensorboard=False
        ),
    )


def assert_same(found: tuple[Path, object], wanted: tuple[Path, object]) -> None:
    for name in ("metrics.csv", "evaluations.csv"):
        assert (found[0] / name).read_text() == (wanted[0] / name).read_text(), name
    for a, b in zip(jax.tree.leaves(found[1]), jax.tree.leaves(wanted[1]), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def blocking(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, object]:
    folder = tmp_path_factory.mktemp("blocking")
    with Checkpoints(folder / "checkpoints") as checkpoints:
        return folder, make_trainer(folder, checkpoints, False).run().state


def test_rows_and_state_are_those_of_the_blocking_way(tmp_path: Path, blocking) -> None:
    folder = tmp_path / "beside"
    folder.mkdir()
    trained = threading.Event()

    def late(policy, update: int) -> list[dict]:
        if update < SETTINGS.total:
            assert threading.current_thread() is not threading.main_thread()
            # the state that it began with has been donated to the next updates by now
            assert trained.wait(60)
        return evaluate(policy, update)

    def at_update() -> bool:
        if fit.update in (80, 120):
            trained.set()
        return False

    fit = make_trainer(folder, None, True, late)
    result = fit.run(at_update)
    assert result.finished and len(result.evaluation) == 2
    assert result.seconds["evaluate_hidden"] > 0
    assert_same((folder, result.state), blocking)


class Killed(BaseException):
    """The process dies."""


@pytest.mark.parametrize("moment", [7, 8, 9, 11, 12])
def test_a_death_with_an_evaluation_under_way_leaves_no_gap(
    tmp_path: Path, blocking, moment: int
) -> None:
    """It dies before this call; evaluations of that life end only where training waits."""
    folder, dead = tmp_path / "beside", threading.Event()

    def slow(policy, update: int) -> list[dict]:
        dead.wait(0.3)
        if dead.is_set():
            raise Killed
        return evaluate(policy, update)

    calls = iter(range(moment))

    def die() -> bool:
        if next(calls, None) is None:
            dead.set()
            raise Killed
        return False

    with Checkpoints(folder / "checkpoints") as checkpoints:
        with pytest.raises(Killed):
            make_trainer(folder, checkpoints, True, slow).run(die)
        checkpoints.wait()
        newest = checkpoints.latest()
        written = {int(row["update"]) for row in read_rows(folder / "evaluations.csv")}
        assert {70, 110} & set(range(newest)) <= written
        fit = make_trainer(folder, checkpoints, True)
        fit.resume()
        assert fit.update == newest
        result = fit.run()
    assert_same((folder, result.state), blocking)


def test_what_the_evaluation_raises_ends_the_run(tmp_path: Path) -> None:
    def fails(policy, update: int) -> list[dict]:
        raise UserError("the environment is broken")

    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        with pytest.raises(UserError, match="the environment is broken"):
            make_trainer(tmp_path, checkpoints, True, fails).run()
        checkpoints.wait()
        assert checkpoints.latest() == 70  # the one that was to be evaluated


def test_an_evaluation_is_given_up_where_training_fails(tmp_path: Path) -> None:
    began, ended = threading.Event(), threading.Event()

    def endless(policy, update: int) -> list[dict]:
        numbers = np.zeros((2, 4), np.int32)
        try:
            while True:
                policy(np.zeros((2, 4, 3), np.float32), numbers, numbers)
                began.set()
        finally:
            ended.set()

    def fail() -> bool:
        if fit.update > 70:
            began.wait(60)
            raise RuntimeError("no memory")
        return False

    fit = make_trainer(tmp_path, None, True, endless)
    with pytest.raises(RuntimeError, match="no memory"):
        fit.run(fail)
    assert ended.wait(60)


def test_the_setting() -> None:
    assert background.wanted("on") and not background.wanted("off")
    assert background.wanted("auto") == (jax.devices()[0].platform != "cpu")
    with pytest.raises(UserError, match="eval_overlap is 'yes'; expected one of auto, on, off"):
        background.wanted("yes")
