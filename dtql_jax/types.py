"""The data types that every part of the library shares."""

from typing import NamedTuple, TypeAlias

import jax
import numpy as np

Array: TypeAlias = jax.Array | np.ndarray


class Transition(NamedTuple):
    """A batch of transitions, or a whole dataset of them: float32 throughout.

    Attributes:
      observations: [B, O], in the units of the environment; not normalised.
      actions: [B, A], within the action space (the loaders clip and count).
      next_observations: [B, O], always of the same episode as `observations`.
      rewards: [B], as the dataset has them; a task's reward transform is applied
        by `datasets.transitions.transform_rewards`.
      masks: [B], 0 where the task ended at this transition (nothing to bootstrap
        from), 1 elsewhere. An episode that ran out of time has mask 1.
    """

    observations: Array
    actions: Array
    next_observations: Array
    rewards: Array
    masks: Array
