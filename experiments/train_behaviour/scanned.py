"""sbx-rl's PPO with all minibatches of an update in one compiled program.

The minibatches are small, so that one call for each takes several times longer than computing
it. What is computed is sbx-rl's own.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np
from flax.training.train_state import TrainState
from sbx import PPO


class ScannedPPO(PPO):
    """PPO without its log of losses."""

    def train(self) -> None:
        """Makes the updates of one rollout."""
        left = self._current_progress_remaining
        actor, critic = self.policy.actor_state, self.policy.vf_state
        self._update_learning_rate(
            [actor.opt_state[1], critic.opt_state[1]], self.lr_schedule(left)
        )
        (rows,) = self.rollout_buffer.get(None)
        data = {
            name: getattr(rows, name).numpy()
            for name in ("observations", "actions", "advantages", "returns", "old_log_prob")
        }
        size = len(data["returns"])
        orders = np.stack([np.random.permutation(size) for _ in range(self.n_epochs)])
        batches = orders.reshape(-1, self.batch_size)
        self.policy.actor_state, self.policy.vf_state = _updates(
            actor,
            critic,
            data,
            batches,
            self.clip_range_schedule(left),
            self.ent_coef,
            self.vf_coef,
        )


@partial(jax.jit, donate_argnums=(0, 1))
def _updates(
    actor: TrainState,
    critic: TrainState,
    data: dict[str, jax.Array],
    batches: jax.Array,
    clip_range: float,
    entropy: float,
    value: float,
) -> tuple[TrainState, TrainState]:
    def one(states: tuple[TrainState, TrainState], batch: jax.Array) -> tuple[Any, None]:
        rows = {name: array[batch] for name, array in data.items()}
        states, _ = PPO._one_update(
            *states, **rows, clip_range=clip_range, ent_coef=entropy, vf_coef=value
        )
        return states, None

    return jax.lax.scan(one, (actor, critic), batches)[0]
