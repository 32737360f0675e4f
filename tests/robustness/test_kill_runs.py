"""SIGKILL at random moments of real commands, then `resume`, changes nothing.

The runs are `python -m dtql_jax train` and `resume` with the networks of DTQL, a population of
two, pretraining, the switch to training, evaluations in the simulator and checkpoints.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from dtql_jax.commands import restore
from dtql_jax.training.logging import read_rows
from dtql_jax.training.run_folder import RunFolder
from tests.robustness.commands import NETWORKS, ROOT, end, progress, start, wait

KILLS, PRETRAIN, TRAIN, EVERY, EVALUATE = 21, 1_000, 3_800, 40, 200
SETTINGS = (*NETWORKS, f"--config.pretrain_steps={PRETRAIN}", f"--steps={TRAIN}")

pytestmark = pytest.mark.soak


def during_a_checkpoint(folder: Path) -> bool:
    return any("orbax-checkpoint-tmp" in p.name for p in (folder / "checkpoints").glob("*"))


def during_an_evaluation(folder: Path) -> bool:
    """Whether the rows say that an evaluation is due whose own rows are not there yet."""
    update = progress(folder)
    due = update > PRETRAIN and (update - PRETRAIN) % EVALUATE == 0
    done = {int(row["update"]) for row in read_rows(folder / "evaluations.csv")}
    return due and update not in done


def assert_refused(environment: dict[str, str], folder: Path, process: subprocess.Popen) -> None:
    """That no other command gets into the folder of a process that lives."""
    process.send_signal(signal.SIGSTOP)  # or it would be at its end before they have begun
    try:
        for name, *arguments in (("resume",), ("evaluate", "--episodes=1")):
            second = start(environment, name, f"--run={folder}", "--quiet", *arguments)
            assert "in use by a run that is still alive" in second.communicate()[1]
            assert second.returncode == 2
    finally:
        process.send_signal(signal.SIGCONT)


def parameters(path: Path) -> list[np.ndarray]:
    with RunFolder.open(path) as folder:
        return [np.asarray(leaf) for leaf in jax.tree.leaves(restore.trainer_of(folder).state)]


def test_twenty_kills_of_the_real_commands_leave_the_same_run(
    environment: dict[str, str], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    end(start(environment, "train", f"--out={whole}", *SETTINGS))
    rng, seen = random.Random(0), {"a checkpoint": 0, "an evaluation": 0, "something else": 0}
    kills = 0
    total = PRETRAIN + TRAIN
    process = start(environment, "train", f"--out={killed}", *SETTINGS)
    while kills < KILLS:
        goal = (kills + rng.random()) * total / (KILLS + 1)
        if not wait(process, lambda goal=goal: progress(killed) >= goal):
            break
        moment = ("a checkpoint", "an evaluation", "something else", "something else")[kills % 4]
        if moment == "a checkpoint":
            found = wait(process, lambda: during_a_checkpoint(killed), 30.0)
        elif moment == "an evaluation" and goal > PRETRAIN:
            found = wait(process, lambda: during_an_evaluation(killed), 30.0)
            time.sleep(rng.uniform(0.0, 0.2))
        else:
            moment, found = "something else", True
            time.sleep(rng.uniform(0.0, 0.2))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        seen[moment if found else "something else"] += 1
        process = start(environment, "resume", f"--run={killed}")
        if kills == KILLS // 2:
            # the lock of the dead process does not block, that of the living one does
            row = progress(killed)
            assert wait(process, lambda row=row: progress(killed) > row)
            assert_refused(environment, killed, process)
    end(process)
    record_property("cases", kills)
    record_property("faults", "SIGKILL during " + ", ".join(f"{at}: {n}" for at, n in seen.items()))
    record_property("found", "parameters, metrics, evaluations and episodes bit-identical")
    assert kills >= 20, "the run ended before it was killed often enough"
    assert seen["a checkpoint"] >= 3 and seen["an evaluation"] >= 2
    for name in ("metrics.csv", "evaluations.csv", "episodes.csv"):
        assert (killed / name).read_text() == (whole / name).read_text(), name
    updates = [(row["update"], row["member"]) for row in read_rows(killed / "metrics.csv")]
    assert updates == [(str(k), m) for k in range(EVERY, total + 1, EVERY) for m in "01"]
    for one, two in zip(parameters(whole), parameters(killed), strict=True):
        assert one.dtype == two.dtype and one.tobytes() == two.tobytes()


def test_kills_and_other_numbers_of_devices(
    environment: dict[str, str], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """XLA compiles another program for each number, so results agree to rounding."""
    settings = (*NETWORKS, "--config.pretrain_steps=200", "--steps=600")

    def devices(number: int) -> dict[str, str]:
        return environment | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={number}"}

    whole, killed, kills = tmp_path / "whole", tmp_path / "killed", 0
    end(start(devices(2), "train", f"--out={whole}", *settings))
    process = start(devices(2), "train", f"--out={killed}", *settings)
    for goal, number in ((80, 1), (240, 2), (400, 1), (560, 2)):
        if wait(process, lambda goal=goal: progress(killed) >= goal):
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
        process = start(devices(number), "resume", f"--run={killed}")
    end(process)
    assert kills >= 3
    evaluated = [
        [(row["update"], row["member"]) for row in read_rows(path / "evaluations.csv")]
        for path in (whole, killed)
    ]
    assert evaluated[0] == evaluated[1]
    rows = (read_rows(path / "metrics.csv") for path in (whole, killed))
    for one, two in zip(*rows, strict=True):
        assert one.pop("phase") == two.pop("phase")
        numbers = ({k: float(v) for k, v in row.items() if v} for row in (one, two))
        assert next(numbers) == pytest.approx(next(numbers), rel=1e-4)  # update and member too
    for one, two in zip(parameters(whole), parameters(killed), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4)
    record_property("cases", kills)
    record_property("faults", "SIGKILL, resumed on 1 and 2 devices in turn")
    record_property("found", "no row missing or twice; metrics and parameters equal within 1e-4")


TRANSITIONS = "--transitions=60000"


def fingerprint(environment: dict[str, str]) -> str:
    """Of the data that the command collects."""
    ended = subprocess.run(
        [sys.executable, "-m", "dtql_jax", "data", "--env=pointmaze-umaze", TRANSITIONS],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)["fingerprint"]


def test_kills_of_a_collection_leave_the_same_dataset(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    def machine(name: str) -> dict[str, str]:
        home = tmp_path / name
        own = {"MINARI_DATASETS_PATH": str(home / "minari"), "DTQL_JAX_CACHE": str(home / "cache")}
        return os.environ | own

    whole = fingerprint(machine("whole"))
    killed, kills = machine("killed"), 0
    shards = Path(killed["MINARI_DATASETS_PATH"]) / ".dtql_jax" / "episodes"
    for wanted in (1, 2, 4):
        process = start(killed, "collect", "--env=pointmaze-umaze", TRANSITIONS)
        if wait(process, lambda n=wanted: len(list(shards.glob("*/part*"))) >= n):
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
    assert kills == 3
    assert fingerprint(killed) == whole
    record_property("cases", kills)
    record_property("faults", "SIGKILL of the collecting process")
    record_property("found", "the same dataset fingerprint")
