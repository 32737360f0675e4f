"""Collected datasets: real Minari datasets, whole or absent, collected once."""

import json
import os
import shutil
import subprocess
import sys

import minari as minari_library
import mujoco
import numpy as np
import pytest

from dtql_jax.collect import generated, pool
from dtql_jax.collect.pointmaze import PointMazeBehaviour
from dtql_jax.datasets import load, minari, store
from dtql_jax.datasets.registry import get_task
from dtql_jax.errors import UserError
from tests.datasets.dataset_files import policy_arrays, write_policy

SOURCE = get_task("pointmaze-umaze").generated
HOPPER = get_task("hopper-medium-replay").generated
FINGERPRINT = "sha256:df5eaf244bdeffad72c13ab96acc227a9a0c2739a61d311ba3226b3f1a0d0c8a"

COLLECT = """
import sys
from dtql_jax.collect import generated
from dtql_jax.datasets.registry import get_task

def report(line):
    print(line, flush=True)

source = get_task("pointmaze-umaze").generated
report(generated.ensure(source, transitions=int(sys.argv[1]), quiet=True, report=report))
"""


def collect(transitions, lines, seed=0):
    name = generated.ensure(SOURCE, transitions=transitions, seed=seed, quiet=True, report=lines)
    return name, *minari.load([name], SOURCE, lines)


def test_a_collection_is_a_minari_dataset_with_the_asked_number_of_transitions(lines):
    name, transitions, facts = collect(500, lines)
    assert name == "dtql_jax/pointmaze/umaze-n500-seed0-v0"
    assert len(transitions.rewards) == 500
    assert len(lines) == 1 and "collecting 500 transitions of PointMaze_UMaze-v3" in lines[0]

    assert name in minari_library.list_local_datasets()
    dataset = minari_library.load_dataset(name)
    assert (dataset.total_steps, dataset.total_episodes) == (500, facts["episodes"])
    assert dataset.spec.env_spec.kwargs["continuing_task"] is False
    metadata = json.loads((store.data_folder(name) / "metadata.json").read_text())
    assert metadata["author"] == ["dtql-jax"]
    assert "PD controller" in metadata["algorithm_name"]
    assert "Not one of D4RL's" in metadata["description"]
    assert any(line.startswith("mujoco==") for line in metadata["requirements"])

    episodes = list(dataset.iterate_episodes())
    for episode in episodes[:-1]:
        # each reached its goal, and ended there
        assert episode.terminations.tolist() == [False] * (len(episode) - 1) + [True]
        assert episode.rewards.tolist() == [0.0] * (len(episode) - 1) + [1.0]
    assert episodes[-1].terminations[-1] or episodes[-1].truncations[-1]
    # every episode has a start and a goal of its own
    starts = {episode.observations["observation"][0].tobytes() for episode in episodes}
    goals = {episode.observations["desired_goal"][0].tobytes() for episode in episodes}
    assert len(starts) == len(goals) == len(episodes) > 3
    assert dataset.recover_environment().spec.id == "PointMaze_UMaze-v3"


def test_the_same_seed_gives_the_same_data_and_a_prefix_of_more(lines, tmp_path, monkeypatch):
    _, first, facts = collect(300, lines)
    _, longer, _ = collect(400, lines)
    _, other, _ = collect(300, lines, seed=1)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "another"))
    _, _, facts_again = collect(300, lines)
    assert facts["fingerprint"] == facts_again["fingerprint"]
    np.testing.assert_array_equal(first.observations, longer.observations[:300])
    assert not np.array_equal(first.observations, other.observations)


def test_a_dataset_is_collected_once(lines):
    collect(200, lines)
    files = store.data_folder(generated.dataset_id(SOURCE, 200, 0))
    before = (files / "main_data.hdf5").stat().st_mtime_ns
    collect(200, lines)
    assert (files / "main_data.hdf5").stat().st_mtime_ns == before
    assert len(lines) == 1


def test_names_never_look_like_those_of_d4rl():
    for size in ("umaze", "medium", "large"):
        source = get_task(f"pointmaze-{size}").generated
        usual = generated.dataset_id(source, source.transitions, 0)
        assert usual == f"dtql_jax/pointmaze/{size}-v0"
        assert generated.dataset_id(source, source.transitions, 1) != usual
        assert generated.dataset_id(source, 7, 0) != usual


@pytest.mark.parametrize(("transitions", "seed"), [(0, 0), (-5, 0), (10, -1)])
def test_impossible_numbers_are_refused(lines, transitions, seed):
    with pytest.raises(UserError, match=f"cannot collect {transitions} transitions with seed"):
        collect(transitions, lines, seed)
    assert not store.datasets_root().exists()


def test_a_store_that_cannot_be_written_is_one_line(lines, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "file"))
    with pytest.raises(UserError, match="cannot write to Minari's store"):
        collect(10, lines)


def test_a_collection_that_fails_keeps_its_episodes_and_frees_the_lock(lines, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(generated.pool, "episodes", fail)
        with pytest.raises(UserError, match="disk full; finished parts are kept in"):
            collect(50, lines)
    assert left_files() == [
        "collection.json",
        "dtql_jax__pointmaze__umaze-n50-seed0-v0.lock",
        "part0-000000.npz",
    ]
    assert "MINARI_DATASETS_PATH" in os.environ
    _, transitions, _ = collect(50, lines)
    assert "50 are there already" in lines[-1]
    assert len(transitions.rewards) == 50
    # nothing but the dataset is left
    assert left_files().count("main_data.hdf5") == 1


def left_files():
    return sorted(path.name for path in store.datasets_root().rglob("*") if path.is_file())


def start(transitions):
    return subprocess.Popen(
        [sys.executable, "-c", COLLECT, str(transitions)], stdout=subprocess.PIPE, text=True
    )


def test_two_processes_collect_the_same_dataset_once():
    processes = [start(4000), start(4000)]
    outputs = [process.communicate(timeout=100)[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    name = generated.dataset_id(SOURCE, 4000, 0)
    assert [output[-1] for output in outputs] == [name, name]
    collected = [line for output in outputs for line in output if line.startswith("collecting")]
    assert len(collected) == 1
    assert minari_library.load_dataset(name).total_steps == 4000


def test_what_a_killed_process_had_staged_is_cleared_away(lines):
    work = store.datasets_root() / ".dtql_jax"
    (work / "me__mine-v0.abc").mkdir(parents=True)
    with store.lock("me/mine-v0", lines), store.staging("me/mine-v0"):
        (store.data_folder("me/mine-v0")).mkdir(parents=True)
        (store.data_folder("me/mine-v0") / "metadata.json").write_text("{}")
    assert [path.name for path in work.iterdir()] == ["me__mine-v0.lock"]
    assert store.is_local("me/mine-v0") and lines == []


def test_a_dataset_collected_in_two_attempts_has_the_same_fingerprint(lines, monkeypatch):
    monkeypatch.setattr(PointMazeBehaviour, "part_episodes", 3)
    options = {"transitions": 800, "seed": 1, "quiet": True, "report": lines}
    name = generated.ensure(SOURCE, processes=2, **options)
    _, at_once = minari.load([name], SOURCE, lines)
    shutil.rmtree(store.datasets_root() / name)

    # two of its parts are there
    plans = generated.make_plans(SOURCE, [], [], 800, 1)
    folder = store.episodes_folder(name)
    pool.collect(folder, plans, pool.prepare(folder, plans), 1, lambda steps: None)
    (folder / "part0-000001.npz").unlink()
    lines.clear()
    assert generated.ensure(SOURCE, **options) == name
    assert "are there already" in lines[0]
    assert not folder.exists()
    _, resumed = minari.load([name], SOURCE, lines)
    assert resumed["fingerprint"] == at_once["fingerprint"]


def test_the_fingerprint_of_a_seed_stays_the_same(lines):
    """The data of seed 0 with MuJoCo 3.2.7, as the first version recorded it."""
    if mujoco.__version__ != "3.2.7":
        pytest.skip("other versions of MuJoCo may play other episodes")
    _, _, facts = collect(1000, lines)
    assert facts["fingerprint"] == FINGERPRINT


def test_several_policies_play_equal_shares(tmp_path, lines):
    paths = [
        write_policy(tmp_path / f"{k}.npz", policy_arrays(np.random.default_rng(k), 11, 3))
        for k in range(3)
    ]
    options = {"behaviour_policy": ",".join(paths), "quiet": True, "report": lines}
    name = generated.ensure(HOPPER, transitions=200, **options)
    arrays, facts = minari.load([name], HOPPER, lines)
    assert name.startswith("dtql_jax/hopper-policy") and "medium" not in name
    metadata = json.loads((store.data_folder(name) / "metadata.json").read_text())
    records = metadata["dtql_jax"]
    assert [record["transitions"] for record in records] == [67, 67, 66]
    assert [record["policy"] for record in records] == ["0.npz", "1.npz", "2.npz"]
    ends, first = np.cumsum(facts["episode_lengths"]), 0
    for record, last in zip(records, (67, 134, 200), strict=True):
        own = (ends > first) & (ends <= last)
        assert record["episodes"] == own.sum() and last in ends
        mean = arrays.rewards[first:last].sum() / own.sum()
        np.testing.assert_allclose(record["return_mean"], mean, rtol=1e-5)
        first = last
    # the second policy is not a copy of the first one
    assert not np.array_equal(arrays.actions[:60], arrays.actions[67:127])
    with pytest.raises(UserError, match="2 transitions cannot be shared by 3 policies"):
        generated.ensure(HOPPER, transitions=2, **options)


def test_a_policy_of_other_sizes_is_refused_before_the_cost(tmp_path, lines):
    path = write_policy(tmp_path / "p.npz", policy_arrays(np.random.default_rng(0), 17, 6))
    with pytest.raises(UserError, match="has 17 inputs and 6 actions; expected 11 and 3"):
        generated.ensure(HOPPER, behaviour_policy=path, quiet=True, report=lines)
    assert lines == []


def test_kitchens_of_a_random_policy_have_a_name_that_says_so(lines):
    """Asked for by name alone, in D4RL's layout, with episodes of the time limit."""
    arrays, info = load("kitchen-partial", "generated:random", transitions=560, report=lines)
    assert info.dataset_id == "dtql_jax/kitchen-random/partial-n560-seed0-v0"
    assert (info.episodes, info.reference_scores) == (2, None)
    assert arrays.observations.shape == (560, 60) and arrays.masks.all()
    # each action is held for 10 to 70 steps
    changes = np.flatnonzero(np.any(np.diff(arrays.actions[:280], axis=0), axis=1)) + 1
    assert changes[0] in (10, 20, 40, 70)
    np.testing.assert_array_equal(changes % changes[0], 0)
    with pytest.raises(UserError, match="no generated data 'scripted': known: random"):
        load("kitchen-partial", "generated:scripted", report=lines)
