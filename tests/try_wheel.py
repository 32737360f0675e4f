"""Installs a wheel in fresh environments and uses it away from the clone (make wheel).

    python tests/try_wheel.py dist/dtql_jax-VERSION-py3-none-any.whl

One environment has no extra: arrays, training, acting, export. The other has all of them: a run of
the command to its score, and the same task in Python.
"""

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]

ARRAYS = """
import numpy as np
import dtql_jax
rng = np.random.default_rng(0)
rows = rng.normal(size=(64, 3)).astype(np.float32)
data = {"observations": rows, "next_observations": rows, "rewards": np.ones(64)}
data |= {"actions": rng.uniform(-1, 1, (64, 2)), "masks": np.ones(64)}
trained = dtql_jax.train(
    data, steps=10, batch_size=16, quiet=True, settings={"hidden_dim": 16, "num_candidates": 4}
)
trained.save("policy.zip")
policy = dtql_jax.load_policy("policy.zip")
np.testing.assert_allclose(policy(rows[0], 1), trained.act(rows[0], 1), atol=2e-6)
print("trained on arrays, exported and loaded a policy")
"""
TASK = """
import dtql_jax
settings = {"hidden_dim": 16, "num_candidates": 4}
trained = dtql_jax.train("pointmaze-umaze", steps=20, transitions=3000, settings=settings)
print(trained.evaluate(episodes=2).name)
"""
SMALL = ("--config.data_transitions=3000", "--steps=100", "--config.final_eval_episodes=2")
SMALL += ("--config.algorithm.hidden_dim=16", "--config.algorithm.num_candidates=4")


def install(folder: Path, what: str) -> Path:
    """Makes an environment with a wheel in it; returns its folder of programs."""
    venv.create(folder, with_pip=True)
    words = ["-m", "pip", "install", "-q", "-c", str(ROOT / "requirements.lock"), what]
    subprocess.run([folder / "bin" / "python", *words], check=True)
    return folder / "bin"


def main() -> None:
    """Tries the wheel that the command line names."""
    wheel = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        own = {"MINARI_DATASETS_PATH": f"{name}/minari", "DTQL_JAX_CACHE": f"{name}/cache"}
        environment = os.environ | own

        def call(*words: str | Path, code: int = 0) -> str:
            ended = subprocess.run(
                words, cwd=place, env=environment, stderr=subprocess.PIPE, text=True
            )
            if ended.returncode != code:
                sys.exit(f"{words} ended with {ended.returncode}: {ended.stderr}")
            return ended.stderr

        programs = install(place / "plain", str(wheel))
        call(programs / "python", "-c", ARRAYS)
        said = call(programs / "dtql-jax", "report", "--run=none", code=2)
        if 'pip install "dtql-jax[reports]"' not in said:
            sys.exit(f"expected the missing extra to be named: {said}")
        programs = install(place / "all", f"{wheel}[all]")
        call(programs / "dtql-jax", "train", "--env=pointmaze-umaze", "--out=my run", *SMALL)
        call(programs / "dtql-jax", "report", "--run=my run")
        call(programs / "python", "-c", TASK)
    print(f"{wheel.name} works in fresh environments, with extras and without")


if __name__ == "__main__":
    main()
