"""Films episodes of a run's policy: the same as those of its evaluation, in MuJoCo's renderer.

python -m dtql_jax video --run=runs/... --episodes=3 --out=film.mp4

The file is an MP4, or a GIF where --out says so. It needs an OpenGL that renders without a screen
(EGL or OSMesa); without one the command says so and ends.
"""

from pathlib import Path

from absl import flags

from dtql_jax.commands import cli
from dtql_jax.errors import UserError


def define(argv: list[str]) -> None:
    """The flags of this command."""
    flags.DEFINE_string("run", None, "Folder of the run.")
    flags.DEFINE_integer("member", 0, "Which of the run's seeds, from 0.")
    flags.DEFINE_integer("episode", 0, "The first episode, by its number in episodes.csv.")
    flags.DEFINE_integer("episodes", 1, "How many.")
    flags.DEFINE_string("out", "", "The file, .mp4 or .gif; by default video.mp4 in the run.")
    flags.DEFINE_integer("fps", 0, "Frames a second; 0: the environment's own time.")


def run() -> None:
    """The command."""
    values = flags.FLAGS
    if not values.run:
        raise UserError("--run is missing; expected the folder of a run (make video RUN=...)")
    for name, least in (("episode", 0), ("episodes", 1), ("fps", 0)):
        if (values[name].value or 0) < least:
            raise UserError(f"--{name} is {values[name].value}; expected at least {least}")
    from dtql_jax.plots import video

    out = Path(values.out or Path(values.run) / "video.mp4")
    if out.suffix.lower() not in video.FORMATS:
        raise UserError(f"--out={out}: expected a name that ends in .mp4 or .gif")
    renderer = video.choose_renderer()
    import numpy as np

    from dtql_jax.commands import restore
    from dtql_jax.envs.spec import EnvSpec
    from dtql_jax.training.run_folder import RunFolder

    with RunFolder.open(values.run) as folder:
        fit = restore.trainer_of(folder)
        restore.check_member(fit, values.member)
        config, spec = folder.run["config"], EnvSpec.from_dict(folder.run["dataset"]["env"])
    policy, members = fit.policy(), len(fit.seeds)

    def act(observation: np.ndarray, episode: int, step: int) -> np.ndarray:
        rows = np.broadcast_to(observation, (members, 1, observation.size))
        numbers = (np.full((members, 1), number, np.int32) for number in (episode, step))
        return policy(rows, *numbers)[values.member, 0]

    seed = fit.seeds[values.member]
    title = f"{config['algorithm']['name']} on {config['task']}, seed {seed}"
    numbers = range(values.episode, values.episode + values.episodes)
    fps = values.fps or video.frame_rate(spec)
    frames = 0
    with video.Video(out, fps) as film:
        for frame in video.play(spec, act, seed, numbers):
            image = video.captioned(frame, title)
            # the end stays for a second, so that one sees how it ended
            for _ in range(fps if frame.ended else 1):
                film.add(image)
                frames += 1
            if frame.ended:
                print(
                    f"episode {frame.episode}: {frame.ended}, {frame.step} steps, "
                    f"return {frame.reward:.4g}",
                    flush=True,
                )
    print(
        f"  {out} ({out.stat().st_size / 1e6:.1f} MB, {frames / fps:.0f} s at {fps} frames a "
        f"second, rendered by {renderer})"
    )


def main() -> None:
    """Runs the command line."""
    cli.launch(run, __doc__, define, live=True)
