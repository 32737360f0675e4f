"""Worker processes under misfortune: crashes, hangs, exceptions, the death of their parent."""

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

from dtql_jax.evaluation.models import compiled_once
from dtql_jax.evaluation.rollout import Evaluator, evaluate
from dtql_jax.evaluation.simulator import SimulatorError, episode_seed

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


class Saboteur:
    """A policy that sends a signal to the first worker at some of its calls."""

    def __init__(self, policy, evaluator, signal_number, calls):
        self._policy, self._evaluator = policy, evaluator
        self._signal, self._calls = signal_number, calls
        self._call = 0

    def __call__(self, *rows):
        self._call += 1
        if self._call in self._calls:
            os.kill(self._evaluator.worker_pids[0], self._signal)
        return self._policy(*rows)


@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGKILL, "died .exit code -9"), (signal.SIGSTOP, "no progress")]
)
def test_a_lost_worker_is_replaced_and_its_episodes_begin_again(drive, car, number, words):
    plain = evaluate(drive, car, seeds=[1, 2], episodes=9, num_envs=4, workers=0, record=9)
    with Evaluator(car, [1, 2], 4, workers=2, timeout=0.5) as evaluator:
        with pytest.warns(RuntimeWarning, match=words):
            result = evaluator.run(Saboteur(drive, evaluator, number, {50}), 9, record=9)
        assert len(evaluator.worker_pids) == 2
    np.testing.assert_array_equal(result.returns, plain.returns)
    np.testing.assert_array_equal(result.lengths, plain.lengths)
    for path, expected in zip(result.trajectories, plain.trajectories, strict=True):
        np.testing.assert_array_equal(path.observations, expected.observations)
        np.testing.assert_array_equal(path.actions, expected.actions)


def test_a_worker_lost_twice_ends_the_run_with_the_seed_of_its_episode(drive, car):
    with Evaluator(car, [7], 1, workers=1) as evaluator:
        sabotage = Saboteur(drive, evaluator, signal.SIGKILL, {60, 62})
        seed = episode_seed(7, 1)
        with (
            pytest.warns(RuntimeWarning, match="again, with its 1 episodes"),
            pytest.raises(SimulatorError, match=rf"seed 7, episode 1 .*reset\(seed={seed}\)"),
        ):
            evaluator.run(sabotage, 9)
        assert evaluator.worker_pids == []
        # The next run may lose one again.
        with pytest.warns(RuntimeWarning, match="starting it again"):
            result = evaluator.run(Saboteur(drive, evaluator, signal.SIGKILL, {5}), 2)
        assert result.lengths.all()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_exception_in_an_environment_names_the_episode_and_keeps_its_traceback(
    drive, car, workers
):
    broken = dataclasses.replace(car, attributes={"power": "none"})
    seed = episode_seed(5, 0)
    with pytest.raises(SimulatorError, match=rf"seed 5, episode 0 .*seed={seed}") as caught:
        evaluate(drive, broken, seeds=[5], episodes=1, workers=workers)
    assert "TypeError" in str(caught.value) and "step 0 of" in str(caught.value)


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
import os, sys, time
import jax  # the main script of every caller has it; workers must not run this again
from dtql_jax.envs.spec import EnvSpec
from dtql_jax.evaluation.rollout import Evaluator

evaluator = Evaluator(EnvSpec("MountainCarContinuous-v0", 50), [0], 2, workers=2)

def policy(*rows):
    if sys.argv[1] == "pipes held by another process" and os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    print(*evaluator.worker_pids, flush=True)
    time.sleep(60)

evaluator.run(policy, 2)
"""


@pytest.mark.parametrize("case", ["plain", "pipes held by another process"])
def test_workers_import_no_jax_and_die_with_their_parent(tmp_path, case):
    script = tmp_path / "main.py"
    script.write_text(PARENT)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"}
    parent = subprocess.Popen(
        [sys.executable, "-W", "ignore", script, case],
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


def test_copied_models_are_separate_and_step_to_the_same_bits():
    import gymnasium
    import mujoco

    compile_model = mujoco.MjModel.from_xml_path
    cache = {}
    with compiled_once(cache):
        first, second = (gymnasium.make("Hopper-v5") for _ in range(2))
    assert len(cache) == 1
    assert mujoco.MjModel.from_xml_path is compile_model
    plain = gymnasium.make("Hopper-v5")
    first.unwrapped.model.body_mass[:] *= 2
    ends = []
    for env in (second, plain, first):
        env.reset(seed=0)
        for step in range(20):
            observation = env.step(np.full(3, np.sin(step), np.float32))[0]
        ends.append(observation)
    np.testing.assert_array_equal(ends[0], ends[1])
    assert np.abs(ends[2] - ends[1]).max() > 1e-3
