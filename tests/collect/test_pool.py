"""A collection is the same for any number of processes and interruptions."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import minari
import numpy as np
import pytest

from dtql_jax.collect import behaviours, generated, pool, recording
from dtql_jax.collect.pool import Plan
from dtql_jax.collect.recording import Behaviour, Episode
from dtql_jax.datasets import store
from dtql_jax.datasets.registry import get_task
from dtql_jax.envs.make import make_base_env

SOURCE = get_task("pointmaze-umaze").generated


def plan(transitions=900, part_episodes=4, seed=0, **changes):
    given = Plan(SOURCE.env, "pointmaze", {}, "", "", seed, 0, transitions, part_episodes)
    return dataclasses.replace(given, **changes)


def collected(folder, plan, processes=1):
    pool.collect(folder, [plan], pool.prepare(folder, [plan]), processes, lambda steps: None)
    return [*pool.episodes(folder, plan)]


def kept(folder, plan):
    """Steps of the finished parts."""
    return sum(pool.prepare(folder, [plan])[0].values())


def expected(transitions, seed=0):
    """The definition: one episode after the other, up to the number of transitions."""
    env = make_base_env(SOURCE.env)
    behaviour = behaviours.make_behaviour("pointmaze", env, None, {})
    found: list[Episode] = []
    while (done := sum(len(e.rewards) for e in found)) < transitions:
        episode = recording.play(env, behaviour, (seed, len(found), 0))
        found.append(episode.first(transitions - done))
    return found


def assert_same(one, other):
    assert len(one) == len(other)
    for first, second in zip(one, other, strict=True):
        assert first.seed == second.seed
        for name in ("actions", "rewards", "terminations", "truncations"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
            assert getattr(first, name).dtype == getattr(second, name).dtype
        assert set(first.observations) == set(second.observations)
        for key in first.observations:
            np.testing.assert_array_equal(first.observations[key], second.observations[key])


# ------------------------------------------------------------------------------- recording


class Lamp:
    """Counts steps; terminates after five, out of time after seven."""

    def reset(self, seed=None, options=None):
        self.steps = 0
        return np.array([float(seed % 10), 0.0]), {}

    def step(self, action):
        self.steps += 1
        observation = np.array([action[0], float(self.steps)])
        return observation, 2.0, self.steps >= 5, self.steps >= 7, {}


class Walk(Behaviour):
    def __init__(self, ends_with_task=True, arrives=99):
        self.ends_with_task, self._arrives = ends_with_task, arrives

    def action(self, observation, draws):
        return draws.standard_normal(1)

    def arrived(self, observation):
        return observation[1] >= self._arrives


def test_an_episode_ends_with_its_task():
    episode = recording.play(Lamp(), Walk(), (3, 1, 0))
    assert episode.rewards.tolist() == [2.0] * 5
    assert episode.terminations.tolist() == [False] * 4 + [True]
    assert not episode.truncations.any()
    assert episode.observations.shape == (6, 2)
    np.testing.assert_array_equal(episode.observations[1:, 0], episode.actions[:, 0])
    # the environment's seed, then the actions, come from the episode's own numbers
    draws = np.random.default_rng((3, 1, 0))
    assert episode.seed == draws.integers(2**31)
    np.testing.assert_array_equal(episode.actions[:, 0], draws.standard_normal(5))


@pytest.mark.parametrize(("arrives", "length"), [(6, 6), (99, 7)])
def test_or_when_its_behaviour_arrives(arrives, length):
    episode = recording.play(Lamp(), Walk(ends_with_task=False, arrives=arrives), (0, 0, 0))
    assert len(episode.rewards) == length
    assert not episode.terminations.any()
    assert episode.truncations.tolist() == [False] * (length - 1) + [True]


def test_a_cut_episode_is_truncated():
    whole = recording.play(Lamp(), Walk(), (0, 0, 0))
    assert whole.first(5) is whole
    cut = whole.first(2)
    assert (cut.observations.shape, cut.rewards.shape) == ((3, 2), (2,))
    assert cut.truncations.tolist() == [False, True] and not cut.terminations.any()
    assert not whole.truncations.any()


# ----------------------------------------------------------------------------------- parts


def test_a_part_is_a_fixed_group_of_episodes(tmp_path):
    collected(tmp_path, plan())
    played = expected(3000)
    assert_same(pool.read_part(plan().part(tmp_path, 1)), played[4:8])
    # the last part has no more episodes than needed
    episodes = [e for path in sorted(tmp_path.glob("part*")) for e in pool.read_part(path)]
    assert_same(episodes, played[: len(episodes)])
    assert sum(len(e.rewards) for e in episodes[:-1]) < 900


def test_flat_observations_in_a_part(tmp_path):
    played = [recording.play(Lamp(), Walk(), (0, k, 0)) for k in range(3)]
    pool.write_part(tmp_path / "part0-000000.npz", played)
    for given, found in zip(played, pool.read_part(tmp_path / "part0-000000.npz"), strict=True):
        np.testing.assert_array_equal(found.observations, given.observations)


def test_processes_and_interruptions_change_nothing(tmp_path):
    whole = expected(900)
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        assert kept(folder, plan()) == 0
        assert_same(collected(folder, plan(), processes), whole)
        assert kept(folder, plan()) >= 900

    # parts are lost, cut off, damaged inside, or left by a killed process
    first, second, third = sorted(folder.glob("part*"))[:3]
    first.unlink()
    second.write_bytes(second.read_bytes()[:-100])
    content = bytearray(third.read_bytes())
    content[len(content) // 2] ^= 1
    third.write_bytes(bytes(content))
    (folder / "part0-000009.npz.1.writing").write_bytes(b"")
    assert kept(folder, plan()) < 900
    assert not list(folder.glob("*.writing"))
    assert_same(collected(folder, plan()), whole)


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"policy_sha256": "0" * 64}, {"part_episodes": 3}, {"settings": {"a": 1}}],
)
def test_parts_of_another_collection_are_removed(tmp_path, change):
    collected(tmp_path, plan(100))
    assert kept(tmp_path, plan(100)) >= 100
    assert kept(tmp_path, plan(100, **change)) == 0
    assert list(tmp_path.glob("part*")) == []


# ------------------------------------------------------------------------------- processes


def test_an_exception_of_a_process_is_raised_here(tmp_path):
    with pytest.raises(TypeError, match="nothing"):
        collected(tmp_path, plan(settings={"nothing": 1}), 2)


def test_short_collections_are_played_here(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    assert [pool.choose_processes(seconds) for seconds in (5, 600)] == [1, 3]


# no guard of the main module: the processes must not run it again
COLLECT = """
import sys
from dtql_jax.collect import generated
from dtql_jax.datasets.registry import get_task

source = get_task("pointmaze-umaze").generated
print("begin", flush=True)
generated.ensure(source, transitions=int(sys.argv[1]), processes=2, quiet=True, report=print)
"""


def start(script, transitions):
    return subprocess.Popen(
        [sys.executable, str(script), str(transitions)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )


def processes_of(parent):
    """Process ids of the playing children of a process."""
    found = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(parent)], capture_output=True, text=True
    )
    lines = [line.split(maxsplit=1) for line in found.stdout.splitlines()]
    return [int(pid) for pid, arguments in lines if "spawn_main" in arguments]


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def script(tmp_path):
    (tmp_path / "collect.py").write_text(COLLECT)
    return tmp_path / "collect.py"


def test_a_killed_collection_resumes_with_its_finished_parts(script, tmp_path):
    folder = store.episodes_folder(generated.dataset_id(SOURCE, 500_000, 0))
    process = start(script, 500_000)
    assert wait_for(lambda: len(list(folder.glob("part*.npz"))) >= 3)
    pids = processes_of(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert minari.list_local_datasets() == {}
    # its processes end with it
    assert len(pids) == 2 and wait_for(lambda: not any(map(alive, pids)), 20)

    found = {path: path.stat().st_mtime_ns for path in folder.glob("part*.npz")}
    (own,) = generated.make_plans(SOURCE, [], [], 500_000, 0)
    assert kept(folder, own) > 1000
    assert {path: path.stat().st_mtime_ns for path in folder.glob("part*")} == found
    short = dataclasses.replace(own, transitions=1000)
    assert_same([*pool.episodes(folder, short)], collected(tmp_path / "fresh", short))


def test_a_dead_process_and_a_stop_are_one_line_each(script):
    process = start(script, 500_000)
    assert wait_for(lambda: len(processes_of(process.pid)) == 2)
    os.kill(processes_of(process.pid)[0], signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert "a process of the collection died; finished parts are kept" in output
    assert output.count("begin") == 1

    process = start(script, 500_000)
    assert wait_for(lambda: len(processes_of(process.pid)) == 2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert "are kept; collect again to resume" in output and "KeyboardInterrupt" in output
