"""Records videos of episodes with MuJoCo's offscreen renderer.

The episodes are those of an evaluation: the same starts and the same random draws.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dtql_jax.envs.spec import EnvSpec
from dtql_jax.errors import UserError
from dtql_jax.evaluation.rollout import episode_seed
from dtql_jax.plots import style

FORMATS = (".mp4", ".gif")
_PROBE = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><geom size='.1'/></worldbody></mujoco>")
renderer = mujoco.Renderer(model, 16, 16)
renderer.update_scene(mujoco.MjData(model))
renderer.render()
renderer.close()
"""

# observations [O] float32, episode, step -> action [A]
Act = Callable[[np.ndarray, int, int], np.ndarray]


class Frame(NamedTuple):
    """One frame of an episode.

    Attributes:
      image: [H, W, 3] uint8.
      episode: number of the episode.
      step: steps taken before the frame.
      reward: sum of the rewards so far.
      ended: "success", "terminated" or "time is up" in the last frame, else "".
    """

    image: np.ndarray
    episode: int
    step: int
    reward: float
    ended: str


def choose_renderer() -> str:
    """Sets $MUJOCO_GL to an OpenGL that renders without a screen, and returns its name.

    EGL and OSMesa are tried, or only $MUJOCO_GL if it is set; each in its own process, because a
    process cannot change its OpenGL. Call this before importing MuJoCo.

    Raises:
      UserError: none of them works.
    """
    given = os.environ.get("MUJOCO_GL")
    tried = (given,) if given else ("egl", "osmesa")
    for name in tried:
        environment = os.environ | {"MUJOCO_GL": name}
        words = [sys.executable, "-c", _PROBE]
        if subprocess.run(words, env=environment, capture_output=True).returncode == 0:
            os.environ["MUJOCO_GL"] = name
            return name
    raise UserError(
        f"no OpenGL here that renders without a screen (tried MUJOCO_GL={', '.join(tried)}); "
        "install one, on Debian `apt-get install libosmesa6` (CPU) or `libegl1` (GPU driver)"
    )


def play(spec: EnvSpec, act: Act, seed: int, episodes: Sequence[int]) -> Iterator[Frame]:
    """Plays episodes and yields a frame before the first step and after each.

    Args:
      spec: the environment.
      act: the policy; actions are clipped to the action space.
      seed: the evaluated member's seed.
      episodes: numbers of the episodes in the evaluation.

    Raises:
      UserError: the environment cannot render.
    """
    from dtql_jax.envs.make import make_env

    with contextlib.closing(make_env(spec, render_mode="rgb_array")) as env:
        space: Any = env.action_space
        for episode in episodes:
            observation, _ = env.reset(seed=episode_seed(seed, episode))
            total, ended, step = 0.0, "", 0
            yield Frame(_render(env, spec), episode, 0, total, ended)
            while not ended:
                action = np.asarray(act(np.asarray(observation, np.float32), episode, step))
                action = np.clip(action, space.low, space.high).astype(np.float32)
                observation, reward, terminated, truncated, _ = env.step(action)
                step, total = step + 1, total + float(reward)
                if terminated or truncated:
                    success = spec.success == "reward" and total > 0
                    ended = "success" if success else "terminated" if terminated else "time is up"
                yield Frame(_render(env, spec), episode, step, total, ended)


def frame_rate(spec: EnvSpec) -> int:
    """Returns the frames per second of real time."""
    from dtql_jax.envs.make import make_env

    with contextlib.closing(make_env(spec)) as env:
        return int(env.metadata.get("render_fps", 30))


def _render(env: Any, spec: EnvSpec) -> np.ndarray:
    try:
        return np.asarray(env.render(), np.uint8)
    except Exception as error:  # OpenGL raises all kinds
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{spec.env_id} cannot be rendered: {reason}") from error


def captioned(frame: Frame, title: str) -> np.ndarray:
    """Returns the frame with a caption below, [H, W, 3] uint8; H and W are even, for H.264."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = (size - size % 2 for size in frame.image.shape[:2])
    sheet = Image.new("RGB", (width, height + 44), "white")
    sheet.paste(Image.fromarray(frame.image[:height, :width]), (0, 0))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    draw.text((8, height + 4), title, fill=style.INK, font=font)
    words = f"episode {frame.episode}, step {frame.step}, return {frame.reward:.4g}"
    words += f": {frame.ended}" if frame.ended else ""
    colour = {"": style.GREY, "success": style.BLUE}.get(frame.ended, style.VERMILION)
    draw.text((8, height + 23), words, fill=colour, font=font)
    return np.asarray(sheet)


class Video:
    """An MP4 (H.264) or GIF file, written frame by frame; a context manager."""

    def __init__(self, path: Path, fps: int) -> None:
        """Opens the file; UserError for another suffix, or where it cannot be written."""
        import imageio.v2 as imageio

        # durations of GIFs are whole hundredths of a second
        gif: Any = {"mode": "I", "loop": 0, "duration": max(20, round(1000 / fps / 10) * 10)}
        mp4: Any = {"fps": fps, "codec": "libx264", "quality": 7, "macro_block_size": 2}
        suffix = path.suffix.lower()
        if suffix not in FORMATS:
            raise UserError(f"video {path}: expected a name that ends in .mp4 or .gif")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = imageio.get_writer(path, **(gif if suffix == ".gif" else mp4))
        except OSError as error:
            raise UserError(f"video {path} cannot be written: {error.strerror or error}") from error

    def add(self, image: np.ndarray) -> None:
        """Appends one frame, [H, W, 3] uint8, of the same size as the others."""
        with warnings.catch_warnings():
            # the first frame starts ffmpeg by fork and exec; no JAX code runs in the child
            warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called")
            self._writer.append_data(image)

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: Any) -> None:
        self._writer.close()
