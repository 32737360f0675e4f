"""A run whose numbers stop being finite names the update, the metric and the operation."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.robustness.commands import SMALL, start

pytestmark = pytest.mark.slow
# critics that take steps of 1e12 square to infinity a few updates later
DIVERGING = ["--config.algorithm.critic_learning_rate=1e12", "--config.eval_every=4000"]


def test_the_real_command_names_update_metric_and_operation(
    environment: dict[str, str],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    out = tmp_path / "run"
    process = start(environment, "train", f"--out={out}", *SMALL, *DIVERGING)
    said = process.communicate()[1]
    assert process.returncode == 3, said
    assert "Traceback" not in said
    found = re.findall(
        r"warning: member (\d) \(seed \d\): (.*) not finite at update ([\d,]+) "
        r"\(first in (\S+) at (\S+\.py):(\d+)\)",
        said,
    )
    assert [member for member, *_ in found] == ["0", "1"], said
    for _, metrics, _, _, _, line in found:
        assert "critic" in metrics or "td_loss" in metrics
        assert int(line) > 0
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "no member is left" in errors[0]
    again = start(environment, "resume", f"--run={out}")
    assert errors[0] in again.communicate()[1]
    assert again.returncode == 3
    record_property("cases", 2)
    record_property("faults", "a learning rate that overflows")
    _, metrics, update, operation, file, _ = found[0]
    record_property(
        "found", f"exit code 3; named {metrics}, update {update}, {operation} in {file}"
    )
