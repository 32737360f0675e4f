"""Learning curves and training metrics: the numbers they show."""

import numpy as np
import pytest

from dtql_jax.errors import UserError
from dtql_jax.plots import curves

NAMES = {"task": "hopper-medium", "source": "minari", "dataset": "mujoco/hopper/medium-v0"}


def evaluations(seeds, updates=6):
    """Rows as a CSV file gives them: text."""
    return [
        {"update": str(1000 * k), "seed": str(seed), "score": f"{10.0 * k + seed}"}
        for k in range(1, updates)
        for seed in seeds
    ]


def metrics(seeds=(0, 1)):
    rows = []
    for update in range(0, 1000, 50):
        phase = "pretrain" if update < 300 else "train"
        for seed in seeds:
            row = {"update": update, "phase": phase, "step": update, "seed": seed}
            row |= {"critic_loss": 10.0 ** (-update / 200), "bc_loss": -seed - update}
            rows.append(row | {"policy_loss": "" if phase == "pretrain" else str(update)})
    return rows


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_learning_curve_is_a_png(tmp_path, assert_png, seeds):
    path = tmp_path / "curve.png"
    curves.learning_curve(evaluations(seeds), path, score_name="success rate", **NAMES)
    assert_png(path, 1024, 640)


def test_learning_curve_shows_mean_and_error_over_seeds(kept):
    curves.learning_curve(evaluations((0, 1, 5)), "", score_name="normalised score", **NAMES)
    (axes,) = kept[0].axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    x, y = lines["mean of 3 seeds"].get_data()
    np.testing.assert_allclose(x, [1000, 2000, 3000, 4000, 5000])
    np.testing.assert_allclose(y, 10.0 * np.arange(1, 6) + 2)
    error = np.std([0, 1, 5], ddof=1) / np.sqrt(3)
    band = axes.collections[0].get_datalim(axes.transData)
    np.testing.assert_allclose([band.y0, band.y1], [12 - error, 52 + error])
    texts = [text.get_text() for text in axes.texts]
    assert f"52.0 ± {error:.1f}" in texts
    assert "minari data: mujoco/hopper/medium-v0" in texts
    assert axes.get_title(loc="left") == "hopper-medium"
    assert axes.get_ylabel() == "normalised score (0: random, 100: expert)"
    assert axes.get_xlabel() == "updates, pretraining included"


def test_training_curves_draw_every_metric_where_it_was_computed(kept):
    curves.training_curves(metrics(), "", title="t")
    panels = {axes.get_ylabel(): axes for axes in kept[0].axes}
    assert list(panels) == ["critic loss (reward²)", "bc loss", "policy loss"]
    assert panels["critic loss (reward²)"].get_yscale() == "log"
    assert panels["bc loss"].get_yscale() == "linear"
    x, y = panels["policy loss"].get_lines()[-1].get_data()
    assert x.min() == 300
    np.testing.assert_allclose(y, x)
    x, y = panels["bc loss"].get_lines()[-1].get_data()
    np.testing.assert_allclose(y, -0.5 - x)


def test_training_curves_are_a_png(tmp_path, assert_png):
    path = tmp_path / "metrics.png"
    curves.training_curves(metrics(), path, title="hopper-medium")
    assert_png(path, round((3.3 * 3 + 0.2) * 160), round((2.5 + 0.6) * 160))


def test_rows_without_values_are_named():
    with pytest.raises(UserError, match="no row has a score to draw"):
        curves.learning_curve([{"update": 1, "seed": 0}], "", score_name="return", **NAMES)
    with pytest.raises(UserError, match="no metrics to draw"):
        curves.training_curves([], "", title="t")
