"""The plain form of the step is the step; each benchmark runs and writes what it says."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import measure, plain_step, roofline
from dtql_jax.algorithms import dtql

ROOT = Path(__file__).parents[2]
CASES = {
    "roofline": [
        *("--algorithms=bc", "--batch_sizes=256"),
        *("--updates_per_call=2", "--repetitions=2"),
    ],
    "train_step": [
        *("--algorithms=bc", "--batch_sizes=256", "--seeds=1,2"),
        *("--updates=4", "--seconds=0.1"),
    ],
    "compile": ["--algorithms=bc", "--batch_sizes=64"],
    "act": ["--repetitions=2", "--observations=1"],
    "scaling": ["--members=1,2", "--batch_sizes=64", "--updates=2", "--repetitions=2"],
}


def test_the_plain_form_computes_the_same_step() -> None:
    config = dtql.DTQLConfig()
    batch = measure.random_data(5, 2, rows=16)
    key = jax.random.key(0)
    state = jax.jit(lambda k: dtql.init_state(config, k, 5, 2))(key)
    draws = dtql.draw(jax.random.key(1), 16, 2)
    plain, plain_metrics = jax.jit(plain_step.train_update)(state, batch, draws)
    fused, metrics = jax.jit(lambda *x: dtql.train_update(config, *x))(state, batch, draws)
    for name, value in plain_metrics.items():
        np.testing.assert_allclose(value, metrics[name], rtol=1e-5, err_msg=name)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(fused), strict=True):
        # Adam's first step is lr * sign(gradient): where a gradient is 0 but for rounding, it jumps
        assert np.mean(np.abs(np.asarray(a) - np.asarray(b)) > 1e-5) < 1e-3


def test_a_timing_ends_after_its_seconds_but_not_before_two_calls() -> None:
    assert len(measure.clock(lambda: 0, 7).seconds) == 7
    assert len(measure.clock(lambda: 0, 7, seconds=0.0).seconds) == 2


def test_rows_of_the_same_device_and_commit_are_kept(tmp_path: Path) -> None:
    path, rows = tmp_path / "result.json", [{"algorithm": "bc", "updates/s": 1.5}]
    assert measure.rows_so_far("train_step", str(path)) == []
    measure.publish("train_step", "title", rows, str(path), show=False)
    assert measure.rows_so_far("train_step", str(path)) == rows
    other = json.loads(path.read_text()) | {"commit": "another"}
    path.write_text(json.dumps(other))
    assert measure.rows_so_far("train_step", str(path)) == []


def test_operations_are_those_counted_by_hand() -> None:
    operations, least_bytes = roofline.step_cost("dtql", 256)
    assert operations == pytest.approx(1.70e9, rel=0.1)
    # a batch computed in parts on a CPU costs what it costs whole
    assert roofline.step_cost("dtql", 2048)[0] == pytest.approx(14.6e9, rel=0.05)
    parameters = 2 * 135_000 * 4 + 134_000 * 3 + 205_000 * 3 + 135_000 * 3
    assert least_bytes == pytest.approx(2 * 4 * parameters, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_benchmark_writes_its_files(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.json"
    command = [sys.executable, "-m", f"benchmarks.{name}", f"--json={path}", *CASES[name]]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    result = json.loads(path.read_text())
    assert result["rows"] and result["commit"] and result["device"]["kind"]
    assert path.with_suffix(".md").read_text().count("|") > 10
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
