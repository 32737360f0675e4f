"""How long an evaluation takes, and what share of a run's time it is.

python -m benchmarks.evaluation --env=antmaze-umaze --seeds=5 --episodes=100

The policies are untrained, so that in a maze all episodes last until their time limit: no
evaluation of the task takes longer. --steps ends them sooner, and the time of whole episodes is
extrapolated. The share is that of an evaluation in the time from one to the next.
"""

import dataclasses
from typing import Any

from absl import flags

from dtql_jax.commands import cli


def define(argv: list[str]) -> None:
    """The flags of this command."""
    flags.DEFINE_string("env", "antmaze-umaze", "Task.")
    flags.DEFINE_string("preset", "paper", "Its settings: paper, quick; full in point mazes.")
    flags.DEFINE_list("algorithms", ["dtql", "dql"], "Whose policies.")
    flags.DEFINE_integer("seeds", 5, "Members evaluated at once.")
    flags.DEFINE_integer("episodes", 100, "Of each member.")
    flags.DEFINE_integer("steps", 10, "Steps after which an episode ends; 0: the task's own limit.")
    flags.DEFINE_float("seconds", 2.0, "For which updates are timed, with two calls at least.")
    flags.DEFINE_string("json", "", "File; by default benchmarks/results/<device>/evaluation.json.")


def run() -> None:
    """The command."""
    from dtql_jax.training.device import use_cpu_cores

    values = flags.FLAGS
    use_cpu_cores()
    from benchmarks import measure

    rows: list[dict[str, Any]] = []
    for name in values.algorithms:
        measure.add(rows, evaluated(name))
    measure.publish(
        "evaluation",
        f"Evaluating {values.seeds} x {values.episodes} episodes of {values.env}",
        rows,
        values.json,
        _draw,
        f"Settings of the preset {values.preset}. On an accelerator, evaluations run in the "
        "background of the updates, which wait only for the rest of a longer one.",
    )


def evaluated(name: str) -> dict[str, Any]:
    """The row of an algorithm."""
    from benchmarks import measure
    from dtql_jax.datasets.registry import get_task
    from dtql_jax.evaluation.rollout import Evaluator
    from dtql_jax.presets import get_config
    from dtql_jax.presets.parts import algorithm_of
    from dtql_jax.training import population
    from dtql_jax.training.data_parallel import Acting

    values = flags.FLAGS
    config = get_config(f"{values.env},{values.preset},{name}").to_dict()
    algorithm, seeds = algorithm_of(config), range(values.seeds)
    task = get_task(values.env)
    source = task.generated or (*task.d4rl, task.minari)[0]
    assert source is not None  # a task without any data would not be one
    spec = source.env
    limit = spec.max_episode_steps
    spec = dataclasses.replace(spec, max_episode_steps=values.steps or limit)
    sizes = (source.observation_dim, source.action_dim)
    per_call = measure.updates_per_call(0, config["batch_size"], values.seeds)
    training = measure.Training(algorithm, config["batch_size"], len(seeds), per_call, sizes=sizes)
    update = measure.clock(training, 1_000, seconds=values.seconds).median / per_call
    acting = Acting(algorithm, training.placement, population.member_keys(seeds).evaluation)
    policy = acting.policy(training.state)
    with Evaluator(spec, list(seeds)) as evaluator:
        evaluator.run(policy, values.episodes)  # compiles, and starts the workers
        result = evaluator.run(policy, values.episodes)
    whole = result.seconds * values.seeds * values.episodes * limit / result.env_steps
    between = config["eval_every"] * update
    return {
        "algorithm": name,
        "workers": evaluator.workers,
        "steps of an episode": values.steps or limit,
        "env steps": result.env_steps,
        "seconds": result.seconds,
        "of the policy %": 100 * result.policy_seconds / result.seconds,
        "env steps/s": result.env_steps / result.seconds,
        f"episodes of {limit} steps, s": whole,
        "updates between evaluations": config["eval_every"],
        "their s": between,
        "evaluation %": 100 * whole / (whole + between),
    }


def _draw(axes: Any, rows: Any) -> None:
    labels = [row["algorithm"] for row in rows]
    whole = next(key for key in rows[0] if key.endswith("steps, s"))
    axes.barh(labels, [row["their s"] for row in rows], color="#2a6fbb", label="updates")
    left = [row["their s"] for row in rows]
    bars = axes.barh(
        labels, [row[whole] for row in rows], left=left, color="#d98c2b", label="evaluation"
    )
    axes.bar_label(bars, [f"{row['evaluation %']:.1f} %" for row in rows], fontsize=8, padding=2)
    axes.margins(x=0.1)
    axes.invert_yaxis()
    axes.set_xlabel("seconds from one evaluation to the next")
    axes.legend(frameon=False, fontsize=8)


if __name__ == "__main__":
    cli.launch(run, __doc__, define)
