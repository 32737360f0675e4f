"""Replays stored runs of the reference programs and compares losses and parameters.

    python tests/replay_reference.py FILE.npz ...

Each file holds initial parameters, batches, every random draw, and what the reference computed from
them. One line a file says the largest errors found: |difference| / max(1, |reference|) for losses,
|difference| for parameters and for the action choice (candidates, their Q, probabilities). Exit
code 0 if all are within 1e-5, 1 if not, 2 if a file cannot be read.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # the script's own folder comes first

from tests.replay import algorithms
from tests.replay.shared import Arrays, Report


def recognise(arrays: Arrays) -> Callable[[Arrays], Report]:
    """Chooses the replay of a file's algorithm by its keys."""
    networks = {"/".join(k.split("/")[:2]) for k in arrays if k.startswith("init/")}
    if "init/fake_diffusion" in networks:
        return algorithms.replay_dql_kl
    if "init/target_actor" in networks and "init/value" in networks:
        return algorithms.replay_idql
    if "init/flow" in networks:
        return algorithms.replay_fql
    if "init/ema_actor" in networks:
        return algorithms.replay_dql
    if "init/diffusion" in networks:
        return algorithms.replay_dtql
    raise ValueError("the keys belong to no known algorithm")


def replay_file(path: str | Path) -> Report:
    """Replays one file; raises ValueError, KeyError or OSError where it cannot be read."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = {k: stored[k] for k in stored.files}
    # the reference computed in full float32; so must every matrix product here (GPUs, TPUs)
    with jax.default_matmul_precision("highest"):
        return recognise(arrays)(arrays)


def main(paths: list[str]) -> int:
    """Prints one line a file; returns the exit code."""
    if not paths or paths[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if paths else 2
    code = 0
    for path in paths:
        try:
            report = replay_file(path)
        except Exception as error:  # a damaged or foreign file may raise any
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"error: {path} is not a replayable file: {reason}", file=sys.stderr)
            code = 2
            continue
        actions = "none" if report.actions is None else f"{report.actions:.1e}"
        verdict = "" if report.passed else "  ABOVE THE TOLERANCE"
        print(
            f"{path} losses={report.losses:.1e} parameters={report.parameters:.1e} "
            f"actions={actions}{verdict}"
        )
        if not report.passed:
            code = max(code, 1)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
