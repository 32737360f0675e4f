"""load(): which source it takes, what it says, and what it hands out."""

import importlib.metadata
import json
import subprocess
import sys

import numpy as np
import pytest

from dtql_jax.datasets import load, store
from dtql_jax.datasets.transitions import fingerprint
from dtql_jax.envs.spec import EnvSpec
from dtql_jax.errors import UserError
from tests.datasets.dataset_files import d4rl_columns, random_episode, write_d4rl, write_minari

FILE = "hopper_medium-v2.hdf5"


def put_d4rl(tmp_path, file=FILE, observation_dim=11, action_dim=3):
    columns = d4rl_columns(
        np.random.default_rng(0), [0, 1, 0, 0], [0, 0, 0, 1], observation_dim, action_dim
    )
    columns["actions"][0, 0] = 1.5
    write_d4rl(tmp_path / "d4rl" / file, columns)
    return str(tmp_path / "d4rl")


def put_minari():
    rng = np.random.default_rng(0)
    episodes = [random_episode(rng, 5, 11, 3, terminated=True) for _ in range(2)]
    write_minari("mujoco/hopper/medium-v0", "Hopper-v5", episodes)


def test_importing_the_package_imports_nothing_heavy():
    heavy = "{'jax', 'minari', 'gymnasium', 'h5py', 'mujoco', 'matplotlib'}"
    code = f"import sys, dtql_jax.datasets; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]"


def test_auto_prefers_minari_then_d4rl(tmp_path, lines):
    folder = put_d4rl(tmp_path)
    _, info = load("hopper-medium", d4rl_dir=folder, report=lines)
    assert (info.source, info.dataset_id) == ("d4rl", FILE)
    put_minari()
    _, info = load("hopper-medium", d4rl_dir=folder, report=lines)
    assert (info.source, info.dataset_id) == ("minari", "mujoco/hopper/medium-v0")
    assert "source 'minari', dataset mujoco/hopper/medium-v0" in lines[-1]
    _, info = load("hopper-medium", "d4rl", d4rl_dir=folder, report=lines)
    assert info.source == "d4rl"


def test_auto_collects_where_nothing_else_has_the_data(lines):
    arrays, info = load("pointmaze-umaze", transitions=150, quiet=True, report=lines)
    assert (info.source, info.transitions) == ("generated", 150)
    assert lines == []
    assert len(arrays.rewards) == 150
    assert info.mujoco_version == importlib.metadata.version("mujoco")
    again, _ = load("pointmaze-umaze", "generated", transitions=150, report=lines)
    np.testing.assert_array_equal(arrays.observations, again.observations)
    assert not any(line.startswith("collecting") for line in lines)


def test_what_is_known_of_a_minari_dataset(lines):
    put_minari()
    arrays, info = load("hopper-medium-v2", "minari", report=lines)
    assert info.task == "hopper-medium"
    assert info.version == "v0"
    assert info.path == str(store.datasets_root() / "mujoco/hopper/medium-v0")
    assert info.fingerprint == fingerprint(arrays)
    assert (info.episodes, info.transitions) == (2, 10)
    assert (info.observation_dim, info.action_dim) == (11, 3)
    assert info.observation_layout == ("observation",)
    assert info.env == EnvSpec("Hopper-v5", 1000)
    # D4RL's reference scores do not belong to Minari's data
    assert info.reference_scores is None
    assert info.mujoco_version == ""  # this dataset has no requirements
    json.dumps(info.to_dict())


def test_what_is_known_of_a_d4rl_file(tmp_path, lines):
    folder = put_d4rl(tmp_path)
    arrays, info = load("hopper-medium", "d4rl", d4rl_dir=folder, report=lines)
    assert info.version == "v2"
    assert info.path == f"{folder}/{FILE}"
    assert info.fingerprint == fingerprint(arrays)
    assert (info.episodes, info.transitions, info.clipped_actions) == (2, 3, 1)
    assert info.env == EnvSpec("Hopper-v4", 1000)
    assert info.reference_scores == (-20.272305, 3234.3)
    assert "warning: 1 of 9 action entries of hopper_medium-v2.hdf5 were outside" in lines[-1]
    for array in arrays:
        assert array.dtype == np.float32
        assert array.flags.c_contiguous


def test_goal_conditioned_observations_name_their_parts(lines):
    _, info = load("pointmaze-umaze", "generated", transitions=50, quiet=True)
    assert info.observation_layout == ("observation", "desired_goal")
    assert info.observation_dim == 6


def test_the_version_in_the_name_chooses_the_file(tmp_path, lines):
    old = "Ant_maze_u-maze_noisy_multistart_False_multigoal_False_sparse.hdf5"
    folder = put_d4rl(tmp_path, old, 29, 8)
    _, info = load("antmaze-umaze-v0", "d4rl", d4rl_dir=folder, report=lines)
    assert (info.dataset_id, info.version) == (old, "v0")
    with pytest.raises(UserError, match=r"sparse_fixed\.hdf5 is not in"):
        load("antmaze-umaze-v2", "d4rl", d4rl_dir=folder, report=lines)


def test_lines_go_to_stderr_unless_quiet(tmp_path, capsys):
    folder = put_d4rl(tmp_path)
    load("hopper-medium", d4rl_dir=folder)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "hopper-medium: 3 transitions" in captured.err
    load("hopper-medium", d4rl_dir=folder, quiet=True)
    assert capsys.readouterr() == ("", "")


def test_one_line_says_what_to_do_where_nothing_has_the_data(lines):
    with pytest.raises(UserError) as caught:
        load("kitchen-mixed", report=lines)
    line = str(caught.value)
    assert "\n" not in line
    for part in (
        "no data for 'kitchen-mixed'",
        "minari download D4RL/kitchen/mixed-v2",
        "kitchen_microwave_kettle_bottomburner_light-v0.hdf5",
        "cannot be collected here",
    ):
        assert part in line


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("hoper-medium", {}, "unknown task"),
        ("hopper-medium", {"source": "minri"}, "unknown source 'minri': did you mean minari"),
        ("hopper-medium-replay", {"source": "minari"}, "Minari has no data .* sources: d4rl"),
        ("pointmaze-umaze", {"source": "d4rl"}, "D4RL has no data .* sources: minari, generated"),
        ("kitchen-mixed", {"source": "generated"}, "cannot be generated: kitchen data is recorded"),
        ("hopper-medium", {"source": "d4rl"}, r"hopper_medium-v2\.hdf5 is not in"),
        ("pointmaze-umaze", {"source": "minari"}, "minari download D4RL/pointmaze/umaze-v2"),
        (
            "pointmaze-umaze",
            {"source": "minari", "transitions": 5},
            r"transitions \(5\) is for source 'generated'",
        ),
        ("pointmaze-umaze", {"transitions": 0}, "cannot collect 0 transitions"),
        ("kitchen-mixed", {"transitions": 5}, "cannot be generated"),
        ("door-expert", {"source": "generated"}, "no behaviour policy for the door"),
        ("hopper-medium", {"behaviour_policy": "no.npz"}, r"policy .*no\.npz cannot be read"),
        (
            "pointmaze-umaze",
            {"behaviour_policy": "a.npz"},
            r"a\.npz has no use there",
        ),
        (
            "hopper-medium",
            {"source": "d4rl", "behaviour_policy": "a.npz"},
            r"behaviour_policy \(a\.npz\) is for source 'generated'",
        ),
        (
            "antmaze-umaze",
            {"source": "generated:gymnasium"},
            "no generated data 'gymnasium': did you mean gymnasium-ant",
        ),
        ("pointmaze-umaze", {"source": "generated:large"}, "it has one collection only"),
        ("hopper-medium", {"source": "d4rl:v2"}, "unknown source 'd4rl:v2'"),
    ],
)
def test_wrong_requests_are_one_line(lines, task, options, message):
    with pytest.raises(UserError, match=message):
        load(task, report=lines, **options)


def test_a_damaged_dataset_is_an_error_and_not_a_reason_to_take_another(tmp_path, lines):
    folder = put_d4rl(tmp_path)
    put_minari()
    (store.data_folder("mujoco/hopper/medium-v0") / "main_data.hdf5").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read"):
        load("hopper-medium", d4rl_dir=folder, report=lines)
