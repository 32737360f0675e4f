"""Collections in many processes and many attempts are the collection in one."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from dtql_jax.collect import behaviours, collection, generated, recording, shards
from dtql_jax.collect.collection import Plan
from dtql_jax.collect.collection_workers import Worker
from dtql_jax.collect.recording import Behaviour, Episode
from dtql_jax.collect.shards import Player
from dtql_jax.datasets import minari, store
from dtql_jax.datasets.registry import get_task
from dtql_jax.errors import UserError
from tests.datasets.dataset_files import policy_arrays, write_policy

SOURCE = get_task("pointmaze-umaze").generated
HOPPER = get_task("hopper-medium-replay").generated


def plan(transitions=900, shard_episodes=4, seed=0, **changes):
    given = Plan(SOURCE.env, "pointmaze", {}, "", "", seed, 0, transitions, shard_episodes)
    return dataclasses.replace(given, **changes)


def played(folder, plans):
    """The collection in a folder, as the dataset made of it has it."""
    path = folder / "joined.hdf5"
    with h5py.File(path, "w") as file:
        for _, shard, lacking in collection.shards(folder, plans):
            shards.append(file, shard, lacking)
        found = [read(file[f"episode_{k}"]) for k in range(len(file))]
        assert [file[f"episode_{k}"].attrs["id"] for k in range(len(file))] == [*range(len(file))]
    path.unlink()
    return found


def read(group):
    """An episode from Minari's layout."""
    given = group["observations"]
    observations = (
        {k: v[:] for k, v in given.items()} if isinstance(given, h5py.Group) else given[:]
    )
    columns = [group[k][:] for k in ("actions", "rewards", "terminations", "truncations")]
    assert group.attrs["total_steps"] == len(columns[1])
    np.testing.assert_allclose(group.attrs["rewards_sum"], columns[1].sum())
    return Episode(int(group.attrs["seed"]), observations, *columns)


def shortened(episode, steps):
    """The first steps, the last of them truncated unless it terminated."""
    observations = {key: part[: steps + 1] for key, part in episode.observations.items()}
    columns = [column[:steps].copy() for column in episode[2:]]
    columns[-1][-1] |= not columns[-2][-1]
    return Episode(episode.seed, observations, *columns)


def assert_same(one, other):
    assert len(one) == len(other)
    for first, second in zip(one, other, strict=True):
        assert first.seed == second.seed
        for name in ("actions", "rewards", "terminations", "truncations"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
        assert set(first.observations) == set(second.observations)
        for key in first.observations:
            np.testing.assert_array_equal(first.observations[key], second.observations[key])


def count(steps):
    pass


# ------------------------------------------------------------------------------- recording


class Lamp:
    """Counts steps; over after five, out of time after seven."""

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
def test_or_goes_on_to_where_its_behaviour_wants_to_be(arrives, length):
    episode = recording.play(Lamp(), Walk(ends_with_task=False, arrives=arrives), (0, 0, 0))
    assert len(episode.rewards) == length
    assert not episode.terminations.any()
    assert episode.truncations.tolist() == [False] * (length - 1) + [True]


# ---------------------------------------------------------------------------------- shards


def read_shard(path):
    shards.check(path)
    with h5py.File(path / "main_data.hdf5") as file:
        return [read(file[f"episode_{k}"]) for k in range(len(file))]


def test_a_shard_gives_back_what_was_played(tmp_path):
    from dtql_jax.envs.make import make_base_env

    player = Player(tmp_path)
    steps = player.play(plan(), 2, 900, count)
    # the definition: episodes 8 to 11 of the collection
    env = make_base_env(SOURCE.env)
    behaviour = behaviours.make_behaviour("pointmaze", env, None, {})
    expected = [recording.play(env, behaviour, (0, number, 0)) for number in range(8, 12)]
    path = shards.shard_path(tmp_path, plan(), 2)
    assert shards.read_steps(path) == steps == sum(len(e.rewards) for e in expected)
    found = read_shard(path)
    assert_same(found, expected)
    assert found[0].rewards.dtype == np.float64 and found[0].truncations.dtype == bool
    # no more than is needed; played again, it takes the other's place
    assert player.play(plan(), 2, 1, count) == len(expected[0].rewards)
    assert_same(read_shard(path), expected[:1])
    assert [entry.name for entry in tmp_path.iterdir()] == ["part0-000002"]
    player.close()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"total_steps": null}'])
def test_a_damaged_shard_is_said_to_be_one(tmp_path, content):
    for look in (shards.check, shards.read_steps):
        with pytest.raises(ValueError, match="is damaged"):
            look(tmp_path / "missing")
        (tmp_path / "metadata.json").write_bytes(content)
        with pytest.raises(ValueError, match="is damaged"):
            look(tmp_path)


# ------------------------------------------------------------------------------ collection


def test_processes_and_attempts_change_nothing(tmp_path):
    # the definition: one episode after the other, up to the number of transitions
    from dtql_jax.envs.make import make_base_env

    env = make_base_env(SOURCE.env)
    behaviour = behaviours.make_behaviour("pointmaze", env, None, {})
    expected: list[Episode] = []
    while (done := sum(len(e.rewards) for e in expected)) < 900:
        episode = recording.play(env, behaviour, (0, len(expected), 0))
        expected.append(shortened(episode, min(len(episode.rewards), 900 - done)))

    for processes in (0, 2):
        folder = tmp_path / str(processes)
        assert collection.prepare(folder, [plan()]) == 0
        told = []
        collection.collect(folder, [plan()], processes, told.append)
        assert_same(played(folder, [plan()]), expected)
        assert sum(told) >= 900
        # whole: nothing more to do
        assert collection.prepare(folder, [plan()]) == 900
        collection.collect(folder, [plan()], 0, None)

    # some files lost, one damaged
    folder = tmp_path / "2"
    parts = sorted(folder.glob("part*"))
    assert len(parts) > 2
    shutil.rmtree(parts[0])
    metadata = parts[1] / "metadata.json"
    metadata.write_bytes(metadata.read_bytes()[:-100])
    # what a process left that was killed while it recorded
    (folder / f"{shards.RECORDING}abc").mkdir()
    assert 0 < collection.prepare(folder, [plan()]) < 900
    assert not list(folder.glob(f"{shards.RECORDING}*"))
    collection.collect(folder, [plan()], 0, count)
    assert_same(played(folder, [plan()]), expected)


def test_a_file_damaged_inside_is_removed_and_played_anew(tmp_path):
    collection.prepare(tmp_path, [plan(200)])
    collection.collect(tmp_path, [plan(200)], 0, count)
    expected = played(tmp_path, [plan(200)])
    path = tmp_path / "part0-000000" / "main_data.hdf5"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"is damaged.*it was removed, collect again"):
        played(tmp_path, [plan(200)])
    collection.collect(tmp_path, [plan(200)], 0, count)
    assert_same(played(tmp_path, [plan(200)]), expected)


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"policy_sha256": "0" * 64}, {"shard_episodes": 3}, {"settings": {"a": 1}}],
)
def test_what_another_collection_left_is_removed(tmp_path, change):
    collection.prepare(tmp_path, [plan(100)])
    collection.collect(tmp_path, [plan(100)], 0, count)
    assert collection.prepare(tmp_path, [plan(100)]) == 100
    assert collection.prepare(tmp_path, [plan(100, **change)]) == 0
    assert list(tmp_path.glob("part*")) == []


def test_an_episode_that_fails_in_another_process_says_where(tmp_path):
    wrong = plan(settings={"nothing": 1})
    collection.prepare(tmp_path, [wrong])
    with pytest.raises(collection.CollectionError, match="nothing"):
        collection.collect(tmp_path, [wrong], 1, count)


def test_a_process_that_dies_is_one_line(tmp_path):
    worker = Worker(tmp_path, count)
    worker.start(plan(), 0, 900)
    worker._process.kill()
    with pytest.raises(UserError, match=r"died \(exit code -9\); what was played is kept"):
        while worker.receive() is None:
            pass
    worker.close()


def test_short_collections_are_played_here(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    assert [collection.choose_processes(seconds) for seconds in (5, 600)] == [0, 3]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert collection.choose_processes(600) == 0


COLLECT = """
import sys
from dtql_jax.datasets import generated
from dtql_jax.datasets.registry import get_task

generated.SHARD_EPISODES = {"pointmaze": 10}
source = get_task("pointmaze-umaze").generated
generated.ensure(source, transitions=60_000, processes=2, quiet=True, report=print)
"""


def running(pids):
    alive = []
    for pid in pids:
        try:
            os.kill(pid, 0)
            alive.append(pid)
        except ProcessLookupError:
            pass
    return alive


def test_a_killed_collection_goes_on_and_ends_as_if_nothing_had_been(lines, monkeypatch, tmp_path):
    name = generated.dataset_id(SOURCE, 60_000, 0)
    folder = store.episodes_folder(name)
    process = subprocess.Popen([sys.executable, "-c", COLLECT], stdout=subprocess.DEVNULL)
    while len(list(folder.glob("part*"))) < 6:
        assert process.poll() is None
        time.sleep(0.02)
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True
    )
    pids = [int(pid) for pid in children.stdout.split()]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not store.is_local(name)

    # its processes end with it, one perhaps with the shard that it was writing
    assert len(pids) == 2
    deadline = time.monotonic() + 10
    while running(pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert running(pids) == []
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("part*")}

    # it goes on (here up to less, or this test would take long)
    monkeypatch.setattr(generated, "SHARD_EPISODES", {"pointmaze": 10})
    plans = generated._plans(SOURCE, [], [], 60_000, 0)
    collection.prepare(folder, plans)
    ready = collection._Part(folder, plans[0]).ready
    assert ready > 100
    assert {path: path.stat().st_mtime_ns for path in folder.glob("part*")} == kept

    short = [dataclasses.replace(plans[0], transitions=ready)]
    fresh = tmp_path / "fresh"
    collection.prepare(fresh, short)
    collection.collect(fresh, short, 0, count)
    assert_same(played(folder, short), played(fresh, short))


def test_a_dataset_collected_in_two_attempts_has_the_same_fingerprint(lines, monkeypatch):
    monkeypatch.setattr(generated, "SHARD_EPISODES", {"pointmaze": 3})
    name = generated.ensure(SOURCE, transitions=800, processes=2, quiet=True, report=lines)
    _, facts = minari.load([name], SOURCE, lines)
    plans = generated._plans(SOURCE, [], [], 800, 1)

    # another seed: half of it played before
    name = generated.dataset_id(SOURCE, 800, 1)
    folder = store.episodes_folder(name)
    collection.prepare(folder, plans)
    player = Player(folder)
    player.play(plans[0], 0, 800, count)
    player.play(plans[0], 2, 800, count)
    player.close()
    lines.clear()
    options = {"transitions": 800, "seed": 1, "quiet": True, "report": lines}
    assert generated.ensure(SOURCE, processes=1, **options) == name
    assert "are there from before" in lines[0]
    _, resumed = minari.load([name], SOURCE, lines)
    assert not folder.exists()

    shutil.rmtree(store.datasets_root() / name)
    generated.ensure(SOURCE, processes=0, **options)
    _, at_once = minari.load([name], SOURCE, lines)
    assert resumed["fingerprint"] == at_once["fingerprint"] != facts["fingerprint"]


# -------------------------------------------------------------------------------- policies


def test_several_policies_play_equal_shares(tmp_path, lines):
    paths = [
        write_policy(tmp_path / f"{k}.npz", policy_arrays(np.random.default_rng(k), 11, 3))
        for k in range(3)
    ]
    name = generated.ensure(
        HOPPER, transitions=200, behaviour_policy=",".join(paths), quiet=True, report=lines
    )
    arrays, facts = minari.load([name], HOPPER, lines)
    assert name.startswith("dtql_jax/hopper-policy") and "medium" not in name
    metadata = json.loads((store.data_folder(name) / "metadata.json").read_text())
    accounts = metadata["dtql_jax"]
    assert [account["transitions"] for account in accounts] == [67, 67, 66]
    assert [account["policy"] for account in accounts] == ["0.npz", "1.npz", "2.npz"]
    lengths = facts["episode_lengths"]
    ends = np.cumsum(lengths)
    first = 0
    for account, last in zip(accounts, (67, 134, 200), strict=True):
        own = (ends > first) & (ends <= last)
        assert account["episodes"] == own.sum() and last in ends
        mean = arrays.rewards[first:last].sum() / own.sum()
        np.testing.assert_allclose(account["return_mean"], mean, rtol=1e-5)
        first = last
    # the second policy is not the first one's copy
    assert not np.array_equal(arrays.actions[:60], arrays.actions[67:127])
    with pytest.raises(UserError, match="2 transitions cannot be shared by 3 policies"):
        generated.ensure(
            HOPPER, transitions=2, behaviour_policy=",".join(paths), quiet=True, report=lines
        )


def test_a_policy_of_other_sizes_is_refused_before_the_cost(tmp_path, lines):
    path = write_policy(tmp_path / "p.npz", policy_arrays(np.random.default_rng(0), 17, 6))
    with pytest.raises(UserError, match="has 17 inputs and 6 actions; environment Hopper-v4"):
        generated.ensure(HOPPER, behaviour_policy=path, quiet=True, report=lines)
    assert lines == []
