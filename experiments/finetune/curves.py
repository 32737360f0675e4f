"""What came out of a fine-tuning: the table of its arms and their learning curves."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from dtql_jax.evaluation.scores import mean_and_standard_error

COLUMNS = (
    "arm",
    "updates",
    "env steps",
    "score before",
    "score after",
    "mean over the curve",
    "after, against offline",
    "goals while collecting",
)
_COLOURS = {
    "symmetric": "#D55E00",
    "uniform": "#E69F00",
    "offline": "#0072B2",
    "scratch": "#6B737C",
}
_INK, _GREY = "#22262B", "#6B737C"


def _over_seeds(values: np.ndarray) -> tuple[float, float | None]:
    """Mean and standard error of one value a seed, [P]; None for a single seed."""
    mean, error = mean_and_standard_error(values[:, None], over="seeds")
    return mean, error if len(values) > 1 else None


def table(arms: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each arm, from the facts that each has left.

    Scores are means over seeds of each seed's mean, errors standard errors over seeds. The
    difference to the arm "offline" is taken seed by seed: both began with the same networks.
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
            "before": _over_seeds(scores[0]),
            "after": _over_seeds(scores[-1]),
            "curve": _over_seeds(curve),
            "against_offline": None,
            "collected_episodes": sum(facts["episodes"]),
            "collected_successes": sum(facts["successes"]),
            "scores_by_seed": scores[-1].tolist(),
            "diverged": facts["diverged"],
            "seconds": facts["seconds"],
        }
        if plain is not None and facts["arm"] != "offline":
            row["against_offline"] = _over_seeds(scores[-1] - plain[-1])
        rows.append(row)
    return rows


def _cell(value: tuple[float, float | None] | None, sign: str = "") -> str:
    if value is None:
        return "-"
    mean, error = value
    return f"{mean:{sign}.1f}" + ("" if error is None else f" ± {error:.1f}")


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of `table` as a Markdown table."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for row in rows:
        goals = "-"
        if row["env_steps"] and row["goals"]:
            goals = f"{row['collected_successes']} of {row['collected_episodes']} episodes"
        cells = [
            row["title"],
            f"{row['updates']:,}",
            f"{row['env_steps']:,}",
            _cell(row["before"]),
            _cell(row["after"]),
            _cell(row["curve"]),
            _cell(row["against_offline"], "+"),
            goals,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def figure(
    arms: Sequence[dict[str, Any]],
    path: str | os.PathLike,
    *,
    title: str,
    subtitle: str,
    score_name: str,
) -> None:
    """Draws the PNG: score against updates, a line for each arm, standard errors as bands.

    Args:
      arms: their facts: "steps" [F], "scores" [F][P], "arm", "title".
      path: of the PNG.
      title: above it.
      subtitle: below the title.
      score_name: of the vertical axis.
    """
    from matplotlib.figure import Figure

    drawn = Figure((8.2, 4.6), layout="constrained", facecolor="white")
    axes = drawn.subplots()
    ends = []
    for facts in arms:
        colour, at = _COLOURS[facts["arm"]], np.array(facts["steps"])
        found = [_over_seeds(np.array(scores)) for scores in facts["scores"]]
        mean = np.array([m for m, _ in found])
        error = np.array([e or 0.0 for _, e in found])
        axes.fill_between(at, mean - error, mean + error, color=colour, alpha=0.16, linewidth=0)
        style = "--" if facts["arm"] == "offline" else "-"
        axes.plot(at, mean, style, color=colour, linewidth=2.2, marker="o", markersize=4)
        ends.append((mean[-1], colour, facts["title"], _cell(found[-1])))
    low, high = axes.get_ylim()
    if score_name == "success rate":
        low, high = -3.0, 103.0
        axes.set_ylim(low, high)
    _label(axes, ends, (high - low) / 9.5)
    axes.set_xlabel("updates since the offline run", color=_GREY)
    axes.set_ylabel("success rate (%)" if score_name == "success rate" else score_name, color=_GREY)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#AAB0B7")
    axes.tick_params(colors=_GREY, labelsize=9, color="#AAB0B7")
    axes.grid(color="#E6E8EB", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_title(title, loc="left", pad=24, fontsize=13, fontweight="bold", color=_INK)
    axes.annotate(
        subtitle, (0, 1), (0, 8), xycoords="axes fraction", textcoords="offset points",
        fontsize=9, color=_GREY,
    )  # fmt: skip
    drawn.savefig(path, dpi=160, format="png")


def _label(axes: Any, ends: Sequence[tuple[float, str, str, str]], apart: float) -> None:
    """Writes each curve's name and last value beside its end, pushed apart where they meet."""
    previous = -np.inf
    for value, colour, title, score in sorted(ends):
        height = max(value, previous + apart)
        previous = height
        axes.annotate(
            f"{score}\n{title}", xy=(1.0, value), xytext=(1.02, height),
            xycoords=("axes fraction", "data"), textcoords=("axes fraction", "data"),
            va="center", fontsize=8.5, color=colour, annotation_clip=False,
        )  # fmt: skip
