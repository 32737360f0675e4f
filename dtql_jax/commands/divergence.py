"""What is said of members whose numbers stopped being finite."""

from pathlib import Path

from dtql_jax.training.progress import Progress
from dtql_jax.training.trainer import Trainer
from dtql_jax.training.watch import term_of
from dtql_jax.types import Transition


def explain(fit: Trainer, data: Transition, display: Progress) -> None:
    """Names the first operation that was not finite of each diverged member (`--debug`)."""
    from dtql_jax.training import debug

    for member in sorted(fit.diverged):
        display.say(f"member {member} (seed {fit.seeds[member]}): repeating its last updates")
        found = debug.explain(fit, data, member)
        said = "none, one operation at a time all are finite" if found is None else str(found)
        display.warn(
            f"member {member} (seed {fit.seeds[member]}): first operation not finite: {said}"
        )


def last_words(fit: Trainer, path: Path, debugged: bool) -> str:
    """Why a run ends of which no member is left."""
    update, metric = min(fit.diverged.values())
    term = term_of(metric)
    where = "" if debugged else f"; make resume RUN={path} ARGS=--debug names the operation"
    return (
        f"{metric}{f' ({term})' if term else ''} is not finite at update {update:,}, no member is "
        f"left; the last finite state is in {path / 'checkpoints'}; try a smaller learning "
        f"rate{where}"
    )
