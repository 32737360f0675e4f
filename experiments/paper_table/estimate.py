"""Estimates how long the table's runs take on this device from a few measured updates and steps.

Runs of the same algorithm and sizes cost the same, so each kind is measured once.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from dtql_jax.commands import runner
from dtql_jax.datasets.sources import GeneratedSource
from dtql_jax.training.device import describe_device
from dtql_jax.training.progress import duration
from dtql_jax.types import Transition
from experiments import study
from experiments.paper_table.plan import PlannedRun

_ROWS = 4_096  # of random data
_ACTIONS = 8  # observations of each member in one measured call of the policy
_STEPS = 40  # of the simulator


class Cost(NamedTuple):
    """Seconds of one population, all members together.

    Attributes:
      compile: once a run.
      pretrain: one update.
      train: one update.
      act: one action of each member.
      step: one step of one environment on one core.
    """

    compile: float
    pretrain: float
    train: float
    act: float
    step: float


def kind_of(run: PlannedRun) -> str:
    """Returns a name that runs of the same cost share."""
    config, source = run.config, run.source
    parts = [run.algorithm, source.env.env_id, f"{source.observation_dim}/{source.action_dim}"]
    parts += [f"batch {config.batch_size}", f"{config.seeds} members"]
    fields = ("hidden_dim", "num_candidates", "max_q_backup")
    parts += [f"{name} {config.algorithm[name]}" for name in fields if name in config.algorithm]
    return ", ".join(parts)


def measure(run: PlannedRun) -> Cost:
    """Measures a run's cost on random data of its sizes; compilation apart."""
    config = run.config.to_dict()
    calls = config["updates_per_call"]
    config["pretrain_steps"] = calls if config["pretrain_steps"] else 0
    config["train_steps"] = 2 * calls
    config |= dict.fromkeys(("log_every", "eval_every", "checkpoint_every"), 2 * calls)
    draws = np.random.default_rng(0)
    observations, actions = (
        draws.normal(size=(_ROWS, size)).astype(np.float32)
        for size in (run.source.observation_dim, run.source.action_dim)
    )
    ones = np.ones(_ROWS, np.float32)
    data = Transition(observations, np.tanh(actions), observations, ones, ones)
    trainer = runner.make_trainer(config, data)
    trainer.run()
    spent, policy = trainer.seconds, trainer.policy()
    seen = np.broadcast_to(
        observations[:_ACTIONS], (config["seeds"], *observations[:_ACTIONS].shape)
    )
    numbers = np.zeros(seen.shape[:2], np.int32)
    return Cost(
        compile=spent["compile"],
        pretrain=spent.get("pretrain", 0.0) / max(config["pretrain_steps"], 1),
        train=spent["train"] / config["train_steps"],
        act=study.median_seconds(lambda: policy(seen, numbers, numbers), 5) / _ACTIONS,
        step=_step_seconds(run.source.env),
    )


def _step_seconds(spec: Any) -> float:
    """Returns the seconds of one environment's step under random actions."""
    from dtql_jax.envs.make import make_env

    env = make_env(spec)
    env.reset(seed=0)
    env.action_space.seed(0)

    def step() -> None:
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset(seed=0)

    seconds = study.median_seconds(step, _STEPS)
    env.close()
    return seconds


def costs(runs: Sequence[PlannedRun], report: Callable[[str], None]) -> dict[str, Cost]:
    """Measures the cost of each kind of run; `report` receives a line for each measurement."""
    found = {}
    for run in runs:
        kind = kind_of(run)
        if kind not in found:
            report(f"measuring {kind}")
            found[kind] = measure(run)
    return found


def parts_of(run: PlannedRun, cost: Cost) -> dict[str, float]:
    """Returns the seconds of a whole run: {"data", "compile", "train", "evaluate"}.

    "data" is the time to collect generated data if it is not there yet. "evaluate" counts
    episodes of full length; a policy that reaches its goal, or falls, takes less.
    """
    config, cores = run.config, describe_device()["cpu_cores"]
    collected = 0.0
    if isinstance(run.source, GeneratedSource):
        transitions = config.data_transitions or run.source.transitions
        collected = transitions / run.source.transitions_per_second
    looks = config.train_steps // config.eval_every - 1
    episodes = config.final_eval_episodes + looks * config.eval_episodes
    per_step = cost.act + config.seeds * cost.step / cores
    return {
        "data": collected / cores,
        "compile": cost.compile,
        "train": config.pretrain_steps * cost.pretrain + config.train_steps * cost.train,
        "evaluate": episodes * run.source.env.max_episode_steps * per_step,
    }


def lines(runs: Sequence[PlannedRun], found: dict[str, Cost]) -> list[str]:
    """Returns the estimate as text: one line a task, and the sum."""
    device = describe_device()
    tasks: dict[str, dict[str, float]] = {}
    for run in runs:
        parts = parts_of(run, found[kind_of(run)])
        own = tasks.setdefault(run.task, {"data": parts["data"]})  # collected once
        for name in ("compile", "train", "evaluate"):
            own[name] = own.get(name, 0.0) + parts[name]
    text = []
    for task, own in tasks.items():
        shown = ", ".join(f"{name} {duration(s)}" for name, s in own.items() if s >= 1.0)
        text.append(f"{task}: about {duration(sum(own.values()))} ({shown})")
    total = sum(sum(own.values()) for own in tasks.values())
    text.append(
        f"{len(runs)} runs: about {duration(total)} in all on {device['devices']} x "
        f"{device['kind']}, {device['cpu_cores']} cores; evaluation counted at full length"
    )
    return text
