"""Videos: the evaluation's episodes, readable files, one line where OpenGL is missing."""

import os
import subprocess
import sys
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest

from dtql_jax.envs.spec import EnvSpec
from dtql_jax.errors import UserError
from dtql_jax.evaluation import rollout
from dtql_jax.plots import video

ROOT = Path(__file__).parents[2]
SPEC = EnvSpec(
    "PointMaze_UMaze-v3",
    12,
    {"continuing_task": False},
    ("observation", "desired_goal"),
    success="reward",
)


@pytest.fixture(scope="module")
def renderer():
    """The name of an OpenGL that renders without a screen; skips the test without one."""
    before = os.environ.get("MUJOCO_GL")
    try:
        yield video.choose_renderer()
    except UserError as error:
        pytest.skip(str(error))
    finally:
        if before is None:
            os.environ.pop("MUJOCO_GL", None)


def act(observation: np.ndarray, episode: int, step: int) -> np.ndarray:
    # beyond the action space on purpose
    return np.array([3.0, -0.1 * episode - 0.01 * step]) + observation[:2]


def policy(observations, episodes, steps):
    rows = [act(o, e, s) for o, e, s in zip(observations[0], episodes[0], steps[0], strict=True)]
    return np.stack(rows)[None]


def test_the_video_shows_the_evaluations_episodes(renderer: str) -> None:
    result = rollout.evaluate(policy, SPEC, seeds=[5], episodes=3, record=3, workers=0)
    frames = list(video.play(SPEC, act, 5, [2, 0]))
    ends = [frame for frame in frames if frame.ended]
    assert [frame.episode for frame in ends] == [2, 0]
    for end in ends:
        assert end.step == result.lengths[0, end.episode]
        assert end.reward == result.returns[0, end.episode]
        assert (end.ended == "success") == result.successes[0, end.episode]
    assert len(frames) == result.lengths[0, [2, 0]].sum() + 2
    first, last = frames[0].image, frames[result.lengths[0, 2]].image
    assert first.dtype == np.uint8 and first.ndim == 3
    assert first.std() > 10  # not blank
    assert np.abs(first.astype(int) - last).max() > 50  # something moved


def test_files_can_be_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (64, 48, 3)).astype(np.uint8) for _ in range(6)]
    for name in ("video.mp4", "deep/video.gif"):
        with video.Video(tmp_path / name, fps=25) as file:
            for image in images:
                file.add(image)
        with imageio.get_reader(tmp_path / name) as reader:
            read = [np.asarray(frame)[..., :3] for frame in reader]
        assert len(read) == 6 and read[0].shape == (64, 48, 3)
    with pytest.raises(UserError, match=r"ends in \.mp4 or \.gif"):
        video.Video(tmp_path / "video.avi", fps=25)


def test_captions_stand_below_an_even_picture() -> None:
    image = np.full((51, 201, 3), 7, np.uint8)
    one = video.captioned(video.Frame(image, 0, 3, 0.0, ""), "bc on a task")
    other = video.captioned(video.Frame(image, 0, 3, 1.0, "success"), "bc on a task")
    assert one.shape == (94, 200, 3)
    assert (one[:50] == 7).all() and not (one[50:] == 255).all()
    assert not np.array_equal(one, other)


def test_no_gl_is_one_line() -> None:
    program = "from dtql_jax.plots import video; video.choose_renderer()"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"MUJOCO_GL": "nothing"},
        capture_output=True,
        text=True,
    )
    last = ended.stderr.strip().splitlines()[-1]
    assert "UserError: no OpenGL here" in last and "MUJOCO_GL=nothing" in last
