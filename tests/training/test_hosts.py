"""A fit on several hosts: processes of `jax.distributed` on this machine."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest

from dtql_jax.errors import UserError
from dtql_jax.training import hosts
from dtql_jax.training.checkpoint import Checkpoints
from dtql_jax.training.data_parallel.members import Placement, spread_over_hosts
from tests.training.host_of_fit import make_trainer

ROOT = Path(__file__).parents[2]


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def start(folder: Path, seeds: list[int], what: str, devices: int = 1) -> list[subprocess.Popen]:
    """Two hosts with `devices` simulated devices each."""
    folder.mkdir(exist_ok=True)
    address = free_address()
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    words = [str(folder), ",".join(map(str, seeds)), what]
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tests.training.host_of_fit", address, "2", str(k), *words],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for k in (0, 1)
    ]


def ended(processes: list[subprocess.Popen]) -> list[str]:
    said = [process.communicate(timeout=600) for process in processes]
    for process, (_, errors) in zip(processes, said, strict=True):
        assert process.returncode == 0, errors
    return [out.splitlines()[-1] for out, _ in said]


def assert_same_run(found: Path, wanted: Path, seeds: list[int]) -> None:
    """The files are the same, and one process restores the same numbers from the checkpoints."""
    for name in ("metrics.csv", "evaluations.csv"):
        assert (found / name).read_text() == (wanted / name).read_text(), name
    states = []
    for folder in (found, wanted):
        with Checkpoints(folder / "checkpoints") as checkpoints:
            fit = make_trainer(folder, seeds, checkpoints)
            fit.resume()
        assert fit.update == 130
        states.append(fit.state)
    for a, b in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize(("members", "devices"), [(3, 1), (3, 2), (4, 2)])
def test_two_hosts_fit_what_one_does(tmp_path: Path, members: int, devices: int) -> None:
    """Members that fill the places and members that do not."""
    seeds = list(range(3, 3 + members))
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    with Checkpoints(one / "checkpoints") as checkpoints:
        make_trainer(one, seeds, checkpoints).run()
    assert ended(start(two, seeds, "whole", devices)) == [f"finished 130 {members}"] * 2
    assert_same_run(two, one, seeds)


@pytest.mark.slow
def test_all_hosts_stop_where_one_is_asked_to(tmp_path: Path) -> None:
    """And one process resumes a run of two."""
    seeds = [3, 4, 5]
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    with Checkpoints(one / "checkpoints") as checkpoints:
        make_trainer(one, seeds, checkpoints).run()
    assert ended(start(two, seeds, "stop")) == ["stopped 70 3"] * 2
    with Checkpoints(two / "checkpoints") as checkpoints:
        fit = make_trainer(two, seeds, checkpoints)
        fit.resume()
        assert fit.update == 70
        assert fit.run().finished
    assert_same_run(two, one, seeds)


@pytest.mark.slow
def test_a_host_that_dies_ends_the_others(tmp_path: Path) -> None:
    processes = start(tmp_path / "two", [3, 4, 5], "die")
    out, errors = processes[0].communicate(timeout=600)
    assert processes[1].wait() == -signal.SIGKILL
    assert processes[0].returncode == 3, errors
    assert "lost at " in out and "another host is gone" in out, out


def test_numbers_of_hosts_that_do_not_fit_together() -> None:
    with pytest.raises(UserError, match="--process is 2 of --processes=2; expected 0 to N - 1"):
        hosts.join("machine:1234", 2, 2)
    for coordinator in ("machine", "machine:", ":80", "machine:port", "machine:70000"):
        with pytest.raises(UserError, match="expected HOST:PORT or auto"):
            hosts.join(coordinator, 2, 0)


def test_one_host_alone_asks_nobody() -> None:
    asked = []
    question = hosts.agreed(lambda: bool(asked.append(1)))
    assert not asked
    assert not question() and asked == [1]
    assert hosts.texts("a") == ["a"]
    rows = {"score": np.array([1.5, 2.5])}
    assert hosts.concatenate(rows) is rows
    assert hosts.together(lambda: 3) == hosts.on_first(lambda: 3) == 3
    placement = Placement(3)
    assert placement.own == slice(0, 3) and placement.local() is placement


class Device(NamedTuple):
    """The part of a device that the division of members uses."""

    process_index: int
    id: int


@pytest.mark.parametrize(
    ("processes", "each", "count", "expected"),
    [
        (1, 4, 3, [(0, 0), (0, 1), (0, 2)]),
        (2, 2, 3, [(0, 0), (0, 1), (1, 0)]),
        (4, 2, 5, [(0, 0), (0, 1), (1, 0), (2, 0), (3, 0)]),
        (2, 3, 6, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]),
    ],
)
def test_hosts_have_equally_many_devices_at_work(processes, each, count, expected) -> None:
    devices = [Device(k, i) for k in range(processes) for i in range(each)]
    assert spread_over_hosts(devices, count) == expected


def test_more_hosts_than_members_are_refused() -> None:
    with pytest.raises(UserError, match="fill the devices of 2 hosts; found 3: start fewer"):
        spread_over_hosts([Device(k, 0) for k in range(3)], 2)
