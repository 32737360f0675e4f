"""One evaluation from its parts, each of some members."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dtql_jax.evaluation.rollout import EvaluationResult


def joined(parts: Sequence[EvaluationResult]) -> EvaluationResult:
    """The evaluation of all members, from those of [P_1], [P_2], ... in order.

    The parts ran side by side: the times are the longest of theirs.
    """
    if len(parts) == 1:
        return parts[0]
    firsts = np.cumsum([0, *(len(part.returns) for part in parts)])
    successes = [part.successes for part in parts if part.successes is not None]
    return EvaluationResult(
        returns=np.concatenate([part.returns for part in parts]),
        lengths=np.concatenate([part.lengths for part in parts]),
        successes=np.concatenate(successes) if successes else None,
        nonfinite_actions=np.concatenate([part.nonfinite_actions for part in parts]),
        seconds=max(part.seconds for part in parts),
        policy_seconds=max(part.policy_seconds for part in parts),
        env_steps=sum(part.env_steps for part in parts),
        trajectories=tuple(
            dataclasses.replace(episode, member=int(first) + episode.member)
            for first, part in zip(firsts, parts, strict=False)
            for episode in part.trajectories
        ),
    )
