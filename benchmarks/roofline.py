"""How near each algorithm's training step is to what this device can do.

    python -m benchmarks.roofline --algorithms=dtql,dql --batch_sizes=256,2048

The floor of a step is the longer of operations / matrix rate and bytes / bandwidth, both measured
here. The matrix rate is that of chains of float32 products [B, 256] x [256, 256], the shape of
nearly all of a step's operations: one chain of a program that has all cores of a CPU, or one on
each core with its share of the rows, whichever is faster. Two more columns have the share of the
first of these two rates, which is what a plain program of products reaches, and of the rate of
large square products. Operations are those of XLA's cost analysis. By hand, for DTQL at batch 256
with O = 11, A = 3 (multiplications a row, in thousands; twice that in operations):

    critics   Q forward 2 x 135, V(s) 134, V(s') 134; backward twice 270 + 134, less inputs   1346
    diffusion F forward 205, backward 410                                                      615
    policy    pi 135, F 205, Q 270 forward; F 205 and Q 270 to their inputs, pi 270 backward  1355
    together  3.32M a row x 256 rows x 2                                                 1.70 GFLOP

Bytes are the smallest that a step can move: parameters, moments and targets read and written once,
and the batch read. Activations stay in caches or on the chip.
"""

from collections.abc import Callable
from typing import Any

from absl import flags

from dtql_jax.commands import cli


def define(argv: list[str]) -> None:
    """The flags of this command."""
    from benchmarks.measure import ALGORITHMS

    flags.DEFINE_list("algorithms", list(ALGORITHMS), "Whose steps.")
    flags.DEFINE_list("batch_sizes", ["256", "2048"], "Transitions in a batch.")
    flags.DEFINE_integer(
        "updates_per_call", 0, "Updates in one compiled call; 0: about as many as in runs."
    )
    flags.DEFINE_integer("repetitions", 100, "Calls of each that are timed, at most.")
    flags.DEFINE_float("seconds", 4.0, "After which a timing ends, with three calls at least.")
    flags.DEFINE_string("json", "", "File; by default benchmarks/results/<device>/roofline.json.")


WIDTH, SQUARE = 256, (2048, 2048)


def products(rows: int, width: int, devices: int = 1) -> tuple[Callable[[], Any], float]:
    """A chain of float32 products [rows, width] x [width, width]: (call, its operations).

    With several `devices` (a CPU's cores) each has a chain of its own share of the rows.
    """
    import jax
    import numpy as np
    from jax.sharding import Mesh, PartitionSpec

    operations = 2 * rows * width * width
    length = max(4, int(8e9 // operations))
    rng = np.random.default_rng(0)
    x = jax.numpy.asarray(rng.normal(size=(rows, width)), "float32")
    w = jax.numpy.asarray(rng.normal(size=(width, width)) / width**0.5, "float32")

    def chain(x: Any, w: Any) -> Any:
        return jax.lax.scan(lambda c, _: (c @ w, None), x, None, length=length)[0]

    if devices > 1:
        mesh = Mesh(np.array(jax.devices()[:devices]), ("rows",))
        own, whole = PartitionSpec("rows"), PartitionSpec()
        chain = jax.shard_map(chain, mesh=mesh, in_specs=(own, whole), out_specs=own)
        x = jax.device_put(x, jax.NamedSharding(mesh, own))
        w = jax.device_put(w, jax.NamedSharding(mesh, whole))
    run = jax.jit(chain)
    return lambda: run(x, w), float(operations * length)


def bandwidth(repetitions: int) -> float:
    """Bytes a second of reading and writing an array of 256 MB, eight times in place."""
    import jax
    import jax.numpy as jnp

    from benchmarks.measure import clock

    x = jnp.zeros((64 * 2**20,), jnp.float32)
    run = jax.jit(lambda x: jax.lax.fori_loop(0, 8, lambda _, x: x + 1.0, x))
    return 8 * 2 * x.nbytes / clock(lambda: run(x), repetitions).best


def step_cost(name: str, batch_size: int) -> tuple[float, float]:
    """(operations, least bytes) of one training step.

    Large batches are computed in parts, in a loop whose body the cost analysis counts once, so
    operations are counted at 128 and 256 rows: they grow with the rows as between those two.
    """
    import jax

    from benchmarks.measure import SIZES, make, random_data

    algorithm, key = make(name), jax.random.key(0)

    def batch(rows: int) -> Any:
        return random_data(*SIZES.get(batch_size, SIZES[256]), rows=rows)

    def operations(rows: int) -> float:
        state = jax.eval_shape(algorithm.init, key, batch(1))
        step = jax.jit(algorithm.train_step).lower(state, batch(rows), key).compile()
        cost: Any = step.cost_analysis()  # a list of dicts on some backends
        return float((cost[0] if isinstance(cost, list) else cost)["flops"])

    few, more = operations(128), operations(256)
    state = jax.eval_shape(algorithm.init, key, batch(1))
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
    least_bytes = 2.0 * size + sum(x.nbytes for x in batch(batch_size))
    return more + (more - few) * (batch_size - 256) / 128, least_bytes


def run() -> None:
    """The command."""
    import jax

    from benchmarks import measure
    from benchmarks.plain_step import plain_dtql
    from dtql_jax.training.device import use_cpu_cores

    values = flags.FLAGS
    use_cpu_cores()
    batch_sizes = [int(size) for size in values.batch_sizes]
    bytes_rate = bandwidth(10)
    call, operations = products(*SQUARE)
    square = operations / measure.clock(call, 10).best
    print(f"float32 products of {SQUARE[0]} x {SQUARE[1]} matrices: {square / 1e9:,.0f} GFLOP/s")
    print(f"memory: {bytes_rate / 1e9:,.1f} GB/s")
    rows: list[dict[str, Any]] = []
    for batch_size in batch_sizes:
        per_call = measure.updates_per_call(values.updates_per_call, batch_size)
        for name in values.algorithms:
            steps = [(name, measure.make(name))]
            if name == "dtql":
                steps.append(("dtql, plain form", plain_dtql()))
            chain, chain_operations = products(batch_size, WIDTH)
            cores = jax.device_count() if jax.default_backend() == "cpu" else 1
            apart, _ = products(batch_size, WIDTH, cores)
            trainings = [measure.Training(a, batch_size, 1, per_call) for _, a in steps]
            timed = [chain, apart, *trainings]
            for call in timed:
                measure.clock(call, 1)
            # in turns, so that a disturbance meets all of them
            seconds: list[list[float]] = [[] for _ in timed]
            while len(seconds[0]) < values.repetitions and (
                len(seconds[0]) < 3 or sum(seconds[2]) < values.seconds
            ):
                for call, taken in zip(timed, seconds, strict=True):
                    taken += measure.clock(call, 1, warm_up=0).seconds
            products_timing = measure.Timing(seconds[0])
            operations, least_bytes = step_cost(name, batch_size)
            rate = chain_operations / min(seconds[0] + seconds[1])
            floor = max(operations / rate, least_bytes / bytes_rate)
            for (label, _), taken in zip(steps, seconds[2:], strict=True):
                timing = measure.Timing([t / per_call for t in taken])
                measure.add(
                    rows,
                    {
                        "algorithm": label,
                        "batch": batch_size,
                        "GFLOP": operations / 1e9,
                        "GFLOP/s of products": rate / 1e9,
                        "floor ms": 1e3 * floor,
                        "bound": "compute" if floor == operations / rate else "memory",
                        "step ms": 1e3 * timing.median,
                        "best ms": 1e3 * timing.best,
                        "of the roofline %": 100 * floor / timing.median,
                        "at best %": 100 * floor / timing.best,
                        "of one program's products %": 100
                        * operations
                        / (chain_operations / products_timing.best)
                        / timing.median,
                        "of large products %": 100 * operations / square / timing.median,
                        "step seconds": timing.seconds,
                        "product seconds": products_timing.seconds,
                        "product seconds core by core": seconds[1],
                    },
                )
    notes = (
        f"The roofline is the best rate of products [B, {WIDTH}] x [{WIDTH}, {WIDTH}], in one "
        "program or core by core, in turns with the step. Large products: "
        f"{SQUARE[0]} x {SQUARE[1]}, {square / 1e9:,.0f} GFLOP/s in the same run; memory "
        f"{bytes_rate / 1e9:,.1f} GB/s."
    )
    measure.publish(
        "roofline", "Training steps against the roofline", rows, values.json, _draw, notes
    )


def _draw(axes: Any, rows: Any) -> None:
    from benchmarks import measure

    labels = [f"{row['algorithm']}, {row['batch']}" for row in rows]
    values = {"": [row["of the roofline %"] for row in rows]}
    measure.bars(axes, labels, values, "{:.0f}", "share of the measured roofline (%)")
    axes.axvline(75, color="#888888", linewidth=0.8)


if __name__ == "__main__":
    cli.launch(run, __doc__, define)
