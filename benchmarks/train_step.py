"""Training updates a second, of every algorithm.

python -m benchmarks.train_step --algorithms=dtql,dql --batch_sizes=256,2048 --seeds=1,5,20

With --resume an interrupted command continues, on the same device and commit.
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
                row = {
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
                measure.add(rows, row)
                # for --resume after an interruption
                measure.publish("train_step", title, rows, values.json, show=False)
    measure.publish("train_step", title, rows, values.json, _draw)


def _draw(axes: Any, rows: Any) -> None:
    from benchmarks import measure

    seeds = rows[0]["seeds"]
    own = [row for row in rows if row["seeds"] == seeds]
    series = {
        f"batch {batch}": [row["updates/s"] for row in own if row["batch"] == batch]
        for batch in sorted({row["batch"] for row in own})
    }
    names = list(dict.fromkeys(row["algorithm"] for row in own))
    measure.bars(axes, names, series, "{:,.1f}", f"updates a second, {seeds} seed(s)")


if __name__ == "__main__":
    cli.launch(run, __doc__, define)
