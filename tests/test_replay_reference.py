"""Parity with the reference programs, by the same code as the command."""

from pathlib import Path

import numpy as np
import pytest

from dtql_jax.training.data_parallel import rows
from tests import replay_reference

FILES = sorted((Path(__file__).parent / "reference").glob("*.npz"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_replay_is_within_tolerance(path: Path) -> None:
    report = replay_reference.replay_file(path)
    assert report.compared > 100
    assert report.losses <= 1e-5
    assert report.parameters <= 1e-5
    assert report.actions is None or report.actions <= 1e-5


@pytest.mark.parametrize("path", [p for p in FILES if p.stem.startswith("dtql_")], ids=str)
def test_replay_in_parts_of_a_batch_is_within_tolerance(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four parts of eight rows, as a CPU computes a batch of 2,048 in eight of 256."""
    monkeypatch.setattr(rows, "ROWS_IN_CACHE", 8)
    report = replay_reference.replay_file(path)
    assert report.losses <= 1e-5
    assert report.parameters <= 1e-5


def test_a_wrong_number_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = dict(np.load(Path(__file__).parent / "reference" / "dtql_gym.npz"))
    name = next(k for k in stored if k.startswith("after_5/policy/") and k.endswith("kernel"))
    stored[name] = stored[name] + 2e-5
    np.savez(tmp_path / "wrong.npz", **stored)
    assert replay_reference.main([str(tmp_path / "wrong.npz")]) == 1
    assert "ABOVE THE TOLERANCE" in capsys.readouterr().out


def test_foreign_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    paths = [str(tmp_path / name) for name in ("text.npz", "other.npz", "missing.npz")]
    assert replay_reference.main(paths) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 3
    assert all("not a replayable file" in line for line in lines)
