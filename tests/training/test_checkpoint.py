"""Checkpoints that do not fit or cannot be written are refused in one line."""

from pathlib import Path

import numpy as np
import pytest

from dtql_jax.errors import UserError
from dtql_jax.training.checkpoint import Checkpoints, SaveError

STATE = {"w": np.zeros(4, np.float32), "k": np.array(3, np.int32)}


def test_the_first_difference_of_the_layout_is_named(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(10, STATE, {"update": 10})
        checkpoints.wait()
        state, meta = checkpoints.restore(STATE)
        assert meta == {"update": 10}
        np.testing.assert_array_equal(state["w"], STATE["w"])
    other = STATE | {"w": np.zeros(5, np.float32)}
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        with pytest.raises(UserError, match=r"float32\[4\] for w; expected float32\[5\]"):
            checkpoints.restore(other)
        with pytest.raises(UserError, match="has no such array for v; expected int32"):
            checkpoints.restore(STATE | {"v": np.zeros(2, np.int32)})


def test_the_original_exception_is_not_masked(tmp_path: Path) -> None:
    class Failing(Checkpoints):
        def close(self) -> None:
            super().close()
            raise SaveError("the last one is lost")

    with pytest.raises(ZeroDivisionError), Failing(tmp_path / "checkpoints"):
        raise ZeroDivisionError
    with pytest.raises(SaveError), Failing(tmp_path / "checkpoints"):
        pass
