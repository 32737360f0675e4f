"""Minari datasets, written by Minari itself, read by the rules of `datasets.minari`."""

import copy
import dataclasses
import http.server
import json
import pathlib
import shutil
import socket
import threading
import time
import warnings

import gymnasium
import minari as minari_library
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtql_jax.collect.pointmaze import Planner
from dtql_jax.datasets import minari, store
from dtql_jax.datasets.registry import get_task
from dtql_jax.envs.make import make_base_env, register
from dtql_jax.errors import UserError
from tests.datasets.dataset_files import random_episode, write_minari

POINTMAZE = get_task("pointmaze-umaze").minari
HOPPER = get_task("hopper-medium").minari
ANTMAZE = get_task("antmaze-umaze").minari
KITCHEN = get_task("kitchen-mixed").minari
POINT_PARTS = {"observation": 4, "achieved_goal": 2, "desired_goal": 2}


def loop(episodes, keys=(), success_ends=False):
    """Transitions, one step at a time, straight from the rules."""
    rows = []
    for episode in episodes:
        given = episode["observations"]

        def vector(step, given=given):
            return np.concatenate([given[key][step] for key in keys]) if keys else given[step]

        for step in range(len(episode["actions"])):
            if "desired_goal" in keys:
                goals = given["desired_goal"]
                if any(goals[step] != goals[step + 1]):
                    continue
            end = episode["terminations"][step]
            if success_ends and episode["rewards"][step] > 0:
                end = True
            rows.append(
                (
                    vector(step),
                    episode["actions"][step],
                    vector(step + 1),
                    episode["rewards"][step],
                    0.0 if end else 1.0,
                )
            )
    return [np.array(column, np.float32) for column in zip(*rows, strict=True)]


def assert_equal(transitions, expected):
    for name, array, column in zip(transitions._fields, transitions, expected, strict=True):
        np.testing.assert_array_equal(array, column, err_msg=name)
        assert array.dtype == np.float32
        assert array.flags.c_contiguous


def hopper_episodes(count=3, seed=0):
    rng = np.random.default_rng(seed)
    return [random_episode(rng, 5 + k, 11, 3, terminated=k % 2 == 0) for k in range(count)]


def test_flat_observations_terminations_end_and_truncations_do_not(lines):
    episodes = hopper_episodes()
    write_minari("mujoco/hopper/medium-v0", "Hopper-v5", episodes)
    transitions, facts = minari.load(HOPPER.dataset_ids, HOPPER, lines)
    assert_equal(transitions, loop(episodes))
    assert facts["episodes"] == 3
    # the first and third episode terminated, the second was truncated
    assert transitions.masks.tolist().count(0.0) == 2


def test_several_datasets_are_put_together_in_order(lines):
    first, second = hopper_episodes(seed=1), hopper_episodes(seed=2)
    write_minari("mujoco/hopper/medium-v0", "Hopper-v5", first)
    write_minari("mujoco/hopper/expert-v0", "Hopper-v5", second)
    source = get_task("hopper-medium-expert").minari
    transitions, facts = minari.load(source.dataset_ids, source, lines)
    assert_equal(transitions, loop(first + second))
    assert facts["episodes"] == 6


@settings(max_examples=60, deadline=None)
@given(
    steps=st.integers(1, 8),
    goals=st.lists(st.integers(0, 1), min_size=9, max_size=9),
    rewards=st.lists(st.integers(0, 1), min_size=8, max_size=8),
    terminated=st.booleans(),
)
def test_maze_rules_as_in_a_loop(steps, goals, rewards, terminated):
    episode = random_episode(np.random.default_rng(steps), steps, POINT_PARTS, 2, terminated)
    episode["observations"]["desired_goal"][:, 0] = goals[: steps + 1]
    episode["rewards"] = np.array(rewards[:steps], float)
    transitions = minari.from_minari_episode(episode, POINTMAZE)
    expected = loop([episode], ("observation", "desired_goal"), success_ends=True)
    assert len(transitions.rewards) == (len(expected[0]) if expected else 0)
    if expected:
        assert_equal(transitions, expected)


def record(reset_target, steps):
    """One long episode in the real simulator, recorded as the published maze data is."""
    spec = dataclasses.replace(
        POINTMAZE.env,
        max_episode_steps=steps,
        kwargs={"continuing_task": True, "reset_target": reset_target},
    )
    env = make_base_env(spec)
    planner = Planner(env.unwrapped.maze.maze_map)
    noise = np.random.default_rng(0)
    observation, _ = env.reset(seed=0)
    observations, actions, rewards = [observation], [], []
    true_goals = [env.unwrapped.goal.copy()]
    for _ in range(steps):
        action = planner.action(observation["observation"], true_goals[-1], noise)
        observation, reward, terminated, truncated, _ = env.step(action)
        assert not terminated
        observations.append(observation)
        actions.append(action)
        rewards.append(reward)
        true_goals.append(env.unwrapped.goal.copy())
    assert truncated
    env.close()
    episode = {
        "id": 0,
        "observations": {
            key: np.stack([given[key] for given in observations]) for key in observation
        },
        "actions": np.stack(actions),
        "rewards": np.array(rewards),
        "terminations": np.zeros(steps, bool),
        "truncations": np.arange(steps) == steps - 1,
    }
    return episode, np.stack(true_goals)


def test_continuing_maze_with_new_goals_leaves_out_the_step_with_the_old_goal(lines):
    steps = 400
    episode, true_goals = record(reset_target=True, steps=steps)
    write_minari("D4RL/pointmaze/umaze-v2", "PointMaze_UMaze-v3", [episode])
    transitions, _ = minari.load(POINTMAZE.dataset_ids, POINTMAZE, lines)

    successes = int(episode["rewards"].sum())
    assert successes >= 3
    # what the simulator does: the observation after a success still has the goal just reached
    shown = episode["observations"]["desired_goal"]
    stale = [k for k in range(steps + 1) if not np.array_equal(shown[k], true_goals[k])]
    assert stale == [k + 1 for k in np.flatnonzero(episode["rewards"])]
    left_out = sum(k < steps for k in stale)
    assert len(transitions.rewards) == steps - left_out
    assert int((transitions.masks == 0).sum()) == successes

    # every reward fits the goal in its own transition
    reached = np.linalg.norm(
        transitions.next_observations[:, :2] - transitions.next_observations[:, 4:], axis=1
    )
    np.testing.assert_array_equal(transitions.rewards == 1, reached <= 0.45)
    np.testing.assert_array_equal(transitions.masks, 1 - transitions.rewards)
    np.testing.assert_array_equal(
        transitions.observations[:, 4:], transitions.next_observations[:, 4:]
    )


def test_continuing_maze_that_stays_at_its_goal_is_kept_with_mask_0(lines):
    episode, _ = record(reset_target=False, steps=150)
    write_minari("D4RL/pointmaze/umaze-v2", "PointMaze_UMaze-v3", [episode])
    transitions, _ = minari.load(POINTMAZE.dataset_ids, POINTMAZE, lines)
    assert len(transitions.rewards) == 150
    assert transitions.rewards.sum() > 10
    np.testing.assert_array_equal(transitions.masks, 1 - transitions.rewards)


def spec_of(env_id):
    """A copy: Gymnasium hands out the registry's own."""
    register(env_id)
    return copy.deepcopy(gymnasium.spec(env_id))


def test_other_goal_and_start_markings_are_the_same_maze_other_walls_are_not():
    recorded = spec_of("AntMaze_UMaze-v4")
    minari.check_environment("some-v0", recorded, ANTMAZE.env)
    diverse = spec_of("AntMaze_Medium_Diverse_GR-v4")
    medium = get_task("antmaze-medium-diverse").minari.env
    minari.check_environment("some-v0", diverse, medium)
    mirrored = [list(reversed(row)) for row in ANTMAZE.env.kwargs["maze_map"]]
    other = spec_of("AntMaze_UMaze-v4")
    other.kwargs = {**other.kwargs, "maze_map": mirrored}
    with pytest.raises(UserError, match=r"some-v0 was recorded in AntMaze_UMaze-v4 with maze_map"):
        minari.check_environment("some-v0", other, ANTMAZE.env)


def test_the_subtasks_of_the_kitchen_must_be_the_same():
    recorded = spec_of("FrankaKitchen-v1")
    recorded.kwargs = {
        "tasks_to_complete": ["light switch", "bottom burner", "kettle", "microwave"]
    }
    minari.check_environment("some-v0", recorded, KITCHEN.env)
    recorded.kwargs = {"tasks_to_complete": ["microwave"]}
    with pytest.raises(UserError, match="tasks_to_complete"):
        minari.check_environment("some-v0", recorded, KITCHEN.env)


def test_the_kitchens_goals_are_no_part_of_its_observations(lines):
    # recorded in the real environment: its goals are dicts of their own
    env = make_base_env(KITCHEN.env)
    collector = minari_library.DataCollector(env)
    env.action_space.seed(0)
    first, _ = collector.reset(seed=0)
    observations, actions = [first["observation"]], []
    for _ in range(20):
        actions.append(env.action_space.sample())
        observations.append(collector.step(actions[-1])[0]["observation"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no author, no e-mail address
        collector.create_dataset("D4RL/kitchen/mixed-v2")
    collector.close()
    found, facts = minari.load(["D4RL/kitchen/mixed-v2"], KITCHEN, lines)
    assert facts["episodes"] == 1
    np.testing.assert_array_equal(found.observations, np.float32(observations[:-1]))
    np.testing.assert_array_equal(found.next_observations, np.float32(observations[1:]))
    np.testing.assert_array_equal(found.actions, np.float32(actions))


def test_another_environment_or_version_is_refused(lines):
    write_minari("mujoco/hopper/medium-v0", "Hopper-v4", hopper_episodes())
    with pytest.raises(UserError, match=r"medium-v0 was recorded in Hopper-v4, not .* Hopper-v5"):
        minari.load(HOPPER.dataset_ids, HOPPER, lines)


def test_a_dataset_without_an_environment_is_refused(lines):
    write_minari("mujoco/hopper/medium-v0", "Hopper-v5", hopper_episodes(), env_spec=False)
    with pytest.raises(UserError, match=r"does not say in which environment .* Hopper-v5"):
        minari.load(HOPPER.dataset_ids, HOPPER, lines)


def damaged(change):
    episode = random_episode(np.random.default_rng(0), 5, 11, 3)
    change(episode)
    return [episode]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda e: e.update(observations=e["observations"][:, :10]),
            r"episode 0: its observations have shape \(6, 10\); .* Hopper-v5 has 11 entries",
        ),
        (
            lambda e: e.update(actions=np.zeros((5, 4), np.float32)),
            r"episode 0: its actions have shape \(5, 4\); .* Hopper-v5 has 3 entries",
        ),
        (
            lambda e: e.update(observations=e["observations"][:-1]),
            "episode 0: an episode of 5 actions has 5 observations, 5 rewards",
        ),
        (
            lambda e: e["observations"].__setitem__((2, 3), np.nan),
            r"observations have 1 NaN or infinite entries, the first in row 2",
        ),
        (
            lambda e: e.update(rewards=[0, 0, 0, np.inf, 0]),
            r"rewards have 1 NaN or infinite entries, the first in row 3",
        ),
    ],
)
def test_invalid_episodes_are_named(lines, change, message):
    write_minari("mujoco/hopper/medium-v0", "Hopper-v5", damaged(change))
    with pytest.raises(UserError, match=message) as caught:
        minari.load(HOPPER.dataset_ids, HOPPER, lines)
    assert "mujoco/hopper/medium-v0" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parts_that_are_missing_are_named():
    episode = random_episode(np.random.default_rng(0), 3, {"observation": 4}, 2)
    with pytest.raises(UserError, match=r"parts \('observation',\); .* needs .*'desired_goal'"):
        minari.from_minari_episode(episode, POINTMAZE)
    with pytest.raises(UserError, match=r"needs \(one array\)"):
        minari.from_minari_episode(episode, HOPPER)


def test_an_empty_dataset_is_refused(lines):
    write_minari("mujoco/hopper/medium-v0", "Hopper-v5", [])
    with pytest.raises(UserError, match=r"medium-v0 .*empty"):
        minari.load(HOPPER.dataset_ids, HOPPER, lines)


def cut_file(folder):
    path = folder / "main_data.hdf5"
    path.write_bytes(path.read_bytes()[:3000])


def remove_file(folder):
    (folder / "main_data.hdf5").unlink()


def break_metadata(folder):
    (folder / "metadata.json").write_text("{")


def promise_more_episodes(folder):
    path = folder / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"total_episodes": 9}))


@pytest.mark.parametrize("damage", [cut_file, remove_file, break_metadata, promise_more_episodes])
def test_a_damaged_dataset_is_one_line(lines, damage):
    write_minari("mujoco/hopper/medium-v0", "Hopper-v5", hopper_episodes())
    damage(store.data_folder("mujoco/hopper/medium-v0"))
    with pytest.raises(UserError, match=r"hopper/medium-v0 in .* cannot be read \(") as caught:
        minari.load(HOPPER.dataset_ids, HOPPER, lines)
    assert "\n" not in str(caught.value)


def test_actions_beyond_the_action_space_are_clipped_and_counted(lines):
    episodes = hopper_episodes(1)
    episodes[0]["actions"][0] = [1.37, -2, 0.5]
    write_minari("mujoco/hopper/medium-v0", "Hopper-v5", episodes)
    transitions, facts = minari.load(HOPPER.dataset_ids, HOPPER, lines)
    assert facts["clipped_actions"] == 2
    np.testing.assert_array_equal(transitions.actions[0], [1, -1, 0.5])


def test_the_second_load_comes_from_the_cache(lines, monkeypatch):
    write_minari("mujoco/hopper/medium-v0", "Hopper-v5", hopper_episodes())
    first, facts = minari.load(HOPPER.dataset_ids, HOPPER, lines)
    monkeypatch.setattr(minari, "_read_all", None)
    second, facts_again = minari.load(HOPPER.dataset_ids, HOPPER, lines)
    assert_equal(second, first)
    np.testing.assert_equal(facts, facts_again)


def test_without_a_network_one_line_says_what_to_do(lines):
    source = get_task("hopper-medium-expert").minari
    start = time.monotonic()
    with pytest.raises(UserError) as caught:
        minari.fetch(source.dataset_ids, lines)
    assert time.monotonic() - start < 5
    line = str(caught.value)
    assert "minari download mujoco/hopper/medium-v0" in line
    assert "minari download mujoco/hopper/expert-v0" in line
    assert str(store.datasets_root()) in line
    assert "HF_HUB_OFFLINE" in line
    assert "\n" not in line


def test_local_datasets_need_no_network(lines):
    write_minari("mujoco/hopper/medium-v0", "Hopper-v5", hopper_episodes())
    minari.fetch(HOPPER.dataset_ids, lines)
    assert lines == []


def test_a_remote_that_does_not_answer_is_found_out_quickly(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    start = time.monotonic()
    assert address in minari.network_problem()
    assert time.monotonic() - start < 5


def test_a_remote_that_refuses_answers_all_the_same(monkeypatch):
    class Refuse(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_error(403)

        def log_message(self, *args):
            pass

    monkeypatch.delenv("HF_HUB_OFFLINE")
    with http.server.HTTPServer(("127.0.0.1", 0), Refuse) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        assert minari.network_problem() == ""
        server.shutdown()


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """A remote that has mujoco/hopper/medium-v0; what `remote.after` does happens to the copy."""
    write_minari("mujoco/hopper/medium-v0", "Hopper-v5", hopper_episodes())
    kept = tmp_path / "remote"
    shutil.move(store.datasets_root(), kept)

    def download(dataset_id):
        folder = store.data_folder(dataset_id)
        shutil.copytree(kept / dataset_id / "data", folder)
        download.after(folder)

    download.after = lambda folder: None
    monkeypatch.setattr(minari, "network_problem", lambda: "")
    monkeypatch.setattr(minari_library, "download_dataset", download)
    return download


def test_a_download_is_put_into_the_store_and_read(remote, lines):
    minari.fetch(HOPPER.dataset_ids, lines)
    transitions, _ = minari.load(HOPPER.dataset_ids, HOPPER, lines)
    assert_equal(transitions, loop(hopper_episodes()))
    assert len(lines) == 1 and "downloading mujoco/hopper/medium-v0" in lines[0]


def break_off(folder):
    cut_file(folder)
    raise ConnectionError("the line went dead")


def package_missing(folder):
    raise ImportError("huggingface_hub is not installed")


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (break_off, "the line went dead"),
        (cut_file, "cannot be read|Unable"),
        (package_missing, r"pip install 'minari\[hf\]'"),
    ],
)
def test_a_failed_download_leaves_nothing(remote, lines, after, message):
    remote.after = after
    with pytest.raises(UserError, match=message) as caught:
        minari.fetch(HOPPER.dataset_ids, lines)
    assert "minari download mujoco/hopper/medium-v0" in str(caught.value)
    assert not store.is_local("mujoco/hopper/medium-v0")
    left = [path for path in store.datasets_root().rglob("*") if path.is_file()]
    assert [path.suffix for path in left] == [".lock"]


def test_a_folder_in_the_way_is_named(remote, lines):
    place = store.datasets_root() / "mujoco/hopper/medium-v0"
    place.mkdir(parents=True)
    pathlib.Path(place / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="is in the way"):
        minari.fetch(HOPPER.dataset_ids, lines)
    assert (place / "mine.txt").read_text() == "keep"
