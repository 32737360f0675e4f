"""Evaluation against its definition: episodes, quotas, and the policy's arguments."""

import numpy as np
import pytest

from dtql_jax.envs.spec import EnvSpec
from dtql_jax.errors import UserError
from dtql_jax.evaluation.rollout import (
    Evaluator,
    arrange,
    batch_widths,
    episode_seed,
    evaluate,
)

EPISODES = 11
SEEDS = [3, 8]


@pytest.fixture
def paths(play, drive, car):
    return play(drive, car, SEEDS, EPISODES)


def assert_same(result, paths):
    for (member, episode), (_, rewards) in paths.items():
        assert result.lengths[member, episode] == len(rewards)
        np.testing.assert_allclose(result.returns[member, episode], rewards.sum(), rtol=1e-12)
        assert result.successes[member, episode] == (rewards > 0).any()
    for path in result.trajectories:
        seen, _ = paths[path.member, path.episode]
        np.testing.assert_array_equal(path.observations, seen)


@pytest.mark.parametrize(
    ("num_envs", "workers"), [(1, 0), (3, 0), (7, 0), (100, 0), (3, 2), (7, 2), (2, 5)]
)
def test_results_do_not_depend_on_environments_and_workers(paths, drive, car, num_envs, workers):
    result = evaluate(
        drive, car, seeds=SEEDS, episodes=EPISODES, num_envs=num_envs, workers=workers, record=3
    )
    assert_same(result, paths)
    # both ends of an episode are tested
    assert 0 < result.successes.mean() < 1
    assert result.lengths.max() == 42 > result.lengths.min()
    assert result.env_steps == sum(len(rewards) for _, rewards in paths.values())
    recorded = [(path.member, path.episode) for path in result.trajectories]
    assert recorded == [(member, episode) for member in (0, 1) for episode in (0, 1, 2)]
    assert all(len(p.actions) == len(p.observations) - 1 for p in result.trajectories)


def test_a_member_does_not_depend_on_the_others(paths, drive, car):
    result = evaluate(drive, car, seeds=SEEDS[1:], episodes=EPISODES, num_envs=4, workers=0)
    assert_same(result, {(0, e): path for (p, e), path in paths.items() if p == 1})


def test_one_evaluator_serves_several_runs(paths, drive, car):
    with Evaluator(car, SEEDS, num_envs=4, workers=2) as evaluator:
        assert evaluator.worker_pids == []
        evaluator.run(drive, 2)
        pids = evaluator.worker_pids
        for _ in range(2):
            assert_same(evaluator.run(drive, EPISODES), paths)
        assert evaluator.worker_pids == pids and len(pids) == 2


def test_policy_sees_each_step_of_each_episode_once_and_few_shapes(drive, car):
    calls, shapes = [], set()

    def policy(observations, episodes, steps):
        assert observations.dtype == np.float32
        assert episodes.dtype == steps.dtype == np.int32
        shapes.add(observations.shape)
        for member in range(len(SEEDS)):
            rows = zip(episodes[member], steps[member], strict=True)
            calls.extend((member, int(e), int(s)) for e, s in set(rows))
        return drive(observations, episodes, steps)

    result = evaluate(policy, car, seeds=SEEDS, episodes=30, num_envs=16, workers=0)
    played = [call for call in calls if call[1] < 30]
    expected = [
        (member, episode, step)
        for member in range(2)
        for episode in range(30)
        for step in range(result.lengths[member, episode])
    ]
    assert sorted(set(played)) == expected
    assert {shape[1] for shape in shapes} <= set(batch_widths(16)) == {1, 2, 4, 8, 16}


def test_finished_environments_leave_the_batch_and_padding_repeats_an_active_row():
    active = np.array([1, 2, 5, 16])  # members 0, 0, 0 and 2 of 8 environments each
    layout = arrange(active, members=3, num_envs=8, widths=batch_widths(8))
    assert layout.slots.tolist() == [[1, 2, 5, 1], [8] * 4, [16] * 4]
    np.testing.assert_array_equal(layout.slots[layout.member, layout.column], active)


def test_nonfinite_actions_are_counted_and_other_members_are_unaffected(paths, drive, car):
    def policy(observations, episodes, steps):
        actions = drive(observations, episodes, steps)
        actions[1] = np.nan
        return actions

    result = evaluate(
        policy, car, seeds=SEEDS, episodes=EPISODES, num_envs=4, workers=0, record=EPISODES
    )
    assert result.nonfinite_actions.tolist() == [0, result.lengths[1].sum()]
    for path in result.trajectories:
        if path.member == 0:
            np.testing.assert_array_equal(path.observations, paths[0, path.episode][0])
        else:
            assert not path.actions.any()


def test_actions_are_clipped_to_the_action_space(drive, car):
    recorded = evaluate(
        lambda *rows: 50 * drive(*rows), car, seeds=[0], episodes=2, workers=0, record=2
    ).trajectories
    actions = np.concatenate([path.actions for path in recorded])
    assert actions.min() == -1 and actions.max() == 1


def test_every_episode_starts_from_a_seed_of_its_own():
    seeds = {episode_seed(member, episode) for member in range(20) for episode in range(100)}
    assert len(seeds) == 2000 and min(seeds) >= 0 and max(seeds) < 2**32


def test_progress_counts_to_the_end(drive, car):
    told = []
    evaluate(
        drive, car, seeds=SEEDS, episodes=5, num_envs=2, workers=0,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    done = [number for number, _ in told]
    assert done == sorted(set(done)) and told[-1] == (10, 10)
    assert {total for _, total in told} == {10}


def test_environments_without_success_report_none(drive):
    spec = EnvSpec("MountainCarContinuous-v0", 5)
    assert evaluate(drive, spec, seeds=[0], episodes=2, workers=0).successes is None


def test_a_policy_of_another_shape_is_refused_and_the_evaluator_stays_usable(paths, drive, car):
    with Evaluator(car, SEEDS, num_envs=3, workers=1) as evaluator:
        with pytest.raises(ValueError, match=r"actions are \(2, 3, 2\); expected \(2, 3, 1\)"):
            evaluator.run(lambda *rows: np.repeat(drive(*rows), 2, axis=-1), 4)
        assert evaluator.worker_pids == []
        assert_same(evaluator.run(drive, EPISODES), paths)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"seeds": []}, "seeds"),
        ({"seeds": [-1]}, "seeds"),
        ({"seeds": [0.5]}, "seeds"),
        ({"num_envs": 0}, "num_envs is 0"),
        ({"workers": -1}, "workers is -1"),
        ({"episodes": 0}, "episodes is 0"),
        ({"record": -1}, "record is -1"),
        ({"spec": EnvSpec("CartPole-v1", 5)}, "expected a Box"),
    ],
)
def test_wrong_arguments_are_named(drive, car, changed, words):
    arguments = {"spec": car, "seeds": [0], "episodes": 1, "workers": 0} | changed
    with pytest.raises(UserError, match=words):
        evaluate(drive, **arguments)


def test_cheap_environments_get_no_workers_unasked(drive, car):
    with Evaluator(car, [0], num_envs=10) as evaluator:
        assert evaluator.workers == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_mujoco_episodes_do_not_depend_on_what_their_environment_played_before(play, workers):
    spec = EnvSpec(
        "PointMaze_UMaze-v3",
        60,
        kwargs={"continuing_task": False},
        observation_keys=("observation", "desired_goal"),
        success="reward",
    )

    def policy(observations, episodes, steps):
        # Into walls and out again: contacts are where a simulator keeps a memory.
        angle = 0.1 * steps + episodes
        return np.stack([np.cos(angle), np.sin(angle)], axis=-1).astype(np.float32)

    paths = play(policy, spec, SEEDS, 5)
    result = evaluate(policy, spec, seeds=SEEDS, episodes=5, num_envs=2, workers=workers, record=5)
    assert_same(result, paths)
    assert len(result.trajectories) == 10
