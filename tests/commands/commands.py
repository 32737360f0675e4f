"""Commands as processes of their own."""

import subprocess
import sys
from pathlib import Path

from dtql_jax.__main__ import COMMANDS

ROOT = Path(__file__).parents[2]


def call(name: str, *arguments: str) -> subprocess.CompletedProcess:
    """Runs a command of dtql-jax, or a study of experiments/, to its end."""
    module = ["dtql_jax", name] if name in COMMANDS else [f"experiments.{name}"]
    command = [sys.executable, "-m", *module, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
