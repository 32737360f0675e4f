"""The plain form of the step is the step; each benchmark runs and writes what it says."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import ahead_of_time, measure, plain_step, roofline
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
    "evaluation": [
        *("--env=pointmaze-umaze", "--preset=quick", "--algorithms=bc", "--seeds=2"),
        *("--episodes=2", "--steps=3", "--seconds=0.1"),
    ],
    "scaling": ["--members=1,2", "--batch_sizes=64", "--updates=2", "--repetitions=2"],
}


def test_the_plain_form_computes_the_same_step() -> None:
    config = dtql.DTQLConfig()
    batch = measure.random_data(5, 2, rows=16)
    key = jax.random.key(0)
    networks = dtql.make_networks(config)
    state = jax.jit(lambda k: dtql.init_state(config, networks, k, batch))(key)
    draws = dtql.draw(jax.random.key(1), 16, 2)
    plain, plain_metrics = jax.jit(plain_step.train_update)(state, batch, draws)
    fused, metrics = jax.jit(lambda *x: dtql.train_update(networks, config, *x))(
        state, batch, draws
    )
    for name, value in plain_metrics.items():
        np.testing.assert_allclose(value, metrics[name], rtol=1e-5, err_msg=name)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(fused), strict=True):
        # Adam's first step is lr * sign(gradient): where a gradient is 0 but for rounding, it jumps
        assert np.mean(np.abs(np.asarray(a) - np.asarray(b)) > 1e-5) < 1e-3


HLO = """
%body.1 (p.0: (s32[], f32[2,3])) -> (s32[], f32[2,3]) {
  %p.0 = (s32[], f32[2,3]) parameter(0)
  %i.0 = s32[] get-tuple-element(%p.0), index=0
  %x.0 = f32[2,3] get-tuple-element(%p.0), index=1
  %fusion.0 = f32[2,3] fusion(%x.0), kind=kLoop, calls=%fused.0
  ROOT %tuple.0 = (s32[], f32[2,3]) tuple(%i.0, %fusion.0)
}

%body.2 (p.1: (s32[], f32[2,3])) -> (s32[], f32[2,3]) {
  %p.1 = (s32[], f32[2,3]) parameter(0)
  %w.0 = (s32[], f32[2,3]) while(%p.1), body=%body.1, config={"known_trip_count":{"n":"5"}}
  %x.1 = f32[2,3] get-tuple-element(%w.0), index=1
  %product.0 = (f32[2,3], s8[999]{0}) custom-call(%x.1, %x.1), custom_call_target="product"
  %start.0 = f32[2,3] copy-start(%x.1)
  %done.0 = f32[2,3] copy-done(%start.0)
  ROOT %call.0 = (s32[], f32[2,3]) call(%w.0), to_apply=%last.0
}

%last.0 (p.2: (s32[], f32[2,3])) -> (s32[], f32[2,3]) {
  ROOT %copy.0 = pred[7]{0} copy(%p.2)
}

ENTRY %main.1 (a.0: f32[2,3]) -> f32[2,3] {
  %a.0 = f32[2,3] parameter(0)
  ROOT %w.1 = (s32[], f32[2,3]) while(%a.0), body=%body.2, config={"known_trip_count":{"n":"100"}}
}
"""


def test_kernels_of_a_compiled_update_are_counted_in_every_turn() -> None:
    program = ahead_of_time.computations(HLO)
    assert ahead_of_time.step_body(program) == "body.2"
    found = list(ahead_of_time.kernels(program, "body.2"))
    # 24 bytes read and 24 written; of the product two operands, and no workspace
    assert found == [("fusion", 48)] * 5 + [("custom-call", 72), ("copy-start", 48), ("copy", 7)]


def test_the_update_is_found_in_a_program_of_this_machine() -> None:
    def one(x: jax.Array, _: None) -> tuple[jax.Array, None]:
        return jax.numpy.sin(x @ x), None

    def call(x: jax.Array) -> jax.Array:
        return jax.lax.scan(one, x, None, length=ahead_of_time.UPDATES)[0]

    text = jax.jit(call).lower(np.zeros((64, 64), np.float32)).compile().as_text()
    program = ahead_of_time.computations(text)
    launched = list(ahead_of_time.kernels(program, ahead_of_time.step_body(program)))
    assert len(launched) >= 2
    assert sum(moved for _, moved in launched) >= 4 * 4 * 64 * 64


def test_a_timing_ends_after_its_seconds_but_not_before_two_calls() -> None:
    assert len(measure.clock(lambda: 0, 7).seconds) == 7
    assert len(measure.clock(lambda: 0, 7, seconds=0.0).seconds) == 2


@pytest.mark.parametrize(
    ("processor", "folder"),
    [
        ("Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz", "intel-xeon-gold-6248"),
        ("AMD EPYC 7763 64-Core Processor", "amd-epyc-7763"),
        ("arm", "arm"),
        ("", "cpu"),
    ],
)
def test_results_of_one_processor_share_a_folder(
    processor: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "processor", lambda: processor)
    assert measure.device_name().startswith(f"{folder}-")
    assert measure.device_name().endswith("-cores")


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
