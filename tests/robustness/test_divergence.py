"""A run whose numbers stop being finite names the term, the update and the operation."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.robustness.commands import SMALL, start

pytestmark = pytest.mark.slow
# critics that take steps of 1e12 square to infinity a few updates later
DIVERGING = ["--config.algorithm.critic_learning_rate=1e12", "--config.eval_every=4000"]


def test_the_real_command_names_term_update_and_operation(
    environment: dict[str, str],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    out = tmp_path / "run"
    process = start(environment, "train", f"--out={out}", "--debug", *SMALL, *DIVERGING)
    said = process.communicate()[1]
    assert process.returncode == 3, said
    assert "Traceback" not in said
    found = re.findall(r"warning: member (\d) .*\((\w+)\) is not finite at update (\d+)", said)
    assert [(member, term) for member, term, _ in found] == [("0", "critic"), ("1", "critic")]
    operations = re.findall(
        r"member \d \(seed \d\): first operation not finite: (\w+).* at (\S+):(\d+) \(([^)]*)\), "
        r"update (\d+)",
        said,
    )
    assert len(operations) == 2, said
    for (_, _, update), (_, file, line, _, at) in zip(found, operations, strict=True):
        # metrics show it in the update in which it happens, or in the one after
        assert int(update) - 1 <= int(at) <= int(update)
        assert Path(file).name in (
            *("losses.py", "networks.py", "layers.py"),
            *("dtql.py", "shared_updates.py", "train_state.py"),
        )
        assert int(line) > 0
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "no member is left" in errors[0]
    again = start(environment, "resume", f"--run={out}", "--debug")
    assert "first operation not finite" in again.communicate()[1]
    assert again.returncode == 3
    record_property("cases", 2)
    record_property("faults", "a learning rate that overflows")
    operation = operations[0]
    record_property(
        "found", f"exit code 3; named critic, update {found[0][2]}, {operation[0]} ({operation[3]})"
    )
