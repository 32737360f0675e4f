"""What an evaluation's result becomes: rows of evaluations.csv, the scores of summary.json."""

import math
from typing import Any

from dtql_jax.datasets import DatasetInfo
from dtql_jax.evaluation import scores
from dtql_jax.evaluation.rollout import EvaluationResult


def rows_of(info: DatasetInfo, result: EvaluationResult) -> list[dict[str, Any]]:
    """One row for each member, as evaluations.csv has them."""
    _, values = scores.score(result.returns, result.successes, info.env, info.reference_scores)
    rows = []
    for i in range(len(values)):
        success = "" if result.successes is None else f"{result.successes[i].mean():.6g}"
        rows.append(
            {
                "score": float(values[i].mean()),
                "return_mean": float(result.returns[i].mean()),
                "return_std": float(result.returns[i].std()),
                "success_rate": success,
                "length_mean": float(result.lengths[i].mean()),
                "episodes": result.returns.shape[1],
            }
        )
    return rows


def scores_of(info: DatasetInfo, result: EvaluationResult) -> dict[str, Any]:
    """The scores of an evaluation over all seeds and episodes, as summary.json has them."""
    name, values = scores.score(result.returns, result.successes, info.env, info.reference_scores)
    mean, error = scores.mean_and_standard_error(values)
    _, seed_error = scores.mean_and_standard_error(values, over="seeds")
    successes = result.successes
    return {
        "score_name": name,
        "score_mean": mean,
        "score_standard_error": _finite(error),
        "score_standard_error_over_seeds": _finite(seed_error),
        "score_by_seed": [float(v) for v in values.mean(axis=1)],
        "return_mean": float(result.returns.mean()),
        "success_rate": None if successes is None else float(successes.mean()),
        "length_mean": float(result.lengths.mean()),
        "diverged_actions_by_seed": [int(n) for n in result.nonfinite_actions],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
