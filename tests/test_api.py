"""The Python API: own arrays, files and environments; scores; policies to go; wrong input."""

from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import pytest
from absl import flags

import dtql_jax
from dtql_jax.__main__ import main
from dtql_jax.commands import runner
from dtql_jax.datasets.own import bound_of, read_data
from dtql_jax.datasets.registry import TASKS
from dtql_jax.envs.spec import EnvSpec
from dtql_jax.errors import UserError
from dtql_jax.presets import parts
from dtql_jax.presets.arguments import configuration
from examples import own_algorithm
from examples import own_data_and_environment as own
from tests.test_packaging import make_line

TINY = {"steps": 30, "batch_size": 32, "quiet": True}
SMALL = {"algorithm": "bc", "settings": {"hidden_dim": 16}}


@pytest.fixture(scope="module")
def trained() -> dtql_jax.Trained:
    return dtql_jax.train(
        own.record(300), own.Line, max_episode_steps=20, seeds=(0, 3), **TINY, **SMALL
    )


def test_own_arrays_and_environment(trained: dtql_jax.Trained, tmp_path: Path) -> None:
    assert trained.seeds == [0, 3] and trained.info is None
    score = trained.evaluate(episodes=4)
    assert score.name == "return" and score.values.shape == (2, 4)
    assert (score.lengths == 20).all()
    np.testing.assert_allclose(score.mean, score.returns.mean())
    np.testing.assert_allclose(score.standard_error, score.values.std(ddof=1) / np.sqrt(8))
    # the bound comes from the environment, not from a default
    assert trained._max_action == 2.0
    actions = trained.act(np.zeros((200, 2)), seed=1)
    assert actions.shape == (200, 1) and 1.0 < np.abs(actions).max() <= 2.0
    assert np.array_equal(trained.act([0.1, 0.2], 5), trained.act([0.1, 0.2], 5))
    trained.save(tmp_path / "policy.zip", member=1)
    policy = dtql_jax.load_policy(tmp_path / "policy.zip")
    assert policy.metadata["seed"] == 3 and policy.metadata["update"] == 30
    observations = np.linspace(-1, 1, 6).reshape(3, 2)
    expected = trained.act(observations, seed=2, member=1)
    np.testing.assert_allclose(policy(observations, 2), expected, atol=2e-6)


def test_the_history_holds_the_metrics(trained: dtql_jax.Trained) -> None:
    losses = trained.history.column("policy_loss")
    assert len(losses) == 30 and np.isfinite(losses).all()
    assert {row["seed"] for row in trained.history.rows} == {0, 3}
    with pytest.raises(UserError, match="no metric 'policy_los'"):
        trained.history.column("policy_los")


def test_rewards_are_scaled_and_shifted() -> None:
    """Reward-weighted regression sees them: large ones make its weights one-sided."""
    data = own.record(64)._replace(actions=np.full((64, 1), 0.5))
    losses = []
    for scale in (1.0, 0.0):
        algorithm = own_algorithm.reward_weighted_regression(width=8)
        run = dtql_jax.train(
            data, algorithm=algorithm, reward_scale=scale, reward_shift=2.0, **TINY | {"steps": 1}
        )
        losses.append(run.history.column("policy_loss")[0])
    assert losses[0] != losses[1]
    with pytest.raises(UserError, match="no environment is known"):
        run.evaluate()
    with pytest.raises(UserError, match="not your own"):
        dtql_jax.train(data, algorithm=algorithm, settings={"a": 1})


def test_an_own_algorithm_learns() -> None:
    data = own.record(2_000)
    # the best action of a state: towards the target, as the data's weights say
    near = data._replace(rewards=-np.abs(data.actions[:, 0] - 1.5))
    algorithm = own_algorithm.reward_weighted_regression(
        width=32, temperature=0.05, learning_rate=3e-3, max_action=2.0
    )
    trained = dtql_jax.train(
        near, own.Line, algorithm=algorithm, max_episode_steps=20, **TINY | {"steps": 300}
    )
    np.testing.assert_allclose(trained.act([0.0, 0.0]), [1.5], atol=0.15)


def test_a_file_in_d4rls_layout(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = {"observations": rng.normal(size=(9, 2)), "actions": rng.uniform(-1, 1, (9, 1))}
    rows |= {"rewards": np.arange(9.0), "terminals": np.arange(9) == 3}
    with h5py.File(tmp_path / "mine.hdf5", "w") as file:
        for name, array in (rows | {"timeouts": np.arange(9) == 6}).items():
            file[name] = array
    arrays, info, spec = read_data(tmp_path / "mine.hdf5", None)
    assert info is None and spec is None
    # the row of the timeout and the last one have no next observation
    assert arrays.rewards.tolist() == [0, 1, 2, 3, 4, 5, 7]
    assert arrays.masks.tolist() == [1, 1, 1, 0, 1, 1, 1]
    with pytest.raises(UserError, match="no file"):
        read_data(tmp_path / "absent.hdf5", None)
    with h5py.File(tmp_path / "endless.h5", "w") as file:
        for name, array in (rows | {"terminals": np.zeros(9)}).items():
            file[name] = array
    with pytest.raises(UserError, match="marks no ends"):
        read_data(tmp_path / "endless.h5", None)


def test_a_minari_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    import minari

    place = "examples.own_data_and_environment:Line"
    gymnasium.register("OwnLine-v0", place, max_episode_steps=20)
    env = minari.DataCollector(gymnasium.make("OwnLine-v0"))
    env.action_space.seed(0)
    for seed in range(3):
        env.reset(seed=seed)
        for _ in range(20):
            env.step(env.action_space.sample())
    env.create_dataset("me/line-v0", algorithm_name="none", author="me", author_email="me")
    arrays, _, spec = read_data("me/line-v0", None)
    assert arrays.observations.shape == (60, 2) and (arrays.masks == 1).all()
    assert spec == EnvSpec("OwnLine-v0", 20)
    assert np.abs(arrays.actions).max() > 1.0  # not clipped to another task's bounds
    trained = dtql_jax.train("me/line-v0", **TINY, **SMALL)
    assert trained.evaluate(episodes=2).lengths.tolist() == [[20, 20]]


@pytest.mark.parametrize("task", TASKS)
def test_a_task_means_what_the_command_means(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration that reaches the data is the one that reaches the command's run."""

    class Reached(Exception):
        """Ends the training before it reads data."""

    def reach(config: Any, *_: Any, **__: Any) -> None:
        raise Reached(config if isinstance(config, dict) else config.to_dict())

    monkeypatch.setattr(parts, "load_data", reach)
    monkeypatch.setattr(runner, "start", reach)
    line = make_line("train", f"ENV={task}")
    assert line[:4] == [".venv/bin/python", "-m", "dtql_jax", "train"]
    before = set(flags.FLAGS)
    monkeypatch.setattr("sys.argv", ["dtql-jax"])
    try:
        with pytest.raises(Reached) as command:
            main(line[3:])
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()
    with pytest.raises(Reached) as python:
        dtql_jax.train(task, quiet=True)
    assert python.value.args == command.value.args
    assert python.value.args[0]["task"] == task


def test_single_arguments_change_the_preset() -> None:
    preset = configuration("antmaze-umaze")
    changed = configuration(
        "antmaze-umaze",
        settings={"alpha": 7.0},
        steps=np.int64(70),
        batch_size=7,
        transitions=700,
        d4rl_dir=Path("a/b"),
    )
    found = {k: v for k, v in changed.items() if v != preset[k] and k != "algorithm"}
    assert found == {
        "train_steps": 70,
        "batch_size": 7,
        "data_transitions": 700,
        "d4rl_dir": "a/b",
    }
    assert changed["algorithm"] == preset["algorithm"] | {"alpha": 7.0}
    assert configuration("antmaze-umaze", "quick")["train_steps"] == 10_000
    own_one = configuration("antmaze-umaze", algorithm=own_algorithm.reward_weighted_regression())
    assert own_one["pretrain_steps"] == 0 and own_one["batch_size"] == 2048


def test_one_line_names_the_preset(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(parts, "load_data", stop)
    with pytest.raises(KeyboardInterrupt):
        dtql_jax.train("antmaze-umaze", steps=7, settings={"alpha": 2.0})
    expected = "dtql on antmaze-umaze: preset paper, changed: steps, alpha"
    assert expected in capsys.readouterr().err.splitlines()


def mapping(**changes: Any) -> dict[str, Any]:
    fields = own.record(40)._asdict() | changes
    return {name: value for name, value in fields.items() if value is not None}


@pytest.mark.parametrize(
    ("data", "arguments", "expected"),
    [
        (mapping(rewards=None), {}, "the data lacks rewards"),
        (mapping(rewards=np.zeros(39)), {}, r"have shape \(40, 2\); expected \(39, any\)"),
        (mapping(rewards=np.full(40, np.nan)), {}, "rewards"),
        (mapping(masks=np.full(40, 0.5)), {}, "masks"),
        (mapping(actions=[["a"]] * 40), {}, "cannot be read as float32"),
        (mapping(rewards=np.zeros(0)), {}, "empty"),
        (mapping(), {}, "actions reach 1.9.*beyond the bound 1"),
        (mapping(), {"env": "NoSuch-v0"}, "unknown environment id"),
        (mapping(), {"env": 3}, "expected a Gymnasium id"),
        (mapping(), {"env": own.Line}, "has no time limit"),
        ("pointmaze-umze", {}, "did you mean pointmaze-umaze"),
        ("antmaze-umaze", {"preset": "slow"}, "no preset 'slow'; known: paper, quick"),
        ("antmaze-umaze", {"steps": 0}, "^steps is 0; expected at least 1"),
        ("antmaze-umaze", {"batch_size": "many"}, "^batch_size is 'many'; expected int"),
        ("antmaze-umaze", {"transitions": -1}, "^transitions is -1; expected at least 0"),
        ("antmaze-umaze", {"batchsize": 3}, "no argument 'batchsize'.*did you mean batch_size"),
        ("antmaze-umaze", {"settings": {"alhpa": 3.0}}, "did you mean alpha"),
        (mapping(), {"source": "minari"}, "no argument 'source' for own data"),
        (mapping(), {"algorithm": "dtlq", "settings": {"max_action": 2.0}}, "did you mean dtql"),
    ],
)
def test_wrong_input_is_named(data: Any, arguments: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected) as raised:
        dtql_jax.train(data, **TINY | arguments)
    assert "\n" not in str(raised.value)


def test_an_action_space_of_another_form() -> None:
    gymnasium.register("OwnUneven-v0", Uneven, max_episode_steps=5)
    with pytest.raises(UserError, match="expected a Box from -b to b"):
        bound_of(EnvSpec("OwnUneven-v0", 5))


class Uneven(own.Line):
    """Its bounds are not the same on both sides."""

    action_space = gymnasium.spaces.Box(-1.0, 2.0, (1,), np.float32)
