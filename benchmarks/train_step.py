"""Training updates a second, of every algorithm.

python -m benchmarks.train_step --algorithms=dtql,dql --batch_sizes=256,2048 --seeds=1,5,20

Cut off, the same command with --resume measures what is missing, on the same device and commit.
"""

from typing import Any

from absl import flags

from dtql_jax.commands import cli


def define(argv: list[str]) -> None:
    """The flags of this command."""
    from benchmarks.measure import ALGORITHMS

    flags.DEFINE_list("algorithms", list(ALGORITHMS), "Whose steps.")
    flags.DEFINE_list("batch_sizes", ["256", "2048"], "Transitions in a batch.")
    flags.DEFINE_list("seeds", ["1", "5", "20"], "Members trained at once.")
    flags.DEFINE_integer("updates", 200, "Updates of each member that are timed, at most.")
    flags.DEFINE_float("seconds", 2.0, "After which a timing ends, with two calls at least.")
    flags.DEFINE_integer(
        "updates_per_call", 0, "Updates in one compiled call; 0: about as many as in runs."
    )
    flags.DEFINE_boolean("resume", False, "Keep the rows that this commit has measured already.")
    flags.DEFINE_string("json", "", "File; by default benchmarks/results/<device>/train_step.json.")


def run() -> None:
    """The command."""
    from benchmarks import measure
    from dtql_jax.training.device import use_cpu_cores

    values = flags.FLAGS
    seeds = [int(n) for n in values.seeds]
    use_cpu_cores()
    rows: list[dict[str, Any]] = (
        measure.rows_so_far("train_step", values.json) if values.resume else []
    )
    known = {(r["algorithm"], r["batch"], r["seeds"], r["updates in a call"]) for r in rows}
    title = "Training: updates a second"
    for batch_size in map(int, values.batch_sizes):
        for name in values.algorithms:
            for members in seeds:
                per_call = measure.updates_per_call(values.updates_per_call, batch_size, members)
                if (name, batch_size, members, per_call) in known:
                    continue
                training = measure.Training(measure.make(name), batch_size, members, per_call)
                calls = max(2, values.updates // per_call)
                timing = measure.clock(training, calls, seconds=values.seconds)
                rows.append(
                    {
                        "algorithm": name,
                        "batch": batch_size,
                        "seeds": members,
                        "updates/s": per_call / timing.median,
                        "seed-updates/s": members * per_call / timing.median,
                        "best seed-updates/s": members * per_call / timing.best,
                        "compile s": training.compile_seconds,
                        "seconds of a call": timing.seconds,
                        "updates in a call": per_call,
                    }
                )
                print(measure.table(rows[-1:]).splitlines()[-1], flush=True)
                # what is measured so far outlives an interruption
                measure.publish("train_step", title, rows, values.json, show=False)
    measure.publish("train_step", title, rows, values.json, _draw)


def _draw(axes: Any, rows: Any) -> None:
    batches = sorted({row["batch"] for row in rows})
    for batch, colour in zip(batches, ("#2a6fbb", "#d98c2b", "#5a9e57"), strict=False):
        own = [row for row in rows if row["batch"] == batch and row["seeds"] == rows[0]["seeds"]]
        labels = [row["algorithm"] for row in own]
        places = [i + 0.38 * batches.index(batch) for i in range(len(own))]
        bars = axes.barh(places, [row["updates/s"] for row in own], 0.36, color=colour)
        axes.bar_label(bars, fmt="{:,.1f}", fontsize=8, padding=2)
        bars.set_label(f"batch {batch}")
    axes.set_yticks([i + 0.19 for i in range(len(labels))], labels)
    axes.invert_yaxis()
    axes.set_xlabel(f"updates a second, {rows[0]['seeds']} seed(s)")
    axes.legend(frameon=False)


if __name__ == "__main__":
    cli.launch(run, __doc__, define)
