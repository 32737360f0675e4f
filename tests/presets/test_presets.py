"""Configurations against the tables of the paper's program."""

import pytest

from dtql_jax.commands import cli
from dtql_jax.datasets.registry import TASKS
from dtql_jax.errors import UserError
from dtql_jax.presets import get_config, has_pretraining

# task: learning rate, alpha, gamma, decay, epochs, batch, expectile, reward shift
PUBLISHED = """
halfcheetah-medium 3e-4 1 0 no 1000 256 0.7 0
halfcheetah-medium-replay 3e-4 5 0 no 1000 256 0.7 0
halfcheetah-medium-expert 3e-4 50 0 no 1000 256 0.7 0
hopper-medium 1e-4 5 0 yes 1000 256 0.7 0
hopper-medium-replay 3e-4 5 0 no 1000 256 0.7 0
hopper-medium-expert 3e-4 20 0 no 1000 256 0.7 0
walker2d-medium 3e-4 5 0 yes 1000 256 0.7 0
walker2d-medium-replay 3e-4 5 0 yes 1000 256 0.7 0
walker2d-medium-expert 3e-4 5 0 yes 1000 256 0.7 0
antmaze-umaze 3e-4 1 1 no 500 2048 0.9 -1
antmaze-umaze-diverse 3e-5 1 1 yes 500 2048 0.9 -1
antmaze-medium-play 3e-4 1 1 no 400 2048 0.9 -1
antmaze-medium-diverse 3e-4 1 1 no 400 2048 0.9 -1
antmaze-large-play 3e-4 1 1 no 350 2048 0.9 -1
antmaze-large-diverse 3e-4 0.5 1 no 300 2048 0.9 -1
pen-human 3e-5 1500 0 yes 300 256 0.9 0
pen-cloned 1e-5 1500 0 no 200 256 0.7 0
kitchen-complete 1e-4 200 0 yes 500 256 0.7 0
kitchen-partial 1e-4 100 0 yes 1000 256 0.7 0
kitchen-mixed 3e-4 200 0 yes 500 256 0.7 0
"""


@pytest.mark.parametrize("row", PUBLISHED.strip().splitlines(), ids=lambda row: row.split()[0])
def test_published_settings(row: str) -> None:
    task, rate, alpha, gamma, decay, epochs, batch, expectile, shift = row.split()
    config = get_config(f"{task},paper,dtql")
    algorithm = config.algorithm
    assert algorithm.learning_rate == float(rate)
    assert algorithm.critic_learning_rate == 3e-4
    assert (algorithm.alpha, algorithm.gamma) == (float(alpha), float(gamma))
    assert algorithm.lr_decay == (decay == "yes")
    assert config.train_steps == 1000 * int(epochs)
    assert config.pretrain_steps == 50_000
    assert config.eval_every == 50_000
    assert config.batch_size == int(batch)
    assert algorithm.expectile == float(expectile)
    assert (algorithm.discount, algorithm.tau) == (0.99, 0.005)
    assert (algorithm.action_selection, algorithm.num_candidates) == ("softmax", 1024)
    assert (config.reward_scale, config.reward_shift) == (1.0, float(shift))
    episodes = 10 if TASKS[task].domain == "gym" else 100
    assert (config.eval_episodes, config.final_eval_episodes) == (episodes, 0)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_presets(task: str) -> None:
    quick = get_config(f"{task},quick,dtql")
    assert quick.train_steps <= 10_000
    larger = "full" if TASKS[task].domain == "pointmaze" else "paper"
    assert get_config(f"{task},{larger}").train_steps > quick.train_steps
    assert get_config(task).preset == ("quick" if larger == "full" else "paper")


def test_versions_of_a_task_share_its_settings() -> None:
    assert get_config("antmaze-umaze-v0").task == "antmaze-umaze-v0"
    assert get_config("antmaze-umaze-v0").batch_size == 2048


def test_unknown_names() -> None:
    for spec, match in (
        ("hoper-medium", "did you mean hopper-medium"),
        ("pointmaze-umaze,paper", "no preset 'paper'"),
        ("pointmaze-umaze,quick,dqn", "algorithm 'dqn' does not exist"),
        ("a,b,c,d", "expected TASK"),
    ):
        with pytest.raises(UserError, match=match):
            get_config(spec)


@pytest.mark.parametrize(
    ("algorithm", "updates"), [("dtql", 50_000), ("dql_kl", 50_000), ("bc", 0)]
)
def test_only_some_algorithms_have_pretraining(algorithm: str, updates: int) -> None:
    assert has_pretraining(algorithm) == (updates > 0)
    assert get_config(f"hopper-medium,paper,{algorithm}").pretrain_steps == updates


BASELINES = [
    # arXiv 2110.06169, 2304.10573, 2502.02538 and 2208.06193
    ("antmaze-umaze", "iql", {"batch_size": 256}, {"temperature": 10.0, "expectile": 0.9}),
    ("hopper-medium", "iql", {}, {"temperature": 3.0, "expectile": 0.7}),
    (
        "antmaze-umaze",
        "idql",
        {"train_steps": 3_000_000, "batch_size": 512},
        {"weight_decay": 1e-4},
    ),
    ("antmaze-umaze", "fql", {"reward_shift": -1.0}, {"alpha": 10.0, "q_aggregation": "mean"}),
    ("antmaze-large-play", "fql", {}, {"alpha": 3.0}),
    ("pen-cloned", "fql", {"reward_shift": 0.0}, {"alpha": 10_000.0, "q_aggregation": "min"}),
    (
        "antmaze-umaze",
        "dql",
        {"train_steps": 1_000_000, "batch_size": 256, "reward_scale": 4.0, "reward_shift": -2.0},
        {"eta": 0.5, "grad_norm": 2.0},
    ),
    ("pen-human", "dql", {"reward_standardise": True, "reward_shift": 0.0}, {"eta": 0.15}),
]


@pytest.mark.parametrize(("task", "algorithm", "fields", "settings"), BASELINES)
def test_settings_of_baselines(task: str, algorithm: str, fields: dict, settings: dict) -> None:
    config = get_config(f"{task},paper,{algorithm}").to_dict()
    assert {name: config[name] for name in fields} == fields
    assert {name: config["algorithm"][name] for name in settings} == settings


def test_the_last_flag_wins() -> None:
    argv = ["train", "--env=a", "--preset", "quick", "--env", "b", "--envelope=c"]
    assert cli.value_of(argv, "env") == "b"
    assert cli.value_of(argv, "preset") == "quick"
    assert cli.value_of(argv, "algorithm") is None
