"""MkDocs hook: tables generated from the code, and links from the pages into the repository.

A line `<!-- generated: NAME ARGUMENT -->` becomes a table:

| line | table |
|---|---|
| generated: settings ALGORITHM | every field of an algorithm's configuration |
| generated: published ALGORITHM | the paper's settings by task |
| generated: extras | the optional dependencies |
| generated: commands | the commands of `dtql-jax` |
| generated: targets | the targets of the Makefile |

Links to files outside docs/ (`../results/table.md`) lead to `repo_url` of mkdocs.yml, or name the
file where none is set; figures are copied into the site. A link to a file that does not exist is an
error.
"""

import ast
import dataclasses
import os
import re
import textwrap
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
FIGURES = (".png", ".gif")


def on_files(files: Any, config: Any) -> Any:
    """Adds the figures of results/ and benchmarks/results/ to the site."""
    for folder in ("results", "benchmarks/results"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in FIGURES:
                name = path.relative_to(ROOT).as_posix()
                files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Fills in the generated tables, then resolves the links that leave docs/."""

    def table(match: re.Match) -> str:
        name, *arguments = match[1].split()
        return TABLES[name](*arguments)

    markdown = re.sub(r"^<!-- generated: (.+) -->$", table, markdown, flags=re.M)
    folder = Path("docs") / Path(page.file.src_uri).parent

    def link(match: re.Match) -> str:
        text, path, anchor = match[1], match[2], match[3] or ""
        target = Path(os.path.normpath(folder / path))
        if target.parts[0] == "docs":
            return match[0]
        if not (ROOT / target).exists():
            raise PluginError(f"{page.file.src_uri}: no file {target} in the repository")
        if target.suffix in FIGURES:
            inside = os.path.relpath(target, folder.relative_to("docs"))
            return f"[{text}]({inside})"
        if not config.repo_url:
            return text if target.name in text else f"{text} (`{target.as_posix()}`)"
        kind = "tree" if (ROOT / target).is_dir() else "blob"
        return f"[{text}]({config.repo_url.rstrip('/')}/{kind}/main/{target.as_posix()}{anchor})"

    return re.sub(r"\[([^\[\]]*)\]\((\.\.?/[^)#\s]+)(#[^)]*)?\)", link, markdown)


def settings_table(algorithm: str) -> str:
    """Every field of an algorithm: default, accepted values, meaning, traced or static."""
    from dtql_jax.algorithms import ALGORITHMS, default_settings

    config_type = ALGORITHMS[algorithm][0]
    meanings = comments(config_type)
    rows = ["| field | default | accepted | traced | meaning |", "|---|---|---|---|---|"]
    for name, default in default_settings(algorithm).items():
        traced = "yes" if name in traced_fields(config_type) else ""
        row = (f"`{name}`", f"`{default!r}`", accepted(algorithm, name, default), traced)
        rows.append(f"| {' | '.join(row)} | {meanings[name]} |")
    return "\n".join(rows)


def traced_fields(config_type: Any) -> set[str]:
    """The fields that are leaves of the state, so that they may differ between members."""
    own = dataclasses.fields(config_type)
    return {field.name for field in own if field.metadata.get("pytree_node", True)}


def comments(config_type: Any) -> dict[str, str]:
    """Field -> its comment in the source: after the value, and on comment lines below it."""
    import inspect

    source = textwrap.dedent(inspect.getsource(config_type))
    lines = source.splitlines()
    found = {}
    for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            last = node.end_lineno or node.lineno
            text = lines[last - 1].partition("  # ")[2]
            name = node.target.id
            if not text or text.split()[0] in ("of", "per", "over"):
                text = f"{name.removeprefix('critic_').replace('_', ' ')} {text}"
            found[name] = text[:1].upper() + text[1:]
    return found


def accepted(algorithm: str, field: str, default: Any) -> str:
    """The range of a field, from the error that a value out of range raises."""
    from dtql_jax.algorithms import make_algorithm
    from dtql_jax.errors import UserError

    if isinstance(default, bool):
        return "`True`, `False`"
    for value in ("?",) if isinstance(default, str) else (-1, 2.0, 2**31 - 1):
        try:
            make_algorithm(algorithm, {field: type(default)(value)})
        except UserError as error:
            text = str(error).partition("expected ")[2]
            text = re.sub(r"^(a number|an integer|one of) ?", "", text)
            words = re.findall(r"'(\w+)'", text)
            return ", ".join(f"`{word}`" for word in words) or text.replace(">=", "≥")
    return "any number"


def published_table(algorithm: str) -> str:
    """The paper's settings by task, as `get_config` has them; columns that vary between tasks."""
    from dtql_jax import presets
    from dtql_jax.presets import baselines, dtql

    rows = {}
    for task in {"dtql": dtql.PAPER, "dql": baselines.DQL}[algorithm]:
        config = presets.get_config(f"{task},paper,{algorithm}")
        own = {k: v for k, v in config.algorithm.items() if k not in ("name", "decay_steps")}
        run = ("batch_size", "pretrain_steps", "train_steps", "reward_scale", "reward_shift")
        rows[task] = own | {key: config[key] for key in run}
    columns = [
        key for key in next(iter(rows.values())) if len({row[key] for row in rows.values()}) > 1
    ]
    lines = [
        f"| task | {' | '.join(f'`{c}`' for c in columns)} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for task, row in rows.items():
        lines.append(f"| {task} | {' | '.join(cell(row[key]) for key in columns)} |")
    return "\n".join(lines)


def cell(value: Any) -> str:
    """A value as a cell of a table."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def extras_table() -> str:
    """The extras of setup.cfg: the comment above each of them, and its packages."""
    text = (ROOT / "setup.cfg").read_text()
    section = text.split("[options.extras_require]\n")[1].split("\n[")[0]
    rows = ["| extra | for | packages |", "|---|---|---|"]
    for note, name, packages in re.findall(
        r"^((?:# .*\n)*)(\w+) =\n((?:[ ]+.*\n?)*)", section, flags=re.M
    ):
        comment = " ".join(line.removeprefix("# ") for line in note.splitlines())
        named = [line for line in packages.split("\n") if line and "#" not in line]
        rows.append(f"| `{name}` | {comment} | {', '.join(n.strip() for n in named)} |")
    return "\n".join(rows)


def commands_table() -> str:
    """The commands of `dtql-jax`, with their descriptions."""
    from dtql_jax.__main__ import COMMANDS

    rows = [f"| `dtql-jax {name}` | {text} |" for name, text in COMMANDS.items()]
    return "\n".join(["| command | what it does |", "|---|---|", *rows])


def targets_table() -> str:
    """The targets of the Makefile, with their arguments."""
    text = (ROOT / "Makefile").read_text()
    rows = [
        f"| `make {name}` | {about.replace('|', chr(92) + '|')} |"
        for name, about in re.findall(r"^([a-z-]+):.*?## (.*)$", text, flags=re.M)
    ]
    return "\n".join(["| target | what it does, and its arguments |", "|---|---|", *rows])


TABLES = {
    "settings": settings_table,
    "published": published_table,
    "extras": extras_table,
    "commands": commands_table,
    "targets": targets_table,
}
