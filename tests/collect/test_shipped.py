"""The behaviour policies that come with the package."""

import hashlib
import json
import math

import minari as minari_library
import numpy as np
import pytest

from dtql_jax.collect import generated
from dtql_jax.collect.antmaze import POLICY_INPUTS
from dtql_jax.collect.behaviours import make_behaviour
from dtql_jax.collect.policies import SHIPPED, SHIPPED_FOLDER, read_policy
from dtql_jax.collect.recording import play
from dtql_jax.datasets import store
from dtql_jax.datasets.load import load
from dtql_jax.datasets.registry import TASKS, get_task
from dtql_jax.envs.make import make_base_env
from dtql_jax.errors import UserError

SOURCES = [
    source
    for task in TASKS.values()
    for source in (task.generated, *task.generated_variants)
    if source is not None and source.policy
]
ACCOUNTS = {path.stem: json.loads(path.read_text()) for path in SHIPPED_FOLDER.glob("*.json")}
BODIES = [body for body in ("halfcheetah", "hopper", "walker2d") if body in ACCOUNTS]
MEASURED = {
    name: measured
    for account in ACCOUNTS.values()
    for name, measured in account["policies"].items()
}


def test_each_source_that_wants_a_policy_finds_its_own():
    assert {source.policy for source in SOURCES} == set(SHIPPED)
    for source in SOURCES:
        files = generated.behaviour_files(source, None)
        assert files and SHIPPED[source.policy].note
        inputs = POLICY_INPUTS if source.collector == "antmaze" else source.observation_dim
        for file in files:
            policy = read_policy(file)
            assert (policy.observation_dim, policy.action_dim) == (inputs, source.action_dim)


def test_all_files_are_used_accounted_for_and_small():
    files = {path.name: path for path in SHIPPED_FOLDER.iterdir()}
    arrays = {name for name in files if name.endswith(".npz")}
    assert arrays == {name for given in SHIPPED.values() for name in given.files} == set(MEASURED)
    assert set(files) - arrays == {f"{body}.json" for body in ACCOUNTS}
    for name in arrays:
        assert hashlib.sha256(files[name].read_bytes()).hexdigest() == MEASURED[name]["sha256"]
    assert sum(path.stat().st_size for path in files.values()) < 1_000_000


def test_accounts_say_how_to_repeat_the_training():
    for body, account in ACCOUNTS.items():
        assert account["command"].startswith(f"python -m experiments.train_behaviour --body={body}")
        whole = account["steps"] >= account["settings"]["steps"]
        assert account["seconds"] > 0 and whole != ("--stop=" in account["command"])
        assert {"sbx-rl", "mujoco", "jax"} <= set(account["versions"])


def test_levels_are_in_order():
    for body in BODIES:
        means = [
            MEASURED[f"{body}-{level}.npz"]["return_mean"]
            for level in ("simple", "medium", "expert")
        ]
        assert means == sorted(means)
        replay = [MEASURED[name]["steps"] for name in SHIPPED[f"{body}-medium-replay"].files]
        assert len(replay) == 5 and replay == sorted(replay)


@pytest.mark.parametrize(
    ("task", "source"),
    [
        ("hopper-medium-replay", "generated"),
        ("walker2d-medium-expert", "generated"),
        ("halfcheetah-simple", "generated"),
        ("antmaze-umaze", "generated"),
        ("antmaze-umaze", "generated:gymnasium-ant"),
        ("pen-cloned", "generated"),
    ],
)
def test_a_collection_needs_no_file(task, source, lines):
    variant = source.partition(":")[2]
    found = get_task(task)
    (wanted,) = [
        given.policy
        for given in (found.generated, *found.generated_variants)
        if not variant or given.variant == variant
    ][:1]
    data, _ = load(task, source, transitions=100, report=lines)
    assert len(data.rewards) == 100 and np.isfinite(data.rewards).all()
    (name,) = minari_library.list_local_datasets()
    assert "D4RL/" not in name and "mujoco/" not in name
    metadata = json.loads((store.data_folder(name) / "metadata.json").read_text())
    assert SHIPPED[wanted].note in metadata["description"]
    assert all(np.isfinite(account["return_mean"]) for account in metadata["dtql_jax"])
    files = [account["policy"] for account in metadata["dtql_jax"]]
    assert files and set(files) <= set(MEASURED)


def test_what_people_recorded_is_not_collected(lines):
    with pytest.raises(UserError, match=r"pen-human is recorded from people"):
        load("pen-human", "generated", report=lines)


@pytest.mark.slow
def test_a_policy_has_the_return_of_its_account():
    name, episodes = "hopper-medium.npz", 40
    source, measured = get_task("hopper-medium").generated, MEASURED["hopper-medium.npz"]
    env = make_base_env(source.recording_env())
    behaviour = make_behaviour("policy", env, read_policy(SHIPPED_FOLDER / name), {})
    returns = [play(env, behaviour, (1, i)).rewards.sum() for i in range(episodes)]
    error = measured["return_std"] * math.sqrt(1 / episodes + 1 / measured["episodes"])
    assert abs(np.mean(returns) - measured["return_mean"]) < 4 * error
