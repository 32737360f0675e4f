"""Fine-tuning: transitions by the dataset's rules, no new data is plain training, the command."""

import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from dtql_jax.commands import runner
from dtql_jax.envs.make import make_env
from dtql_jax.envs.spec import EnvSpec
from dtql_jax.errors import UserError
from dtql_jax.types import Transition
from experiments import study
from experiments.finetune import __main__ as finetune
from experiments.finetune import curves
from experiments.finetune import settings as finetune_config
from experiments.finetune.arms import ARMS, Learner
from experiments.finetune.collecting import Collector
from tests.commands.commands import SMALL
from tests.commands.commands import call as call_package
from tests.commands.small_run import info_of, small_config
from tests.experiments.commands import call


def data_of(observation_dim: int, action_dim: int) -> Transition:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(30, observation_dim)).astype(np.float32)
    actions = rng.uniform(-0.9, 0.9, (30, action_dim)).astype(np.float32)
    rewards, masks = (rng.normal(size=30) > 0).astype(np.float32), np.ones(30, np.float32)
    return Transition(rows, actions, rows[::-1].copy(), rewards, masks)


def test_without_new_data_it_is_a_longer_offline_run() -> None:
    config = small_config("pointmaze-umaze", "dtql", seeds=2)
    data = data_of(6, 2)
    short = runner.make_trainer(config, data)
    short.run()
    long = runner.make_trainer(config | {"train_steps": config["train_steps"] + 6}, data)
    long.run()
    for arm in (ARMS["offline"], ARMS["uniform"]):  # of an empty buffer
        learner = Learner(arm, short, data, config["batch_size"], 4)
        for start in (0, 3):
            learner.update(short.update + start, 3)
        # the leaves: the static length of the cosine decay differs, and is not used
        for a, b in zip(*map(jax.tree.leaves, (learner.state, long.state)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        assert learner.diverged == []
        means = learner.means(6)
        assert set(means) >= {"td_loss", "policy_loss"} and means["td_loss"].shape == (2,)
    with pytest.raises(AssertionError):
        for a, b in zip(*map(jax.tree.leaves, (short.state, long.state)), strict=True):
            np.testing.assert_array_equal(a, b)


def test_new_transitions_change_what_is_learnt() -> None:
    config = small_config("pointmaze-umaze", "dtql")
    data = data_of(6, 2)
    fit = runner.make_trainer(config, data)
    states = []
    for number in (0, 2):
        learner = Learner(ARMS["symmetric"], fit, data, 8, 4)
        if number:
            learner.add(Transition(*(x[None, :2] + 1 for x in data)))
        learner.update(0, 2)
        states.append(jax.tree.leaves(learner.state.value.params))
    assert not all(np.array_equal(a, b) for a, b in zip(*states, strict=True))


def test_collecting_draws_other_actions_than_an_evaluation() -> None:
    fit = runner.make_trainer(small_config("pointmaze-umaze", "dtql", seeds=2), data_of(6, 2))
    learner = Learner(ARMS["symmetric"], fit, data_of(6, 2), 8, 4)
    rows = np.ones((2, 3, 6), np.float32), *[np.zeros((2, 3), np.int32)] * 2
    for _ in range(2):
        evaluated = learner.policy()(*rows)
        trained = fit.policy(fit.placement.put(learner.state))(*rows)
        np.testing.assert_allclose(evaluated, trained, atol=1e-6)
        assert not np.allclose(evaluated, learner.policy(collecting=True)(*rows))
        learner.update(0, 2)


def first_observation(env: Any, seed: int, episode: int) -> np.ndarray:
    words = np.random.SeedSequence([seed, episode, 1])
    return env.reset(seed=int(words.generate_state(1)[0]))[0]


def test_collected_transitions_follow_the_rules_of_the_data() -> None:
    spec = info_of("pointmaze-umaze").env
    rng = np.random.default_rng(1)
    actions = rng.uniform(-1.5, 1.5, (2, 350, 1, 2)).astype(np.float32)
    asked: list[tuple[np.ndarray, np.ndarray]] = []

    def policy(observations: np.ndarray, episodes: np.ndarray, steps: np.ndarray) -> np.ndarray:
        asked.append((episodes[:, 0].copy(), steps[:, 0].copy()))
        return actions[:, len(asked) - 1]

    collector = Collector(spec, [5, 6], 2.0, -1.0)
    parts = [collector.collect(policy, number) for number in (100, 250)]
    found = Transition(*(np.concatenate(x, axis=1) for x in zip(*parts, strict=True)))
    assert found.observations.shape == (2, 350, 6) and found.masks.shape == (2, 350)
    np.testing.assert_array_equal(found.actions, np.clip(actions[:, :, 0], -1, 1))
    for member, seed in enumerate((5, 6)):
        # the same course in an environment by hand
        env = make_env(spec)
        episode = step = 0
        observation = first_observation(env, seed, 0)
        for t in range(350):
            assert (asked[t][0][member], asked[t][1][member]) == (episode, step)
            np.testing.assert_array_equal(found.observations[member, t], observation)
            observation, reward, terminated, truncated, _ = env.step(found.actions[member, t])
            np.testing.assert_array_equal(found.next_observations[member, t], observation)
            assert found.rewards[member, t] == 2.0 * reward - 1.0
            assert found.masks[member, t] == (0.0 if terminated or reward > 0 else 1.0)
            step += 1
            if terminated or truncated:
                episode, step = episode + 1, 0
                observation = first_observation(env, seed, episode)
        assert episode >= 1 and collector.episodes[member] == episode
        env.close()
    assert collector.steps == 350


def test_running_out_of_time_is_no_end() -> None:
    spec = EnvSpec("Hopper-v4", 3)
    collector = Collector(spec, [0], 1.0, 0.0)
    found = collector.collect(lambda *rows: np.zeros((1, 1, 3), np.float32), 7)
    np.testing.assert_array_equal(found.masks, np.ones((1, 7)))
    assert collector.episodes.tolist() == [2]
    assert not np.array_equal(found.next_observations[0, 2], found.observations[0, 3])
    np.testing.assert_array_equal(found.next_observations[0, 3], found.observations[0, 4])


def test_the_table_by_hand() -> None:
    shared = {"steps": [0, 10, 30], "title": "t", "episodes": [2, 3], "successes": [1, 0]}
    shared |= {"diverged": [], "seconds": 1.0, "env_steps": 30}
    arms = [
        shared | {"arm": "symmetric", "scores": [[0, 20], [20, 40], [60, 80]]},
        shared | {"arm": "offline", "scores": [[0, 20], [10, 30], [30, 40]], "env_steps": 0},
    ]
    first, second = curves.rows_of(arms, goals=True)
    assert first["before"] == pytest.approx((10.0, 10.0))  # deviation sqrt(200) over sqrt(2)
    assert first["after"] == pytest.approx((70.0, 10.0))
    # trapezoids: (10 * 10 + 20 * 40) / 30 and (10 * 30 + 20 * 60) / 30
    assert first["curve"] == pytest.approx((40.0, 10.0))
    assert first["against_offline"] == pytest.approx((35.0, 5.0))
    assert second["against_offline"] is None
    assert (first["collected_successes"], first["collected_episodes"]) == (1, 5)
    text = study.table(curves.COLUMNS, [first, second])
    cells = [cell.strip() for cell in text.splitlines()[2].split("|")]
    assert {"70.0 ± 10.0", "+35.0 ± 5.0", "1 of 5 episodes"} <= set(cells)
    assert len(text.splitlines()) == 4


def test_wrong_settings_are_named() -> None:
    settings = finetune_config.get_config().to_dict()
    assert finetune.check(settings) == ["symmetric", "uniform", "offline", "scratch"]
    for changed, said in (
        ({"arms": "symetric"}, "did you mean symmetric"),
        ({"steps": 0}, "steps is 0; expected at least 1"),
        ({"capacity": 100}, "expected at least the warmup_steps"),
    ):
        with pytest.raises(UserError, match=said):
            finetune.check(settings | changed)


@pytest.mark.slow
def test_the_whole_command(environment: dict[str, str], tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "tuned"
    ended = call_package("train", f"--out={run}", "--seeds=3", *SMALL, environment=environment)
    assert ended.returncode == 0, ended.stderr
    arguments = [
        f"--run={run}",
        f"--out={out}",
        "--steps=20",
        "--config.warmup_steps=30",
        "--config.eval_every=10",
        "--config.eval_episodes=2",
    ]
    ended = call("finetune", *arguments, environment=environment)
    assert ended.returncode == 0, ended.stderr
    rows = json.loads((out / "table.json").read_text())["rows"]
    assert [row["arm"] for row in rows] == list(ARMS)
    assert [row["env_steps"] for row in rows] == [50, 50, 0, 50]
    assert rows[0]["before"] == rows[1]["before"] == rows[2]["before"]
    for name in ("finetune.png", "table.md", "run.json"):
        assert (out / name).stat().st_size > 0
    # a killed arm starts again, a finished one does not
    (out / "uniform" / "arm.json").unlink()
    before = os.stat(out / "symmetric" / "arm.json").st_mtime_ns
    ended = call("finetune", *arguments, environment=environment)
    assert ended.returncode == 0, ended.stderr
    assert os.stat(out / "symmetric" / "arm.json").st_mtime_ns == before
    again = json.loads((out / "table.json").read_text())["rows"]
    assert [row["scores_by_seed"] for row in again] == [row["scores_by_seed"] for row in rows]
    # an arm is a run like others
    run_of_arm = f"--run={out / 'symmetric'}"
    ended = call_package("evaluate", run_of_arm, "--episodes=2", environment=environment)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["score_by_seed"] == rows[0]["scores_by_seed"]
    ended = call_package("export", run_of_arm, "--member=2", environment=environment)
    assert ended.returncode == 0 and (out / "symmetric" / "policy.zip").exists(), ended.stderr
    # other settings need another folder
    ended = call("finetune", *arguments, "--steps=21", environment=environment)
    assert ended.returncode == 2 and "another settings" in ended.stderr
