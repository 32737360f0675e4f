"""Commands as processes of their own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from dtql_jax.__main__ import COMMANDS

ROOT = Path(__file__).parents[2]
# a whole run in seconds; a flag that is given again replaces these
SMALL = (
    "--config.data_transitions=3000",
    "--config.pretrain_steps=40",
    "--steps=120",
    "--config.updates_per_call=10",
    "--config.log_every=20",
    "--config.eval_every=60",
    "--config.eval_episodes=2",
    "--config.final_eval_episodes=3",
    "--config.checkpoint_every=40",
    "--config.algorithm.hidden_dim=16",
    "--config.algorithm.num_candidates=8",
)


def command(name: str, *arguments: str) -> list[str]:
    """The command line of a command of dtql-jax, or of a study of experiments/."""
    module = ["dtql_jax", name] if name in COMMANDS else [f"experiments.{name}"]
    return [sys.executable, "-m", *module, *arguments]


def call(
    name: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    env = os.environ | (environment or {})
    words = command(name, *arguments)
    return subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True)


def assert_wrong(ended: subprocess.CompletedProcess[str], expected: str) -> None:
    """Asserts that a command ended with exit code 2 and one line on stderr."""
    assert ended.returncode == 2, ended.stderr
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith("error: ") and expected.lower() in line.lower(), line
