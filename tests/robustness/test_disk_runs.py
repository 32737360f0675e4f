"""Real commands on a disk that is full, and in folders that cannot be written."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.robustness.commands import ROOT, SMALL, end, progress, start, wait

TABLES = ("metrics.csv", "evaluations.csv", "episodes.csv")

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def whole(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    end(start(environment, "train", f"--out={out}", "--quiet", *SMALL))
    return out


def lines(said: str, word: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith(f"{word}: ")]


def assert_same(folder: Path, whole: Path) -> None:
    for name in TABLES:
        assert (folder / name).read_text() == (whole / name).read_text(), name


# A file system of its own: MIB of memory, mounted where only this shell and its children see it.
# The run fills it, and is resumed once there is room. $1: folder, $2: where the results go.
SMALL_DISK = """
mount -t tmpfs -o size=MIBm tmpfs "$1" || exit 99
"$PYTHON" -m dtql_jax train --out="$1/run" --quiet $SETTINGS 2> "$2/first"
echo $? > "$2/code"
ls "$1/run/checkpoints" > "$2/checkpoints"
mount -o remount,size=64m "$1" || exit 99
"$PYTHON" -m dtql_jax resume --run="$1/run" --quiet 2> "$2/second"
code=$?
cp -r "$1/run" "$2/run"
exit $code
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="file systems of one's own need Linux")
def test_a_full_disk(
    environment: dict[str, str],
    whole: Path,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    mount, results = tmp_path / "disk", tmp_path / "results"
    mount.mkdir()
    results.mkdir()
    own = {"PYTHON": sys.executable, "SETTINGS": " ".join(SMALL)}
    # two checkpoints of 0.4 MB each do not fit, one does, beside all the rest
    script = SMALL_DISK.replace("MIBm", "1000k")
    ended = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", str(mount), str(results)],
        cwd=ROOT,
        env=environment | own,
        capture_output=True,
        text=True,
    )
    if ended.returncode == 99 or not (results / "code").exists():
        pytest.skip(f"no file system of one's own here: {ended.stderr.strip()}")
    first = (results / "first").read_text()
    assert (results / "code").read_text().strip() == "3", first
    assert len(lines(first, "error")) == 1 and "make resume RUN=" in first, first
    assert len(first.splitlines()) == 1, first
    assert (results / "checkpoints").read_text().split(), "no checkpoint was whole"
    assert ended.returncode == 0, (results / "second").read_text()
    assert_same(results / "run", whole)
    record_property("cases", 2)
    record_property("faults", "a full file system during training")
    record_property("found", "exit code 3 with one line; resumed with room to the same rows")


def test_a_folder_that_cannot_be_written_any_more(
    environment: dict[str, str],
    whole: Path,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    out = tmp_path / "run"
    process = start(environment, "train", f"--out={out}", "--quiet", *SMALL, forbidden=True)
    assert wait(process, lambda: progress(out) >= 80)
    checkpoints = out / "checkpoints"
    os.chmod(checkpoints, 0o555)
    said = process.communicate()[1]
    os.chmod(checkpoints, 0o755)
    assert process.returncode == 3, said
    assert "Permission denied" in said, said
    assert len(lines(said, "error")) == 1 and f"make resume RUN={out}" in said, said
    assert len(said.splitlines()) == 1, said
    end(start(environment, "resume", f"--run={out}", "--quiet"))
    assert_same(out, whole)
    record_property("cases", 1)
    record_property("faults", "checkpoints/ becomes unwritable during training")
    record_property("found", "exit code 3 with one line; resumed to the same rows")


def test_folders_that_never_could(
    environment: dict[str, str],
    whole: Path,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    read_only = tmp_path / "read_only"
    shutil.copytree(whole, read_only / "run")
    os.chmod(read_only / "run", 0o555)
    os.chmod(read_only, 0o555)
    data = environment | {"MINARI_DATASETS_PATH": str(read_only / "minari")}
    cases = [
        (environment, ("train", f"--out={read_only / 'new'}", *SMALL), 2, "cannot be made"),
        (environment, ("train", f"--out={read_only}", *SMALL), 2, "is not empty"),
        (data, ("collect", "--env=pointmaze-umaze", "--transitions=500"), 2, "cannot write to"),
        (environment, ("export", f"--run={read_only / 'run'}"), 2, "Permission denied"),
    ]
    try:
        for where, arguments, code, words in cases:
            process = start(where, *arguments, forbidden=True)
            said = process.communicate()[1]
            assert process.returncode == code, (arguments, said)
            assert len(lines(said, "error")) == 1 and words in said, (arguments, said)
            assert "Traceback" not in said
    finally:
        os.chmod(read_only, 0o755)
        os.chmod(read_only / "run", 0o755)
    assert [path.name for path in read_only.iterdir()] == ["run"]
    assert json.loads((read_only / "run" / "summary.json").read_text())["seeds"] == [0, 1]
    record_property("cases", len(cases))
    record_property("faults", "folders without permission to write")
    record_property("found", "exit code 2 with one line each")
