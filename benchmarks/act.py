"""Time to choose actions, one and 100 at once: at published settings, and at equal candidates.

python -m benchmarks.act --repetitions=20
"""

from typing import Any

from absl import flags

from dtql_jax.commands import cli

# (label, algorithm, settings): what the papers act with, then the same number of candidates for all
CASES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("dtql, 1024 x 1 step", "dtql", {}),
    ("dtql, one draw", "dtql", {"action_selection": "single"}),
    ("dql, 50 x 5 steps", "dql", {}),
    ("idql, 64 x 5 steps", "idql", {}),
    ("idql, 256 x 5 steps", "idql", {"num_candidates": 256}),
    ("dql_kl, 1024 x 1 step", "dql_kl", {}),
    ("fql, one draw", "fql", {}),
    ("iql", "iql", {}),
    ("dtql, 64 candidates", "dtql", {"num_candidates": 64}),
    ("dql, 64 candidates", "dql", {"num_candidates": 64}),
    ("idql, 64 candidates", "idql", {"num_candidates": 64}),
)


def define(argv: list[str]) -> None:
    """The flags of this command."""
    flags.DEFINE_list("observations", ["1", "20", "100"], "Observations at once.")
    flags.DEFINE_integer("repetitions", 15, "Calls that are timed.")
    flags.DEFINE_integer("observation_dim", 29, "O; AntMaze by default.")
    flags.DEFINE_integer("action_dim", 8, "A.")
    flags.DEFINE_string("json", "", "File; by default benchmarks/results/<device>/act.json.")


def run() -> None:
    """The command."""
    import numpy as np

    from benchmarks import measure
    from dtql_jax.training import population
    from dtql_jax.training.data_parallel import Acting, Placement
    from dtql_jax.training.device import use_cpu_cores

    use_cpu_cores()
    values = flags.FLAGS
    placement = Placement(1)
    keys = placement.put(population.member_keys([0]))
    data = measure.random_data(values.observation_dim, values.action_dim, rows=1)
    rows: list[dict[str, Any]] = []
    for label, name, settings in CASES:
        algorithm = measure.make(name, settings)
        state = population.init(algorithm, placement, keys.init, data)
        act = Acting(algorithm, placement, keys.evaluation).policy(state)
        row: dict[str, Any] = {"method": label}
        for number in map(int, values.observations):
            shape = (1, number)
            observations = np.ones((*shape, values.observation_dim), np.float32)
            zeros = np.zeros(shape, np.int32)
            timing = measure.clock(
                lambda a=act, o=observations, z=zeros: a(o, z, z),
                values.repetitions,
            )
            row[f"{number} at once, ms"] = 1e3 * timing.median
            row[f"{number} at once, every ms"] = [1e3 * s for s in timing.seconds]
        measure.add(rows, row)
    measure.publish("act", "Acting: time to choose actions", rows, values.json, _draw)


def _draw(axes: Any, rows: Any) -> None:
    from benchmarks import measure

    name = next(key for key in rows[0] if key.endswith(", ms"))
    values = {"": [row[name] for row in rows]}
    unit = f"milliseconds ({name.removesuffix(', ms')})"
    measure.bars(axes, [row["method"] for row in rows], values, "{:.2f}", unit)
    axes.set_xscale("log")


if __name__ == "__main__":
    cli.launch(run, __doc__, define)
