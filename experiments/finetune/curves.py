"""Results of a fine-tuning: the table of its arms and their learning curves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtql_jax.commands.tables import plus_minus
from experiments import study

_COLOURS = {
    "symmetric": study.COLOURS[1],
    "uniform": study.COLOURS[4],
    "offline": study.COLOURS[0],
    "scratch": study.GREY,
}


def _score(key: str) -> study.Column:
    return lambda row: plus_minus(*row[key])


def _difference(row: study.Row) -> str:
    found = row["against_offline"]
    return "-" if found is None else ("+" if found[0] >= 0 else "") + plus_minus(*found)


def _goals(row: study.Row) -> str:
    if not row["env_steps"] or not row["goals"]:
        return "-"
    return f"{row['collected_successes']} of {row['collected_episodes']} episodes"


COLUMNS: dict[str, study.Column] = {
    "arm": "title",
    "updates": "updates:,",
    "env steps": "env_steps:,",
    "score before": _score("before"),
    "score after": _score("after"),
    "mean over the curve": _score("curve"),
    "after, against offline": _difference,
    "goals while collecting": _goals,
}


def rows_of(arms: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns one row for each arm, from the facts that the arms recorded.

    Scores are means over seeds, errors standard errors over seeds. The difference to the arm
    "offline" is taken seed by seed, because both start from the same networks.
    """
    plain = next((np.array(a["scores"]) for a in arms if a["arm"] == "offline"), None)
    rows = []
    for facts in arms:
        scores = np.array(facts["scores"])
        curve = np.trapezoid(scores, facts["steps"], axis=0) / facts["steps"][-1]
        row: dict[str, Any] = {
            "arm": facts["arm"],
            "title": facts["title"],
            "updates": facts["steps"][-1],
            "env_steps": facts["env_steps"],
            "before": study.over_seeds(scores[0]),
            "after": study.over_seeds(scores[-1]),
            "curve": study.over_seeds(curve),
            "against_offline": None,
            "collected_episodes": sum(facts["episodes"]),
            "collected_successes": sum(facts["successes"]),
            "scores_by_seed": scores[-1].tolist(),
            "diverged": facts["diverged"],
            "seconds": facts["seconds"],
        }
        if plain is not None and facts["arm"] != "offline":
            row["against_offline"] = study.over_seeds(scores[-1] - plain[-1])
        rows.append(row)
    return rows


def draw(
    arms: Sequence[dict[str, Any]], path: Path, title: str, subtitle: str, score_name: str
) -> None:
    """Draws score against updates: a line for each arm, standard errors as bands.

    Args:
      arms: their facts: "steps" [F], "scores" [F][P], "arm", "title".
      path: of the PNG.
      title: above the figure.
      subtitle: below the title.
      score_name: of the vertical axis.
    """
    figure, ((axes,),) = study.new_figure(8.2, 4.6)
    ends = []
    for facts in arms:
        colour, at = _COLOURS[facts["arm"]], np.array(facts["steps"])
        found = [study.over_seeds(scores) for scores in facts["scores"]]
        mean = np.array([m for m, _ in found])
        error = np.array([e or 0.0 for _, e in found])
        axes.fill_between(at, mean - error, mean + error, color=colour, alpha=0.16, linewidth=0)
        style = "--" if facts["arm"] == "offline" else "-"
        axes.plot(at, mean, style, color=colour, linewidth=2.2, marker="o", markersize=4)
        ends.append((mean[-1], colour, f"{plus_minus(*found[-1])}\n{facts['title']}"))
    if score_name == "success rate":
        axes.set_ylim(-3, 103)
    low, high = axes.get_ylim()
    _label(axes, ends, (high - low) / 9.5)
    axes.set_xlabel("updates since the offline run")
    axes.set_ylabel("success rate (%)" if score_name == "success rate" else score_name)
    axes.set_title(title, loc="left", pad=24, fontsize=13, fontweight="bold", color=study.INK)
    axes.annotate(
        subtitle, (0, 1), (0, 8), xycoords="axes fraction", textcoords="offset points",
        fontsize=9, color=study.GREY,
    )  # fmt: skip
    study.save_figure(figure, path)


def _label(axes: Any, ends: Sequence[tuple[float, str, str]], apart: float) -> None:
    """Writes each curve's last value and name beside its end, without overlap."""
    previous = -np.inf
    for value, colour, text in sorted(ends):
        previous = max(value, previous + apart)
        axes.annotate(
            text, xy=(1.0, value), xytext=(1.02, previous), annotation_clip=False, color=colour,
            xycoords=("axes fraction", "data"), textcoords=("axes fraction", "data"),
            va="center", fontsize=8.5,
        )  # fmt: skip
