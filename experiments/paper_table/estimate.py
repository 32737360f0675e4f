"""How long a table takes on this device: a few updates, actions and steps of each kind, measured.

Cells of one kind (a domain's sizes, an algorithm, a batch, a width) cost the same; each kind is
measured once and kept, so that going on with a table measures nothing again.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dtql_jax.collect import generated, policies
from dtql_jax.commands import runner
from dtql_jax.datasets import store
from dtql_jax.datasets.sources import GeneratedSource
from dtql_jax.training.device import describe_device
from dtql_jax.training.progress import duration
from dtql_jax.training.run_folder import write_json
from dtql_jax.types import Transition
from experiments.paper_table.cells import Cell, source_of

COSTS = "costs.json"
_ROWS = 4_096  # of the made-up data
_ACTIONS = 8  # observations of each member in one measured call of the policy
_STEPS = 40  # of the simulator


class Cost(NamedTuple):
    """Seconds of one population, of all members together.

    Attributes:
      compile: once for each run.
      pretrain: an update.
      train: an update.
      act: one action of each member.
      step: one step of one environment, on one core.
    """

    compile: float
    pretrain: float
    train: float
    act: float
    step: float


def kind_of(cell: Cell) -> str:
    """Name of what makes a cell's cost, the same for cells that cost the same."""
    config, source = cell.config, source_of(cell.task, cell.config.source)
    algorithm = config.algorithm
    parts = [cell.algorithm, source.env.env_id, f"{source.observation_dim}/{source.action_dim}"]
    parts += [f"batch {config.batch_size}", f"{config.seeds} members"]
    for name in ("hidden_dim", "num_candidates", "max_q_backup"):
        if name in algorithm:
            parts.append(f"{name} {algorithm[name]}")
    return ", ".join(parts)


def measure(cell: Cell) -> Cost:
    """Measures a cell's cost on made-up data of its sizes; compilation apart."""
    source = source_of(cell.task, cell.config.source)
    config = cell.config.to_dict()
    calls = config["updates_per_call"]
    steps = {"pretrain_steps": calls if config["pretrain_steps"] else 0, "train_steps": 2 * calls}
    config |= steps | dict.fromkeys(("log_every", "eval_every", "checkpoint_every"), 2 * calls)
    draws = np.random.default_rng(0)
    rows = [draws.normal(size=(_ROWS, n)) for n in (source.observation_dim, source.action_dim)]
    observations, actions = rows[0].astype(np.float32), np.tanh(rows[1]).astype(np.float32)
    ones = np.ones(_ROWS, np.float32)
    data = Transition(observations, actions, observations, ones, ones)
    fit = runner.make_trainer(config, data)
    fit.run()
    spent = fit.seconds
    return Cost(
        compile=spent["compile"],
        pretrain=spent.get("pretrain", 0.0) / max(config["pretrain_steps"], 1),
        train=spent["train"] / config["train_steps"],
        act=_act_seconds(fit, observations, config["seeds"]),
        step=_step_seconds(source.env),
    )


def _act_seconds(fit: Any, observations: np.ndarray, members: int) -> float:
    """Seconds of one action of each member, in batches as an evaluation has them."""
    policy = fit.policy()
    seen = np.broadcast_to(observations[:_ACTIONS], (members, *observations[:_ACTIONS].shape))
    numbers = np.zeros((members, _ACTIONS), np.int32)
    times = []
    for _ in range(6):
        began = time.perf_counter()
        policy(seen, numbers, numbers)
        times.append(time.perf_counter() - began)
    return float(np.median(times[1:])) / _ACTIONS  # the first call compiles


def _step_seconds(spec: Any) -> float:
    """Seconds of one step of one environment under random actions."""
    from dtql_jax.envs.make import make_env

    env = make_env(spec)
    draws = np.random.default_rng(0)
    env.reset(seed=0)
    space: Any = env.action_space  # a Box, as every environment here has
    spent = 0.0
    for _ in range(_STEPS):
        action = draws.uniform(space.low, space.high).astype(space.dtype)
        began = time.perf_counter()
        _, _, terminated, truncated, _ = env.step(action)
        spent += time.perf_counter() - began
        if terminated or truncated:
            env.reset(seed=0)
    env.close()
    return spent / _STEPS


def parts_of(cell: Cell, cost: Cost) -> dict[str, float]:
    """Seconds of a whole cell: {"data", "compile", "train", "evaluate"}.

    "evaluate" is for episodes of full length, so a policy that reaches its goal, or falls, takes
    less; "data" is for data that has to be collected, without the reading of it.
    """
    config = cell.config
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    steps = config.final_eval_episodes * cell.env.max_episode_steps
    per_step = cost.act + config.seeds * cost.step / max(cores or 1, 1)
    return {
        "data": _collection(cell) / max(cores or 1, 1),
        "compile": cost.compile,
        "train": config.pretrain_steps * cost.pretrain + config.train_steps * cost.train,
        "evaluate": steps * per_step,
    }


def _collection(cell: Cell) -> float:
    """Seconds of one core to collect a cell's data; 0 where it is there or not collected."""
    source = source_of(cell.task, cell.config.source)
    if not isinstance(source, GeneratedSource):
        return 0.0
    transitions = cell.config.data_transitions or source.transitions
    files = generated.behaviour_files(source, cell.config.behaviour_policy or None)
    behaviour = [policies.read_policy(file) for file in files]
    name = generated.dataset_id(source, transitions, cell.config.data_seed, behaviour)
    return 0.0 if store.is_local(name) else transitions / source.transitions_per_second


def costs(cells: Sequence[Cell], out: Path, report: Callable[[str], None]) -> dict[str, Cost]:
    """The cost of each kind among the cells, measured now or, on such a device, before.

    Args:
      cells: that are still to be run.
      out: of the table; what was measured is kept there.
      report: receives a line for each measurement.
    """
    path, device = out / COSTS, describe_device()
    known: dict[str, Any] = {}
    if path.exists():
        stored = json.loads(path.read_text())
        known = stored["kinds"] if stored["device"] == device else {}
    found = {}
    for cell in cells:
        kind = kind_of(cell)
        if kind in found:
            continue
        if kind not in known:
            report(f"measuring {kind}")
            known[kind] = measure(cell)._asdict()
            out.mkdir(parents=True, exist_ok=True)
            write_json(path, {"device": device, "kinds": known})
        found[kind] = Cost(**known[kind])
    return found


def lines(cells: Sequence[Cell], found: dict[str, Cost]) -> list[str]:
    """What is said beforehand: one line a task, and the sum."""
    device, total, seen = describe_device(), 0.0, set()
    tasks: dict[str, dict[str, float]] = {}
    for cell in cells:
        parts = parts_of(cell, found[kind_of(cell)])
        if cell.task in seen:
            parts["data"] = 0.0  # the task's first cell has collected it
        seen.add(cell.task)
        own = tasks.setdefault(cell.task, dict.fromkeys(parts, 0.0))
        for name, seconds in parts.items():
            own[name] += seconds
        total += sum(parts.values())
    text = [
        f"{task}: about {duration(sum(own.values()))} ("
        + ", ".join(f"{name} {duration(s)}" for name, s in own.items() if s >= 1.0)
        + ")"
        for task, own in tasks.items()
    ]
    text.append(
        f"{len(cells)} runs: about {duration(total)} in all on {device['devices']} x "
        f"{device['kind']}, {device['cpu_cores']} cores; evaluation counted at full length"
    )
    return text
