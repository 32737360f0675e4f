"""Which MuJoCo versions have other physics, from what was measured of them."""

import pytest

from dtql_jax.datasets.physics import physics_differ


@pytest.mark.parametrize(
    ("env_id", "recorded", "installed", "differ"),
    [
        ("AntMaze_Large-v4", "3.4.0", "3.5.0", True),
        ("dtql_jax/AntMazeD4RL-v0", "3.10.1", "3.2.7", True),
        ("AntMaze_Large-v4", "3.5.0", "3.12.1", False),
        ("AntMaze_Large-v4", "3.1.5", "3.2.7", False),
        ("AdroitHandPen-v1", "3.2.7", "3.3.0", True),
        ("dtql_jax/AdroitPenD4RL-v0", "3.2.7", "3.4.0", True),
        ("AdroitHandDoor-v1", "3.2.7", "3.4.0", False),
        ("InvertedPendulum-v5", "3.2.7", "3.4.0", False),
        ("AntMaze_Large-v4", "", "3.5.0", False),
    ],
)
def test_physics_differ(env_id, recorded, installed, differ):
    line = physics_differ(env_id, recorded, installed)
    assert bool(line) == differ
    assert not differ or (recorded in line and installed in line and "\n" not in line)
