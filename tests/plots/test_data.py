"""Figures of datasets: the numbers they show."""

import numpy as np

from dtql_jax.plots import data
from dtql_jax.plots.mazes import Maze

MAZE = Maze(((1, 1, 1, 1), (1, "r", "g", 1), (1, 0, 1, 1), (1, 1, 1, 1)), 2.0, (3.0, 1.0))


def test_the_histograms_bars_count_episodes(kept):
    returns = np.array([0, 0, 0, 1, 1, 4])
    lengths = np.array([10.5, 20, 20, 25, 90, 100])
    data.histogram_of_returns(returns, lengths, "", title="t", subtitle="s" * 200)
    left, right = kept[0].axes
    bars = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in left.patches}
    assert bars == {0: 3, 1: 2, 2: 0, 3: 0, 4: 1}
    assert sum(bar.get_height() for bar in right.patches) == 6
    assert [line.get_label() for axes in (left, right) for line in axes.lines] == [
        "mean 1",
        "mean 44.25",
    ]


def test_the_map_counts_visits_where_they_were(kept):
    # the cell of the goal has its centre at (4, 2), the map spans (-1, -3) to (7, 5)
    positions = np.array([[4.01, 2.01]] * 7 + [[1.9, -0.1]])
    data.visited_states(MAZE, positions, "", title="t", subtitle="s")
    axes = kept[0].axes[0]
    (image,) = axes.images
    assert image.get_extent() == [-1, 7, -3, 5]
    counts = image.get_array()
    assert counts.count() == 2 and counts.max() == 7
    row, column = np.argwhere(counts == 7)[0]
    side = 8 / counts.shape[1]
    assert -1 + column * side <= 4.01 < -1 + (column + 1) * side
    assert -3 + row * side <= 2.01 < -3 + (row + 1) * side
    star = next(line for line in axes.lines if line.get_marker() == "*")
    np.testing.assert_array_equal(star.get_xydata(), [[4, 2]])
