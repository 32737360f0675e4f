"""Commands as processes of their own."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def call(name: str, *arguments: str) -> subprocess.CompletedProcess:
    """Runs `python -m experiments.NAME` to its end."""
    command = [sys.executable, "-m", "dtql_jax", name, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
