"""The metadata, the built wheel, the Makefile and the citation."""

import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from setuptools.config.setupcfg import read_configuration

import dtql_jax
from dtql_jax import extras
from dtql_jax.errors import UserError

ROOT = Path(__file__).parents[1]


def options() -> dict:
    """The options of setup.cfg, as setuptools reads them."""
    return read_configuration(ROOT / "setup.cfg")["options"]


def test_every_extra_that_is_named_exists() -> None:
    folders = ("dtql_jax", "experiments", "benchmarks", "docs")
    files = [ROOT / "README.md", ROOT / "Makefile"]
    files += [f for name in folders for f in (ROOT / name).rglob("*") if f.suffix in (".py", ".md")]
    pattern = r'(?:-e "\.|dtql-jax)\[([a-z,]+)\]'
    named = {n for f in files for m in re.findall(pattern, f.read_text()) for n in m.split(",")}
    assert named
    assert named | set(extras.MODULES) <= set(options()["extras_require"])


def test_an_extra_brings_the_modules_that_it_names() -> None:
    known = options()["extras_require"]
    names = {"imageio_ffmpeg": "imageio-ffmpeg", "gymnasium_robotics": "gymnasium-robotics"}
    names |= {"sbx": "sbx-rl"}
    for extra, modules in extras.MODULES.items():
        listed = known[extra] + [x for other in ("envs",) if extra == "video" for x in known[other]]
        brought = {re.split(r"[\[><=]", requirement)[0] for requirement in listed}
        assert {names.get(module, module) for module in modules} <= brought, extra


def test_a_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(extras.MODULES, "reports", ("no_such_module", "json"))
    with pytest.raises(UserError) as error:
        extras.require("envs", "reports")
    expected = 'no_such_module is not installed; run: pip install "dtql-jax[reports]"'
    assert str(error.value) == expected
    with pytest.raises(UserError, match="no_such_module is not installed"), extras.named():
        import no_such_module  # noqa: F401  # pyright: ignore[reportMissingImports]
    with pytest.raises(ModuleNotFoundError), extras.named():
        import another_module  # noqa: F401  # pyright: ignore[reportMissingImports]


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


def test_the_lock_has_everything_that_is_required() -> None:
    lock = {line.split("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines()}
    known = options()
    needed = known["install_requires"] + known["extras_require"]["dev"]
    needed += [
        x for n in ("envs", "reports", "video", "tensorboard") for x in known["extras_require"][n]
    ]
    names = {re.split(r"[\[><=]", requirement)[0].lower() for requirement in needed}
    assert names - {"dtql-jax"} <= lock


def test_the_wheel_holds_what_it_needs(tmp_path: Path) -> None:
    """setuptools builds from a copy: its build/ stays out of the clone."""
    tracked = subprocess.run(
        ["git", "ls-files", "dtql_jax", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    source = tmp_path / "source"
    for name in tracked:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    program = "import setuptools.build_meta as b; print(b.build_wheel('..'))"
    built = subprocess.run(
        [sys.executable, "-c", program], cwd=source, capture_output=True, text=True, check=True
    )
    with zipfile.ZipFile(tmp_path / built.stdout.splitlines()[-1]) as wheel:
        names = set(wheel.namelist())
        folder = f"dtql_jax-{dtql_jax.__version__}.dist-info"
        metadata = wheel.read(f"{folder}/METADATA").decode()
        scripts = wheel.read(f"{folder}/entry_points.txt").decode()
    assert {name for name in tracked if name.startswith("dtql_jax/")} <= names
    shipped = {name.rpartition(".")[2] for name in names if "/behaviour/" in name}
    assert {"npz", "json"} <= shipped
    assert {"dtql_jax/py.typed", "dtql_jax/presets/dtql.py", "dtql_jax/commands/train.py"} <= names
    assert any(name.endswith(".html.j2") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "experiments/"))]
    assert "dtql-jax = dtql_jax.__main__:main" in scripts
    assert 'Requires-Dist: mujoco>=3.1.5; extra == "envs"' in metadata
    assert "Author: dtql-jax authors" in metadata


def make_line(*arguments: str) -> list[str]:
    """The command that a target of the Makefile runs."""
    # a make that `make test` has started would take its variables and name its folder
    of_make = ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "ARGS")
    own = {k: v for k, v in os.environ.items() if k not in of_make}
    words = ["make", "--dry-run", "--old-file=.venv/.ready", *arguments]
    ended = subprocess.run(words, cwd=ROOT, env=own, capture_output=True, text=True, check=True)
    return shlex.split(ended.stdout.strip().splitlines()[-1])


def test_make_quotes_its_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAKELEVEL", "1")
    monkeypatch.setenv("ARGS", "tests/test_packaging.py")
    monkeypatch.setenv("MAKEFLAGS", " -- OUT=other")
    cases = {
        ("train", "ENV=antmaze-umaze", "OUT=my runs/it's one"): "--out=my runs/it's one",
        ("resume", "RUN=my runs/a b"): "--run=my runs/a b",
        ("report", "RUN=a b,c d", "OUT=x y"): "--run=a b,c d",
        ("bandits", "OUT=x y"): "--out=x y",
    }
    for arguments, expected in cases.items():
        assert expected in make_line(*arguments), arguments


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == dtql_jax.__version__
    assert [a["family-names"] for a in citation["preferred-citation"]["authors"]] == [
        *("Chen", "Wang", "Zhou"),
    ]
