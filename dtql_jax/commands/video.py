"""Films episodes of a run's evaluation with MuJoCo's renderer.

dtql-jax video --run=runs/... --episodes=3 --out=film.mp4

The file is an MP4 or a GIF. The renderer needs an OpenGL without a screen (EGL or OSMesa).
"""

from pathlib import Path

from absl import flags

from dtql_jax.commands import cli
from dtql_jax.errors import UserError

EXTRAS = ("video",)


def define(argv: list[str]) -> None:
    """Defines the flags of this command."""
    cli.define_run()
    flags.DEFINE_integer("member", 0, "Which of the run's seeds, from 0.")
    flags.DEFINE_integer("episode", 0, "First episode, by its number in episodes.csv.", 0)
    flags.DEFINE_integer("episodes", 1, "Number of episodes.", 1)
    flags.DEFINE_string("out", "", "The file, .mp4 or .gif; by default video.mp4 in the run.")
    flags.DEFINE_integer("fps", 0, "Frames a second; 0: the environment's.", 0)


def run() -> None:
    """Runs the command."""
    values = flags.FLAGS
    path = cli.run_folder()
    from dtql_jax.plots import video

    out = Path(values.out or path / "video.mp4")
    if out.suffix.lower() not in video.FORMATS:
        raise UserError(f"--out={out}: expected a name that ends in .mp4 or .gif")
    renderer = video.choose_renderer()
    import numpy as np

    from dtql_jax.commands import restore
    from dtql_jax.envs.spec import EnvSpec
    from dtql_jax.training.run_folder import RunFolder

    with RunFolder.open(path) as folder:
        trainer = restore.trainer_of(folder, member=values.member)
        config, spec = folder.run["config"], EnvSpec.from_dict(folder.run["dataset"]["env"])
    policy, members = trainer.policy(), len(trainer.seeds)

    def act(observation: np.ndarray, episode: int, step: int) -> np.ndarray:
        # the compiled policy takes all members: they get the same observation
        rows = np.broadcast_to(observation, (members, 1, observation.size))
        numbers = (np.full((members, 1), number, np.int32) for number in (episode, step))
        return policy(rows, *numbers)[values.member, 0]

    seed = trainer.seeds[values.member]
    title = f"{config['algorithm']['name']} on {config['task']}, seed {seed}"
    numbers = range(values.episode, values.episode + values.episodes)
    fps = values.fps or video.frame_rate(spec)
    frames = 0
    with video.Video(out, fps) as film:
        for frame in video.play(spec, act, seed, numbers):
            image = video.captioned(frame, title)
            copies = fps if frame.ended else 1  # the last frame stays for a second
            for _ in range(copies):
                film.add(image)
            frames += copies
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
