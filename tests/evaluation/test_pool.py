"""Failures: dead workers, exceptions in environments, interrupts, a dead parent process."""

import dataclasses
import gc
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from dtql_jax.evaluation import pool
from dtql_jax.evaluation.pool import SimulatorError
from dtql_jax.evaluation.rollout import Evaluator, episode_seed, evaluate

pytestmark = pytest.mark.skipif(os.name != "posix", reason="workers need POSIX pipes")


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody has waited for does not."""
    try:
        os.kill(pid, 0)
        status = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not pathlib.Path("/proc/self").exists()
    return status.rpartition(")")[2].split()[0] != "Z"


def assert_gone(pids, seconds=10.0):
    assert pids
    deadline = time.monotonic() + seconds
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline, f"still running: {[p for p in pids if alive(p)]}"
        time.sleep(0.05)


def test_a_worker_that_hangs_ends_the_run(drive, car, monkeypatch):
    def stopping(*rows):
        os.kill(evaluator.worker_pids[0], signal.SIGSTOP)
        return drive(*rows)

    with Evaluator(car, [1], 1, workers=1) as evaluator:
        evaluator.run(drive, 1)
        pids = evaluator.worker_pids
        monkeypatch.setattr(pool, "_TIMEOUT", 0.5)
        with pytest.raises(SimulatorError, match="worker 0 gave no answer"):
            evaluator.run(stopping, 1)
    assert_gone(pids)


def test_a_dead_worker_ends_the_run_in_one_line_and_the_evaluator_stays_usable(drive, car):
    calls = []

    def killing(*rows):
        calls.append(1)
        if len(calls) == 50:
            os.kill(evaluator.worker_pids[0], signal.SIGKILL)
        return drive(*rows)

    with Evaluator(car, [1, 2], 4, workers=2) as evaluator:
        with pytest.raises(SimulatorError, match=r"^evaluation worker 0 died .exit code -9.$"):
            evaluator.run(killing, 9)
        assert evaluator.worker_pids == []
        again = evaluator.run(drive, 9)
    plain = evaluate(drive, car, seeds=[1, 2], episodes=9, num_envs=4, workers=0)
    np.testing.assert_array_equal(again.returns, plain.returns)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_exception_in_an_environment_names_the_seed_and_keeps_its_traceback(drive, car, workers):
    broken = dataclasses.replace(car, attributes={"power": "none"})
    seed = episode_seed(5, 0)
    with pytest.raises(SimulatorError, match=rf"^step of .*reset.seed={seed}") as caught:
        evaluate(drive, broken, seeds=[5], episodes=1, workers=workers)
    assert "TypeError" in str(caught.value)


def test_workers_end_with_close_and_when_forgotten(drive, car):
    evaluator = Evaluator(car, [0], 2, workers=2)
    evaluator.run(drive, 2)
    pids = evaluator.worker_pids
    evaluator.close()
    assert_gone(pids)

    evaluator.run(drive, 2)
    pids = evaluator.worker_pids
    del evaluator
    gc.collect()
    assert_gone(pids)


def test_an_interrupt_ends_the_workers(car):
    pids = []

    def interrupted(*rows):
        pids.extend(evaluator.worker_pids)
        raise KeyboardInterrupt

    with Evaluator(car, [0], 2, workers=2) as evaluator:
        with pytest.raises(KeyboardInterrupt):
            evaluator.run(interrupted, 2)
        assert_gone(pids)


PARENT = """
import time
import jax  # workers must not import it
from dtql_jax.envs.spec import EnvSpec
from dtql_jax.evaluation.rollout import Evaluator

evaluator = Evaluator(EnvSpec("MountainCarContinuous-v0", 50), [0], 2, workers=2)

def policy(*rows):
    print(*evaluator.worker_pids, flush=True)
    time.sleep(60)

evaluator.run(policy, 2)
"""


def test_workers_import_no_jax_and_die_with_their_parent(tmp_path):
    script = tmp_path / "main.py"
    script.write_text(PARENT)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"}
    parent = subprocess.Popen(
        [sys.executable, "-W", "ignore", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2 and all(alive(pid) for pid in pids)
        maps = pathlib.Path(f"/proc/{pids[0]}/maps")
        if maps.exists():
            assert "jaxlib" not in maps.read_text()
            assert "jaxlib" in pathlib.Path(f"/proc/{parent.pid}/maps").read_text()
        os.kill(parent.pid, signal.SIGKILL)
        assert_gone(pids)
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()
        parent.stdout.close()
