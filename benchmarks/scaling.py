"""DTQL's throughput against members, devices and batch size.

python -m benchmarks.scaling --members=1,2,4,8 --batch_sizes=64,256,1024,4096
"""

from typing import Any

from absl import flags

from dtql_jax.commands import cli


def define(argv: list[str]) -> None:
    """The flags of this command."""
    flags.DEFINE_list("members", ["1", "2", "4", "8"], "Members trained at once.")
    flags.DEFINE_list("batch_sizes", ["64", "256", "1024", "4096"], "Transitions in a batch.")
    flags.DEFINE_integer("updates", 20, "Updates in one compiled call.")
    flags.DEFINE_integer("repetitions", 5, "Calls that are timed.")
    flags.DEFINE_string("json", "", "File; by default benchmarks/results/<device>/scaling.json.")


def run() -> None:
    """The command."""
    from benchmarks import measure
    from dtql_jax.training.device import use_cpu_cores

    values = flags.FLAGS
    members = [int(n) for n in values.members]
    use_cpu_cores()
    import jax

    from dtql_jax.training.data_parallel import Placement

    devices = jax.local_devices()
    cases = [("members", n, n, len(devices), 256) for n in members]
    counts = [2**k for k in range(8) if 2**k <= len(devices)]
    cases += [("devices", d, len(devices), d, 256) for d in counts]
    cases += [("batch", b, 1, 1, b) for b in map(int, values.batch_sizes)]
    rows: list[dict[str, Any]] = []
    for against, x, population, used, batch_size in cases:
        # batches as a run has them: several cores share one
        placement = None if against == "batch" else Placement(population, devices[:used])
        training = measure.Training(
            measure.make("dtql"), batch_size, population, values.updates, placement
        )
        timing = measure.clock(training, values.repetitions)
        rate = population * values.updates / timing.median
        row = {
            "against": against,
            "number": x,
            "members": population,
            "devices": len(training.placement.devices),
            "batch": batch_size,
            "seed-updates/s": rate,
            "transitions/s": rate * batch_size,
            "seconds of a call": timing.seconds,
        }
        measure.add(rows, row)
    measure.publish("scaling", "DTQL: throughput", rows, values.json, _draw)


def _draw(axes: Any, rows: Any) -> None:
    for against, colour in (("members", "#2a6fbb"), ("devices", "#d98c2b"), ("batch", "#5a9e57")):
        own = [row for row in rows if row["against"] == against]
        axes.plot(
            [row["number"] for row in own],
            [row["transitions/s"] for row in own],
            "o-",
            color=colour,
            label=against,
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("number of members, devices, or transitions in a batch")
    axes.set_ylabel("transitions trained on a second")
    axes.legend(frameon=False)


if __name__ == "__main__":
    cli.launch(run, __doc__, define)
