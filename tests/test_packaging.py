"""setup.cfg says what the pages and messages promise."""

import re
from pathlib import Path

from setuptools.config.setupcfg import read_configuration

ROOT = Path(__file__).parents[1]


def options() -> dict:
    """The options of setup.cfg, as setuptools reads them."""
    return read_configuration(ROOT / "setup.cfg")["options"]


def test_every_extra_that_is_named_exists() -> None:
    folders = ("dtql_jax", "experiments", "benchmarks", "docs")
    files = [ROOT / "README.md", ROOT / "Makefile"]
    files += [f for name in folders for f in (ROOT / name).rglob("*") if f.suffix in (".py", ".md")]
    named = {name for f in files for name in re.findall(r'-e "\.\[([a-z]+)\]"', f.read_text())}
    assert {"wandb", "behaviours", "cuda"} <= named
    assert named | {"docs", "types"} <= set(options()["extras_require"])


def test_the_lock_files_agree() -> None:
    files = [(ROOT / f"requirements{name}.lock").read_text() for name in ("", "-checks")]
    run, checks = (
        {line for line in text.splitlines() if not line.startswith("#")} for text in files
    )
    names = {line.split("==")[0] for line in run} & {line.split("==")[0] for line in checks}
    assert names
    for name in names:
        pinned = [{x.split(" ;")[0] for x in f if x.startswith(f"{name}==")} for f in (run, checks)]
        assert pinned[1] <= pinned[0], name


def test_every_pattern_of_package_data_finds_files() -> None:
    for package, patterns in options()["package_data"].items():
        for pattern in patterns:
            assert list((ROOT / package.replace(".", "/")).glob(pattern)), (package, pattern)
