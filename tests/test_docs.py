"""The documentation agrees with the code: configuration tables, code blocks, links."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

import dtql_jax
from dtql_jax.presets import base

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md"))
    if ".venv" not in page.parts
)
TINY = {"hidden_dim": 8, "num_candidates": 2}


def python_blocks(page: Path) -> list[str]:
    """The Python code blocks of a page."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.M | re.S)


def test_the_table_of_a_runs_fields_is_complete() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    section = text.split("## Fields of a run\n")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section, flags=re.M))
    config = base.base_config("TASK", "PRESET", "dtql").to_dict()
    del config["algorithm"]
    assert rows.keys() == config.keys()
    chosen = {"task": "the task's", "preset": "the preset's"}
    assert rows == {name: chosen.get(name, f"`{value!r}`") for name, value in config.items()}


@pytest.mark.slow
def test_the_tutorials_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train = dtql_jax.train

    def train_little(*args: Any, steps: int, settings: Any = (), **options: Any) -> Any:
        settings = dict(settings) | TINY
        return train(*args, steps=20, settings=settings, batch_size=16, quiet=True, **options)

    monkeypatch.setattr(dtql_jax, "train", train_little, raising=False)
    code = "\n".join(python_blocks(ROOT / "docs" / "tutorial.md"))
    assert "range(20_000)" in code
    code = code.replace("range(20_000)", "range(200)")
    names: dict = {}
    exec(compile(code, "docs/tutorial.md", "exec"), names)
    assert names["score"].returns.shape == (3, 20)
    assert names["action"].shape == (1,) and names["actions"].shape == (10, 1)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{os.path.relpath(page, ROOT)}: {target}"
