"""Settings of the training loop, and its schedule: when to log, evaluate and save."""

import dataclasses

from dtql_jax.errors import UserError

_MOST = 2**31


@dataclasses.dataclass(frozen=True)
class TrainerConfig:
    """The loop's settings, in updates unless another unit is named."""

    batch_size: int = 256  # transitions
    pretrain_steps: int = 50_000
    train_steps: int = 1_000_000
    updates_per_call: int = 100  # length of one compiled scan; Ctrl-C waits for its end
    log_every: int = 1_000  # metrics are means over this many updates
    eval_every: int = 50_000  # training steps; the end is always evaluated
    checkpoint_every: int = 50_000  # and before each evaluation, and at the end of pretraining

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name == "pretrain_steps" else 1
            if not isinstance(value, int) or value < least:
                raise UserError(f"{field.name} is {value!r}; expected an integer >= {least}")
        # updates are counted in 32 bits on the device
        for name, value in (("batch_size", self.batch_size), ("updates", self.total)):
            if value >= _MOST:
                raise UserError(f"{name} are {value:,}; expected less than {_MOST:,}")

    @property
    def total(self) -> int:
        """Updates of the whole run."""
        return self.pretrain_steps + self.train_steps

    def phase(self, update: int) -> tuple[str, int, int]:
        """(name, first update, length) of the phase that `update` belongs to."""
        if update < self.pretrain_steps:
            return "pretrain", 0, self.pretrain_steps
        return "train", self.pretrain_steps, self.train_steps

    def boundary(self, update: int) -> int:
        """The next update after `update` at which the host has something to do."""
        _, first, length = self.phase(update)
        step = update - first
        ends = [length, *((step // n + 1) * n for n in (self.log_every, self.checkpoint_every))]
        if update >= self.pretrain_steps:
            ends.append((step // self.eval_every + 1) * self.eval_every)
        return first + min(ends)

    def evaluates_at(self, update: int) -> bool:
        """Whether the policy is evaluated after `update` updates."""
        step = update - self.pretrain_steps
        return step > 0 and (step % self.eval_every == 0 or step == self.train_steps)

    def checkpoints_at(self, update: int) -> bool:
        """Whether a checkpoint is due after `update` updates."""
        _, first, _ = self.phase(update)
        due = update > first and (update - first) % self.checkpoint_every == 0
        return due or update in (self.pretrain_steps, self.total) or self.evaluates_at(update)
