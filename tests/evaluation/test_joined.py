"""One evaluation from its parts."""

import numpy as np

from dtql_jax.evaluation.joined import joined
from dtql_jax.evaluation.rollout import EvaluationResult, Trajectory


def part(members: int, value: float, successes: bool) -> EvaluationResult:
    shape = (members, 2)
    return EvaluationResult(
        returns=np.full(shape, value),
        lengths=np.full(shape, 7, np.int32),
        successes=np.full(shape, True) if successes else None,
        nonfinite_actions=np.full(members, int(value)),
        seconds=value,
        policy_seconds=value / 2,
        env_steps=14 * members,
        trajectories=(Trajectory(members - 1, 0, np.zeros((2, 3)), np.zeros((1, 1))),),
    )


def test_members_follow_each_other() -> None:
    whole = joined([part(2, 1.0, True), part(1, 5.0, True)])
    assert whole.returns.tolist() == [[1.0, 1.0], [1.0, 1.0], [5.0, 5.0]]
    assert whole.lengths.shape == whole.successes.shape == (3, 2)
    assert whole.nonfinite_actions.tolist() == [1, 1, 5]
    assert (whole.seconds, whole.policy_seconds, whole.env_steps) == (5.0, 2.5, 42)
    assert [episode.member for episode in whole.trajectories] == [1, 2]
    assert joined([part(1, 1.0, False), part(1, 2.0, False)]).successes is None
