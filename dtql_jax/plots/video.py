"""Records videos of episodes with MuJoCo's offscreen renderer.

The episodes are those of an evaluation: the same starts and the same random draws.
"""

from __future__ import annotations

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

FORMATS = (".mp4", ".gif")
_RENDERERS = ("egl", "osmesa")
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
    """Finds an OpenGL that renders without a screen and sets $MUJOCO_GL to it.

    Each candidate is tried in its own process, because a process cannot change its OpenGL. If
    $MUJOCO_GL is set, only that one is tried. Call this before importing MuJoCo.

    Returns:
      "egl", "osmesa" or the given $MUJOCO_GL.

    Raises:
      UserError: none of them works.
    """
    given = os.environ.get("MUJOCO_GL")
    tried = (given,) if given else _RENDERERS
    for name in tried:
        ended = subprocess.run(
            [sys.executable, "-c", _PROBE],
            env=os.environ | {"MUJOCO_GL": name},
            capture_output=True,
            check=False,
        )
        if ended.returncode == 0:
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

    env = make_env(spec, render_mode="rgb_array")
    space: Any = env.action_space
    try:
        for episode in episodes:
            observation, _ = env.reset(seed=episode_seed(seed, episode))
            total, ended, step = 0.0, "", 0
            yield Frame(_render(env, spec), episode, 0, total, ended)
            while not ended:
                action = np.asarray(act(np.asarray(observation, np.float32), episode, step))
                action = np.clip(action, space.low, space.high)
                observation, reward, terminated, truncated, _ = env.step(action.astype(np.float32))
                step, total = step + 1, total + float(reward)
                if terminated or truncated:
                    success = spec.success == "reward" and total > 0
                    ended = "success" if success else "terminated" if terminated else "time is up"
                yield Frame(_render(env, spec), episode, step, total, ended)
    finally:
        env.close()


def frame_rate(spec: EnvSpec) -> int:
    """Returns the frames per second of real time."""
    from dtql_jax.envs.make import make_env

    env = make_env(spec)
    try:
        return int(env.metadata.get("render_fps", 30))
    finally:
        env.close()


def _render(env: Any, spec: EnvSpec) -> np.ndarray:
    try:
        image = env.render()
    except Exception as error:  # OpenGL raises all kinds
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{spec.env_id} cannot be rendered: {reason}") from error
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != 3:
        raise UserError(f"{spec.env_id} rendered {image.shape}; expected [height, width, 3]")
    return image.astype(np.uint8)


def captioned(frame: Frame, title: str) -> np.ndarray:
    """Returns the frame with a caption below, [H, W, 3] uint8; H and W are even, for H.264."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = (size - size % 2 for size in frame.image.shape[:2])
    sheet = Image.new("RGB", (width, height + 44), "white")
    sheet.paste(Image.fromarray(frame.image[:height, :width]), (0, 0))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    draw.text((8, height + 4), title, fill="#22262B", font=font)
    words = f"episode {frame.episode}, step {frame.step}, return {frame.reward:.4g}"
    colour = {"": "#6B737C", "success": "#0072B2"}.get(frame.ended, "#D55E00")
    words += f": {frame.ended}" if frame.ended else ""
    draw.text((8, height + 23), words, fill=colour, font=font)
    return np.asarray(sheet)


class Video:
    """An MP4 (H.264) or GIF file, written frame by frame; a context manager."""

    def __init__(self, path: str | os.PathLike, fps: int) -> None:
        """Opens the file.

        Raises:
          UserError: the suffix is not .mp4 or .gif, or the file cannot be written.
        """
        self.path = Path(path)
        if self.path.suffix.lower() not in FORMATS:
            raise UserError(f"video {path}: expected a name that ends in .mp4 or .gif")
        import imageio.v2 as imageio

        gif = self.path.suffix.lower() == ".gif"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if gif:
                # GIF durations are whole hundredths of a second
                options: dict[str, Any] = {"duration": max(20, round(1000 / fps / 10) * 10)}
                self._writer = imageio.get_writer(self.path, mode="I", loop=0, **options)
            else:
                self._writer = imageio.get_writer(
                    self.path, fps=fps, codec="libx264", quality=7, macro_block_size=2
                )
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
