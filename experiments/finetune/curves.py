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
    "score before": lambda row: plus_minus(*row["before"]),
    "score after": lambda row: plus_minus(*row["after"]),
    "mean over the curve": lambda row: plus_minus(*row["curve"]),
    "after, against offline": _difference,
    "goals while collecting": _goals,
}


def rows_of(arms: Sequence[dict[str, Any]], goals: bool) -> list[dict[str, Any]]:
    """Returns one row for each arm.

    Scores are means over seeds, errors standard errors over seeds. The difference to the arm
    "offline" is taken seed by seed, because both start from the same networks.

    Args:
      arms: the facts that the arms recorded.
      goals: whether a reward means that a goal was reached.
    """
    plain = next((np.array(a["scores"][-1]) for a in arms if a["arm"] == "offline"), None)
    rows = []
    for facts in arms:
        scores = np.array(facts["scores"])
        curve = np.trapezoid(scores, facts["steps"], axis=0) / facts["steps"][-1]
        against = None
        if plain is not None and facts["arm"] != "offline":
            against = study.over_seeds(scores[-1] - plain)
        rows.append(
            {name: facts[name] for name in ("arm", "title", "env_steps", "diverged", "seconds")}
            | {
                "updates": facts["steps"][-1],
                "before": study.over_seeds(scores[0]),
                "after": study.over_seeds(scores[-1]),
                "curve": study.over_seeds(curve),
                "against_offline": against,
                "goals": goals,
                "collected_episodes": sum(facts["episodes"]),
                "collected_successes": sum(facts["successes"]),
                "scores_by_seed": scores[-1].tolist(),
            }
        )
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
        colour = _COLOURS[facts["arm"]]
        style = {"linestyle": "--" if facts["arm"] == "offline" else "-", "linewidth": 2.2}
        study.draw_curve(
            axes, facts["steps"], facts["scores"], colour, marker="o", markersize=4, **style
        )
        last = study.over_seeds(facts["scores"][-1])
        ends.append((last[0], colour, f"{plus_minus(*last)}\n{facts['title']}"))
    study.score_axis(axes, score_name)
    low, high = axes.get_ylim()
    label_at = -np.inf
    for value, colour, text in sorted(ends):
        label_at = max(value, label_at + (high - low) / 9.5)  # labels do not overlap
        axes.annotate(
            text, xy=(1.0, value), xytext=(1.02, label_at), annotation_clip=False, color=colour,
            xycoords=("axes fraction", "data"), textcoords=("axes fraction", "data"),
            va="center", fontsize=8.5,
        )  # fmt: skip
    axes.set_xlabel("updates since the offline run")
    axes.set_title(title, loc="left", pad=24, fontsize=13, fontweight="bold", color=study.INK)
    axes.annotate(
        subtitle, (0, 1), (0, 8), xycoords="axes fraction", textcoords="offset points",
        fontsize=9, color=study.GREY,
    )  # fmt: skip
    study.save_figure(figure, path)
