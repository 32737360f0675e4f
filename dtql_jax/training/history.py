"""Training metrics in memory, in place of a run's log files."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dtql_jax.errors import UserError


class History:
    """A log in memory: one dict for each member and each `log_every` updates.

    Attributes:
      rows: [{"update", "phase", "step", "seed", metric: float, ...}].
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.rows: list[dict[str, Any]] = []
        self._seeds = list(seeds)

    def write_metrics(
        self,
        update: int,
        phase: str,
        step: int,
        values: Mapping[str, np.ndarray],
        members: Sequence[int],
    ) -> None:
        """As `MetricsLog.write_metrics`."""
        for i in members:
            head = {"update": update, "phase": phase, "step": step, "seed": self._seeds[i]}
            self.rows.append(head | {name: float(value[i]) for name, value in values.items()})

    def scalar(self, name: str, value: float, update: int) -> None:
        """Ignores measured rates."""

    def close(self) -> None:
        """Does nothing."""

    def column(self, name: str) -> np.ndarray:
        """A metric of the first seed, [rows] without those that lack it; UserError if all do."""
        own = [r[name] for r in self.rows if r["seed"] == self._seeds[0] and name in r]
        if not own:
            known = sorted({key for row in self.rows for key in row})
            raise UserError(f"no metric {name!r}; known: {', '.join(known)}")
        return np.asarray(own)
