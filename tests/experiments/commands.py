"""Studies as processes of their own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]


def call(
    name: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs `python -m experiments.NAME` to its end."""
    command = [sys.executable, "-m", f"experiments.{name}", *arguments]
    env = os.environ | (environment or {})
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
