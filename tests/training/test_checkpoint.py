"""Room on the disk is looked for before a checkpoint is begun."""

import os
from pathlib import Path

import numpy as np
import pytest

from dtql_jax.training.checkpoint import Checkpoints, SaveError
from tests.training.test_appended import ROOM, full

STATE = {"w": np.zeros(ROOM // 4, np.float32), "k": np.int32(3)}


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="nobody can be asked for room")
def test_no_room(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.check_room(10, STATE)
        with full(), pytest.raises(SaveError, match="checkpoints cannot be written: File too larg"):
            checkpoints.check_room(10, STATE)
        assert list((tmp_path / "checkpoints").iterdir()) == []
        checkpoints.save(10, STATE, {})
        checkpoints.wait()
        assert checkpoints.whole() == 10
        with full():
            checkpoints.check_room(10, STATE)  # it is saved already


def test_one_that_is_being_written_is_not_whole(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.whole() is None
        checkpoints.save(10, STATE, {})
        checkpoints.wait()
        (tmp_path / "checkpoints" / "20.orbax-checkpoint-tmp").mkdir()
        assert checkpoints.whole() == 10


def test_what_ends_a_run_is_not_hidden_by_its_checkpoints(tmp_path: Path) -> None:
    class Failing(Checkpoints):
        def close(self) -> None:
            super().close()
            raise SaveError("the last one is lost")

    with pytest.raises(ZeroDivisionError), Failing(tmp_path / "checkpoints"):
        raise ZeroDivisionError
    with pytest.raises(SaveError), Failing(tmp_path / "checkpoints"):
        pass
