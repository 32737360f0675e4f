"""What a run watches: numbers that stop being finite, and numbers that grow without bound."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dtql_jax.training.population import state_parts

# The terms of a training step in the order in which one spoils the next; within a term, sums of
# other metrics come last, because what they are made of says more.
TERMS: dict[str, tuple[str, ...]] = {
    "critic": ("td_loss", "value_loss", "q_data", "v_data", "critic_grad_norm", "critic_loss"),
    "denoising": ("denoising_loss", "bc_loss", "fake_denoising_loss"),
    "trust region": ("trust_region_loss",),
    "NLL": ("nll_loss",),
    "policy": (
        "advantage_weight",
        "distillation_loss",
        "policy_std",
        "q_loss",
        "policy_loss",
        "actor_loss",
        "actor_grad_norm",
    ),
}
_VALUES = ("q_data", "v_data")  # in units of the discounted reward
_BEYOND = 10.0  # times the largest value that rewards allow
_HUGE = 1e15  # float32 ends at 3e38, squares of such numbers near it

_ORDER = [metric for metrics in TERMS.values() for metric in metrics]
_TERM = {metric: term for term, metrics in TERMS.items() for metric in metrics}


class Divergence(NamedTuple):
    """Where a member's numbers stopped being finite; its state is the last finite one."""

    update: int  # number of the update, from 0
    metric: str  # what was not finite first; "gradient of NAME" where no metric shows it


def term_of(metric: str) -> str:
    """The term of the training step that a metric belongs to; "" where it is not known.

    >>> term_of("trust_region_loss"), term_of("my_loss")
    ('trust region', '')
    """
    return _TERM.get(metric, "")


def largest_value(rewards: np.ndarray, config: Any) -> float | None:
    """The largest |Q| that rewards [N] allow: max |r| / (1 - discount), over all members.

    None where the `config` of the members' states has no discount below 1.
    """
    discount = np.asarray(getattr(config, "discount", 1.0))
    if not (discount < 1.0).all():
        return None
    return float(np.abs(rewards).max() / (1.0 - discount.max()))


class DivergenceMonitor:
    """Looks at what the updates of P members report, and says once what is wrong.

    Attributes:
      diverged: by member, those whose numbers are no longer finite.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        metrics: Sequence[str],
        state: Any,
        largest: float | None,
        warn: Callable[[str], None],
    ) -> None:
        """Watches from the first update on.

        Args:
          seeds: of the members.
          metrics: names of the M metrics, in the order of the tally.
          state: of the members or of one; its parts' names are used.
          largest: of `largest_value`.
          warn: receives one line.
        """
        self.diverged: dict[int, Divergence] = {}
        self._seeds, self._metrics, self._warn = list(seeds), list(metrics), warn
        self._parts = list(state_parts(state))
        self._largest = largest
        self._grown: set[str] = set()

    def look(self, broken: np.ndarray) -> None:
        """Finds the members that are new among the diverged in a tally's `broken` [P, M]."""
        for member in map(int, np.flatnonzero((broken != -1).any(axis=1))):
            if member in self.diverged:
                continue
            found = self.diverged[member] = self._first(broken[member])
            term = term_of(found.metric)
            self._warn(
                f"{self._who(member)}{found.metric}{f' ({term})' if term else ''} is not finite at "
                f"update {found.update:,}; {'frozen' if len(self._seeds) > 1 else 'stopped'} at "
                "the state before"
            )

    def check_growth(self, update: int, means: Mapping[str, np.ndarray]) -> None:
        """Warns, once a metric, of means ([P] each) that grow towards the end of float32."""
        for name, values in means.items():
            sizes = np.abs(np.where(np.isfinite(values), values, 0.0))
            member = int(sizes.argmax())
            limit, why = _HUGE, "float32 ends at 3e38"
            if name in _VALUES and self._largest is not None and self._largest > 0:
                limit = _BEYOND * self._largest
                why = f"the rewards allow at most {self._largest:.3g}"
            if sizes[member] <= limit or name in self._grown:
                continue
            self._grown.add(name)
            self._warn(
                f"{self._who(member)}{name} has grown to {values[member]:.3g} at update "
                f"{update:,} ({why}); it will overflow if it goes on: a smaller learning rate or "
                "discount may help"
            )

    def _first(self, broken: np.ndarray) -> Divergence:
        """What was not finite first, in the cause's order where several were."""
        if (broken < -1).any():
            place = int(np.flatnonzero(broken < -1)[0])
            return Divergence(-int(broken[place]) - 2, f"gradient of {self._parts[place]}")
        update = int(broken[broken >= 0].min())
        at = [name for name, k in zip(self._metrics, broken, strict=True) if k == update]
        return Divergence(update, min(at, key=_place))

    def _who(self, member: int) -> str:
        return "" if len(self._seeds) == 1 else f"member {member} (seed {self._seeds[member]}): "


def _place(metric: str) -> int:
    return _ORDER.index(metric) if metric in _ORDER else len(_ORDER)
