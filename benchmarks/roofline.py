"""How near each algorithm's training step is to what this device can do.

    python -m benchmarks.roofline --algorithms=dtql,dql --batch_sizes=256,2048

The floor of a step is the longer of operations / matrix rate and bytes / bandwidth, both measured
here. The matrix rate is that of a chain of float32 products [B, 256] x [256, 256], the shape of
nearly all of a step's operations. Another column has the share of the rate of large square
products, which no step of 256 wide networks can reach. Operations are those of XLA's cost analysis
of the step with the whole batch at once. By hand, for DTQL at batch 256 with O = 11, A = 3
(multiplications a row, in thousands; twice that in operations):

    critics   Q forward 2 x 135, V(s) 134, V(s') 134; backward twice 270 + 134, less inputs   1346
    diffusion F forward 205, backward 410                                                      615
    policy    pi 135, F 205, Q 270 forward; F 205 and Q 270 to their inputs, pi 270 backward  1355
    together  3.32M a row x 256 rows x 2                                                 1.70 GFLOP

Bytes are the smallest that a step can move: parameters, moments and targets read and written once,
and the batch read. Activations stay in caches or on the chip.
"""

from collections.abc import Sequence
from typing import Any

from absl import flags

from experiments import cli


def define(argv: list[str]) -> None:
    """The flags of this command."""
    from benchmarks.measure import ALGORITHMS

    flags.DEFINE_list("algorithms", list(ALGORITHMS), "Whose steps.")
    flags.DEFINE_list("batch_sizes", ["256", "2048"], "Transitions in a batch.")
    flags.DEFINE_integer("updates", 20, "Updates in one compiled call.")
    flags.DEFINE_integer("repetitions", 10, "Calls that are timed.")
    flags.DEFINE_string("json", "", "File; by default benchmarks/results/<device>/roofline.json.")


SQUARE = (2048, 2048)


def matrix_rate(repetitions: int, batch_sizes: Sequence[int]) -> dict[tuple[int, int], float]:
    """Operations a second of float32 matrix products: {(rows, width): rate}, a chain of each."""
    import jax
    import numpy as np

    from benchmarks.measure import clock

    rates = {}
    for rows, width in (*((batch_size, 256) for batch_size in batch_sizes), SQUARE):
        operations = 2 * rows * width * width
        length = max(4, int(2e9 // operations))
        rng = np.random.default_rng(0)
        x = jax.numpy.asarray(rng.normal(size=(rows, width)), "float32")
        w = jax.numpy.asarray(rng.normal(size=(width, width)) / width**0.5, "float32")

        def chain(x: Any, w: Any, length: int = length) -> Any:
            return jax.lax.scan(lambda c, _: (c @ w, None), x, None, length=length)[0]

        run = jax.jit(chain)
        timing = clock(lambda run=run, x=x, w=w: run(x, w), repetitions)
        rates[rows, width] = operations * length / timing.best
    return rates


def bandwidth(repetitions: int) -> float:
    """Bytes a second of reading and writing an array of 256 MB, eight times in place."""
    import jax
    import jax.numpy as jnp

    from benchmarks.measure import clock

    x = jnp.zeros((64 * 2**20,), jnp.float32)
    run = jax.jit(lambda x: jax.lax.fori_loop(0, 8, lambda _, x: x + 1.0, x))
    return 8 * 2 * x.nbytes / clock(lambda: run(x), repetitions).best


def step_cost(name: str, batch_size: int) -> tuple[float, float]:
    """(operations, least bytes) of one training step."""
    import jax

    from benchmarks.measure import MICROBATCHED, SIZES, make, random_data

    # a batch in parts is a loop, and the cost analysis counts a loop's body once
    algorithm = make(name, {"microbatch": batch_size} if name in MICROBATCHED else {})
    batch = random_data(*SIZES.get(batch_size, SIZES[256]), rows=batch_size)
    key = jax.random.key(0)
    state = jax.eval_shape(algorithm.init, key, batch)
    cost = jax.jit(algorithm.train_step).lower(state, batch, key).compile().cost_analysis()
    cost = cost[0] if isinstance(cost, list) else cost
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
    return float(cost["flops"]), 2.0 * size + sum(x.nbytes for x in batch)


def run() -> None:
    """The command."""
    from benchmarks import measure
    from benchmarks.plain_step import plain_dtql

    values = flags.FLAGS
    batch_sizes = [int(size) for size in values.batch_sizes]
    rates = matrix_rate(values.repetitions, batch_sizes)
    bytes_rate = bandwidth(values.repetitions)
    named = {f"{rows}x{width}x{width}": rate for (rows, width), rate in rates.items()}
    for shape, rate in named.items():
        print(f"float32 matrix product {shape}: {rate / 1e9:,.0f} GFLOP/s")
    print(f"memory: {bytes_rate / 1e9:,.1f} GB/s")
    rows = []
    for batch_size in batch_sizes:
        peak, square = rates[batch_size, 256], rates[SQUARE]
        for name in values.algorithms:
            both = [(name, measure.make(name))]
            if name == "dtql":
                both.append(("dtql, plain form", plain_dtql()))
            operations, least_bytes = step_cost(name, batch_size)
            floor = max(operations / peak, least_bytes / bytes_rate)
            trainings = [measure.Training(a, batch_size, 1, values.updates) for _, a in both]
            for training in trainings:
                measure.clock(training, 1)
            # in turns, so that a disturbance meets both
            timings: list[list[float]] = [[] for _ in both]
            for _ in range(values.repetitions):
                for training, seconds in zip(trainings, timings, strict=True):
                    seconds += measure.clock(training, 1, warm_up=0).seconds
            for (label, _), seconds in zip(both, timings, strict=True):
                timing = measure.Timing([t / values.updates for t in seconds])
                rows.append(
                    {
                        "algorithm": label,
                        "batch": batch_size,
                        "GFLOP": operations / 1e9,
                        "floor ms": 1e3 * floor,
                        "bound": "compute" if floor == operations / peak else "memory",
                        "step ms": 1e3 * timing.median,
                        "best ms": 1e3 * timing.best,
                        "of the roofline %": 100 * floor / timing.median,
                        "at best %": 100 * floor / timing.best,
                        "of square products %": 100 * operations / square / timing.median,
                        "step seconds": timing.seconds,
                        "matrix rates": named,
                        "bytes a second": bytes_rate,
                    }
                )
    notes = (
        "Matrix rates measured in the same run: "
        + ", ".join(f"{k}: {v / 1e9:,.0f} GFLOP/s" for k, v in named.items())
        + f"; memory {bytes_rate / 1e9:,.1f} GB/s. "
        "The roofline is the rate at the step's own shape."
    )
    measure.publish(
        "roofline", "Training steps against the roofline", rows, values.json, _draw, notes
    )


def _draw(axes: Any, rows: Any) -> None:
    labels = [f"{row['algorithm']}, {row['batch']}" for row in rows]
    axes.barh(labels, [row["of the roofline %"] for row in rows], color="#2a6fbb")
    axes.axvline(75, color="#888888", linewidth=0.8)
    axes.invert_yaxis()
    axes.set_xlabel("share of the measured roofline (%)")


if __name__ == "__main__":
    cli.launch(run, __doc__, define)
