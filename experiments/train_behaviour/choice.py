"""Which snapshots of a training are kept, and as what."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# a medium policy has this share of the expert's return
_MEDIUM = 1 / 3
REPLAY_PARTS = 5


def choose_levels(steps: Sequence[int], returns: Sequence[float]) -> dict[str, int]:
    """Chooses levels of skill among the snapshots of one training.

    Args:
      steps: of training, increasing; the first is 0, the untrained policy.
      returns: mean of each snapshot.

    Returns:
      {name: index of the snapshot}: "expert", the best; "medium", before it and nearest to a
      third of its return; "simple", before that and nearest to the middle between the
      untrained and the medium one; "replay-1" and so on, each a fifth of the way to the medium
      one further, which is the last fifth itself.
    """
    values = np.asarray(returns)
    expert = int(values.argmax())
    medium = _nearest(values[: max(expert, 1)], _MEDIUM * values[expert])
    simple = _nearest(values[: max(medium, 1)], (values[0] + values[medium]) / 2)
    chosen = {"expert": expert, "medium": medium, "simple": simple}
    for part in range(1, REPLAY_PARTS):
        way = steps[medium] * part / REPLAY_PARTS
        chosen[f"replay-{part}"] = _nearest(np.asarray(steps), way)
    return chosen


def _nearest(values: np.ndarray, wanted: float) -> int:
    return int(np.abs(values - wanted).argmin())
