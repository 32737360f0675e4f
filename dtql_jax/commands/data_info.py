"""Says what a task's data is: where it comes from, returns, lengths, actions; draws it too.

dtql-jax data-info --env=pointmaze-umaze --out=FOLDER

Writes data_info.json, histogram_of_returns.png and, for mazes, visited_states.png. Data that
is not there yet is got or collected, as by experiments.collect.
"""

import json
from pathlib import Path
from typing import Any

from absl import flags

from dtql_jax.commands import cli
from dtql_jax.commands import data as collect
from dtql_jax.errors import UserError

EXTRAS = ("reports",)


def define(argv: list[str]) -> None:
    """The flags of this command: those of a collection and --out."""
    collect.define(argv)
    flags.DEFINE_string("out", "", "Folder for the pictures; by default runs/data-info/TASK.")


def run() -> None:
    """The command."""
    values = flags.FLAGS
    with cli.open_display(f"data of {values.env}") as display:
        from dtql_jax.datasets.summary import summarise

        data, info, lengths = collect.get(display)
        display.start("describe")
        facts = info.to_dict() | {"recorded_by": _recorded_by(info)} | summarise(data, lengths)
        out = Path(values.out or Path("runs") / "data-info" / values.env)
        try:
            out.mkdir(parents=True, exist_ok=True)
            (out / "data_info.json").write_text(json.dumps(facts, indent=2) + "\n")
            drawn = _draw(out, data, info, lengths)
        except OSError as error:
            raise UserError(f"--out={out} cannot be written: {error.strerror}") from error
    print("\n".join(_lines(facts)))
    for name in ("data_info.json", *drawn):
        print(f"{'written':<13} {out / name}")


def _recorded_by(info: Any) -> str:
    """What a Minari dataset says of its behaviour policy; "" where there is nothing."""
    names = []
    for name in info.dataset_id.split("+") if info.source != "d4rl" else ():
        from dtql_jax.datasets import store

        metadata = json.loads((store.data_folder(name) / store.METADATA_FILE).read_text())
        names.append(str(metadata.get("algorithm_name") or "not said"))
    return "; ".join(names)


def _draw(out: Path, data: Any, info: Any, lengths: Any) -> list[str]:
    """Draws what there is to see; returns the names of the pictures."""
    from dtql_jax.datasets.summary import episode_returns
    from dtql_jax.plots import data as plots
    from dtql_jax.plots import mazes

    titles = {"title": info.task, "subtitle": f"{info.source} data: {info.dataset_id}"}
    returns = episode_returns(data.rewards, lengths)
    plots.histogram_of_returns(returns, lengths, out / "histogram_of_returns.png", **titles)
    if "maze" not in info.task:
        return ["histogram_of_returns.png"]
    positions, _ = mazes.positions_and_goals(info.env, data.observations)
    maze = mazes.read_maze(info.env)
    plots.visited_states(maze, positions, out / "visited_states.png", **titles)
    return ["histogram_of_returns.png", "visited_states.png"]


def _lines(facts: dict[str, Any]) -> list[str]:
    """The facts as text, one subject a line."""
    rows, episodes = facts["transitions"], facts["episodes"]
    env, goal = facts["env"], facts["env"]["success"] == "reward"
    lines = [
        ("task", facts["task"]),
        ("source", facts["source"]),
        ("dataset", facts["dataset_id"]),
        ("path", facts["path"]),
        ("fingerprint", facts["fingerprint"]),
        ("recorded by", facts["recorded_by"]),
        ("environment", f"{env['env_id']}, at most {env['max_episode_steps']} steps"),
        ("observation", f"{facts['observation_dim']}: {' + '.join(facts['observation_layout'])}"),
        ("transitions", f"{rows:,} in {episodes:,} episodes"),
        ("terminals", f"{facts['terminals']:,} ({100 * facts['terminals'] / rows:.2f} % of rows)"),
        ("rewarded", f"{100 * facts['rewarded_episodes']:.1f} % of episodes" if goal else ""),
        ("clipped", f"{facts['clipped_actions']:,} action entries"),
    ]
    if facts["reference_scores"]:
        low, high = facts["reference_scores"]
        lines.append(("D4RL scores", f"return {low:g} is 0, return {high:g} is 100"))
    text = [f"{name:<13} {value}" for name, value in lines if value]
    columns = list(facts["returns"])
    text += ["", f"{'':<13}" + "".join(f"{name:>11}" for name in columns)]
    for name in ("returns", "lengths", "rewards"):
        text.append(f"{name:<13}" + "".join(f"{facts[name][key]:>11.5g}" for key in columns))
    text += ["", f"{'action':<13}{'min':>11}{'mean':>11}{'max':>11}{'at bounds':>11}"]
    for i, entry in enumerate(facts["actions"]):
        spread = "".join(f"{entry[key]:>11.3f}" for key in ("min", "mean", "max"))
        text.append(f"{i:<13}{spread}{100 * entry['at_bounds']:>9.1f} %")
    return [*text, ""]
