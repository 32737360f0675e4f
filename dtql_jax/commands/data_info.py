"""Describes a task's data: source, returns, lengths, actions; with figures.

dtql-jax data-info --env=pointmaze-umaze --out=FOLDER

Writes data_info.json, histogram_of_returns.png and, for mazes, visited_states.png. Missing data is
downloaded or collected first, as by `dtql-jax data`.
"""

import json
from pathlib import Path
from typing import Any

from absl import flags

from dtql_jax.commands import cli, data
from dtql_jax.errors import UserError

EXTRAS = ("reports",)


def define(argv: list[str]) -> None:
    """Defines the flags of this command: those of `data`, and --out."""
    data.define(argv)
    flags.DEFINE_string("out", "", "Folder of the figures; by default runs/data-info/TASK.")


def run() -> None:
    """Runs the command."""
    values = flags.FLAGS
    with cli.open_display(f"data of {values.env}") as display:
        from dtql_jax.datasets.summary import summarise

        arrays, info, lengths = data.get(display)
        display.start("describe")
        facts = info.to_dict() | {"recorded_by": _recorded_by(info)} | summarise(arrays, lengths)
        out = Path(values.out or Path("runs") / "data-info" / values.env)
        try:
            out.mkdir(parents=True, exist_ok=True)
            (out / "data_info.json").write_text(json.dumps(facts, indent=2) + "\n")
            drawn = _draw(out, arrays, info, lengths)
        except OSError as error:
            raise UserError(f"--out={out} cannot be written: {error.strerror}") from error
    print("\n".join(_lines(facts)))
    for name in ("data_info.json", *drawn):
        print(f"{'written':<13} {out / name}")


def dataset_facts(dataset: dict[str, Any]) -> dict[str, str]:
    """Returns the facts of a dataset's record as {name: text}."""
    env = dataset["env"]
    facts = {
        "task": dataset["task"],
        "source": dataset["source"],
        "dataset": dataset["dataset_id"],
        "fingerprint": dataset["fingerprint"],
        "transitions": f"{dataset['transitions']:,} in {dataset['episodes']:,} episodes",
        "observation": f"{dataset['observation_dim']}: {' + '.join(dataset['observation_layout'])}",
        "action": str(dataset["action_dim"]),
        "environment": f"{env['env_id']}, at most {env['max_episode_steps']} steps",
        "success": "any reward above 0" if env["success"] == "reward" else "not known",
        "clipped": f"{dataset['clipped_actions']:,} action entries",
    }
    if dataset["reference_scores"]:
        low, high = dataset["reference_scores"]
        facts["D4RL's score"] = f"return {low:g} is 0, return {high:g} is 100"
    return facts


def _recorded_by(info: Any) -> str:
    """The behaviour policies that a Minari dataset names; "" for D4RL's files."""
    from dtql_jax.datasets import store

    if info.source == "d4rl":
        return ""
    files = [store.data_folder(name) / store.METADATA_FILE for name in info.dataset_id.split("+")]
    names = [json.loads(file.read_text()).get("algorithm_name") for file in files]
    return "; ".join(str(name or "not recorded") for name in names)


def _draw(out: Path, arrays: Any, info: Any, lengths: Any) -> list[str]:
    """Draws the figures; returns their names."""
    from dtql_jax.datasets.summary import episode_returns
    from dtql_jax.plots import data as plots
    from dtql_jax.plots import mazes

    titles = {"title": info.task, "subtitle": f"{info.source} data: {info.dataset_id}"}
    returns = episode_returns(arrays.rewards, lengths)
    plots.histogram_of_returns(returns, lengths, out / "histogram_of_returns.png", **titles)
    if "maze" not in info.task:
        return ["histogram_of_returns.png"]
    positions, _ = mazes.positions_and_goals(info.env, arrays.observations)
    maze = mazes.read_maze(info.env)
    plots.visited_states(maze, positions, out / "visited_states.png", **titles)
    return ["histogram_of_returns.png", "visited_states.png"]


def _lines(facts: dict[str, Any]) -> list[str]:
    """The facts as text: names and values, then tables of the numbers."""
    shown = dataset_facts(facts) | {"path": facts["path"], "recorded by": facts["recorded_by"]}
    share = 100 * facts["terminals"] / facts["transitions"]
    shown["terminals"] = f"{facts['terminals']:,} ({share:.2f} % of rows)"
    if facts["env"]["success"] == "reward":
        shown["rewarded"] = f"{100 * facts['rewarded_episodes']:.1f} % of episodes"
    lines = [f"{name:<13} {value}" for name, value in shown.items() if value]
    columns = list(facts["returns"])
    lines += ["", f"{'':<13}" + "".join(f"{name:>11}" for name in columns)]
    for name in ("returns", "lengths", "rewards"):
        lines.append(f"{name:<13}" + "".join(f"{facts[name][key]:>11.5g}" for key in columns))
    lines += ["", f"{'action':<13}{'min':>11}{'mean':>11}{'max':>11}{'at bounds':>11}"]
    for i, entry in enumerate(facts["actions"]):
        spread = "".join(f"{entry[key]:>11.3f}" for key in ("min", "mean", "max"))
        lines.append(f"{i:<13}{spread}{100 * entry['at_bounds']:>9.1f} %")
    return [*lines, ""]
