"""The paper's table: what is planned, what may stand beside the paper, and the command itself."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtql_jax.commands import results
from dtql_jax.commands.sweeps.plan import GROUPS
from dtql_jax.datasets.registry import get_task
from dtql_jax.errors import UserError
from dtql_jax.evaluation.rollout import EvaluationResult
from experiments.paper_table import estimate, table
from experiments.paper_table.cells import Cell, check_same, follows_paper, make_cells
from experiments.paper_table.settings import get_config
from tests.commands.small_run import info_of
from tests.presets.test_presets import PUBLISHED

ROOT = Path(__file__).parents[2]
# the paper's Table 1: D4RL's version, DTQL's score
PAPER = """
halfcheetah-medium v2 57.9
halfcheetah-medium-replay v2 50.9
halfcheetah-medium-expert v2 92.7
hopper-medium v2 99.6
hopper-medium-replay v2 100.0
hopper-medium-expert v2 109.3
walker2d-medium v2 89.4
walker2d-medium-replay v2 88.5
walker2d-medium-expert v2 110.0
antmaze-umaze v0 94.8
antmaze-umaze-diverse v0 78.8
antmaze-medium-play v0 79.6
antmaze-medium-diverse v0 82.2
antmaze-large-play v0 52.0
antmaze-large-diverse v0 54.0
pen-human v1 64.1
pen-cloned v1 81.3
kitchen-complete v0 80.8
kitchen-partial v0 74.4
kitchen-mixed v0 60.2
"""
TABLE_1 = {row.split()[0]: row.split()[1:] for row in PAPER.strip().splitlines()}


def d4rl_folder(path: Path, tasks: Any = TABLE_1) -> str:
    """A folder with files of D4RL's names, which the plan looks for and does not open."""
    for task in tasks:
        version = TABLE_1[task][0]
        (path / get_task(f"{task}-{version}").d4rl[0].file_name).touch()
    return str(path)


def finished(
    out: Path, cell: Cell, values: np.ndarray, *, source: str = "", version: str = "v0"
) -> None:
    """What a run leaves for the table, with these returns [P, N] as its last evaluation."""
    source = source or cell.config.source
    info = info_of(cell.task, source.partition(":")[0])
    successes = values > 50 if info.env.success == "reward" else None
    counts = np.zeros(values.shape, np.int32)
    result = EvaluationResult(values, counts, successes, counts[:, 0], 1.0, 0.5, 1)
    config = cell.config.to_dict()
    facts = results.scores_of(info, result)
    summary = facts | {
        "task": cell.task,
        "source": info.source,
        "dataset_id": info.dataset_id,
        "dataset_fingerprint": info.fingerprint,
        "algorithm": cell.algorithm,
        "preset": config["preset"],
        "seeds": list(range(len(values))),
        "members": [{"seed": i, "diverged": None} for i in range(len(values))],
        "updates": config["train_steps"],
        "pretrain_updates": config["pretrain_steps"],
        "acting": {"num_candidates": 4} if "num_candidates" in config["algorithm"] else {},
        "environment": info.env.env_id,
        "episodes": values.shape[1],
        "seconds": {"data": 1.0, "train": 61.0},
        "device": {"platform": "cpu", "kind": "cpu", "devices": 1, "cpu_cores": 1},
        "versions": {},
        "commit": "unknown",
    }
    folder = out / cell.folder
    folder.mkdir(parents=True)
    run = {"config": config, "dataset": info.to_dict() | {"version": version}}
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "summary.json").write_text(json.dumps(summary))


def row_of(text: str, task: str) -> dict[str, str]:
    """A task's cells of a Markdown table, by the names of their columns."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    (found,) = [line for line in lines if line[0] == task]
    return dict(zip(lines[0], found, strict=True))


# --------------------------------------------------------------------------------------- the plan


def test_table_1_is_20_tasks_of_5_seeds_with_the_published_settings(tmp_path: Path) -> None:
    folder = d4rl_folder(tmp_path)
    cells, absent = make_cells(get_config("paper"), source="d4rl", d4rl_dir=folder)
    assert not absent
    assert {c.task for c in cells} == {f"{task}-{v}" for task, (v, _) in TABLE_1.items()}
    assert len(cells) == 20 and {c.algorithm for c in cells} == {"dtql"}
    settings = {row.split()[0]: row.split()[1:] for row in PUBLISHED.strip().splitlines()}
    for cell in cells:
        name = get_task(cell.task).name
        rate, alpha, gamma, decay, epochs, batch, expectile, shift = settings[name]
        config, algorithm = cell.config, cell.config.algorithm
        assert (algorithm.learning_rate, algorithm.alpha) == (float(rate), float(alpha)), name
        assert (algorithm.gamma, algorithm.expectile) == (float(gamma), float(expectile)), name
        assert algorithm.lr_decay == (decay == "yes"), name
        assert (algorithm.num_candidates, algorithm.hidden_dim) == (1024, 256), name
        assert config.train_steps == 1000 * int(epochs) and config.pretrain_steps == 50_000, name
        assert (config.batch_size, config.reward_shift) == (int(batch), float(shift)), name
        assert config.seeds == 5 and config.eval_every == config.train_steps, name
        episodes = 10 if get_task(name).domain == "gym" else 100
        assert config.final_eval_episodes == episodes, name
        assert follows_paper(config.to_dict(), 5, episodes), name


def test_the_files_that_are_missing_are_all_named_at_once(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("D4RL_DATASET_DIR", raising=False)
    monkeypatch.delenv("D4RL_BASE_URL", raising=False)
    here = ["hopper-medium", "pen-human"]
    folder = d4rl_folder(tmp_path, here)
    with pytest.raises(UserError) as caught:
        make_cells(get_config("paper"), source="d4rl", d4rl_dir=folder)
    message = str(caught.value)
    assert message.startswith("18 of D4RL's 20 files") and "\n" not in message
    for task, (version, _) in TABLE_1.items():
        file = get_task(f"{task}-{version}").d4rl[0].file_name
        assert (f" {file}" in message) == (task not in here), file


def test_all_algorithms_of_a_task_make_the_same_updates_on_the_same_data() -> None:
    cells, absent = make_cells(get_config("cpu"), source="generated")
    assert set(absent) == {"pen-human"}  # recorded from people
    assert {c.task for c in cells} == set(GROUPS["paper"]) - {"pen-human"}
    gym = [c for c in cells if get_task(c.task).domain == "gym"]
    assert len(gym) == 9 * 5
    for cell in gym:
        config = cell.config
        assert config.pretrain_steps + config.train_steps == 3_000, cell.folder
        assert (config.batch_size, config.data_transitions) == (128, 100_000), cell.folder
        assert config.algorithm.hidden_dim == 128 and config.seeds == 5
        assert config.algorithm.learning_rate >= 3e-4
        assert not follows_paper(config.to_dict(), 5, 100)
    assert len({c.folder for c in cells}) == len(cells)
    assert next(c for c in cells if "kitchen" in c.task).config.source == "generated:random"


def test_a_behaviour_policy_collects_antmaze_alone() -> None:
    tasks = ["antmaze-umaze", "hopper-medium"]
    cells, _ = make_cells(
        get_config("cpu"),
        source="generated",
        tasks=tasks,
        algorithms=["dtql"],
        behaviour_policy="ant.npz",
    )
    assert [c.config.behaviour_policy for c in cells] == ["ant.npz", ""]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": "generate"}, "--source is 'generate'"),
        ({"source": "generated", "tasks": ["hoper-medium"]}, "did you mean hopper-medium"),
        ({"source": "generated", "tasks": ["pointmaze-umaze"]}, "no task of this table"),
        ({"source": "generated", "algorithms": ["dqtl"]}, "'dqtl' does not exist"),
    ],
)
def test_wrong_names(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_cells(get_config("cpu"), **arguments)
    with pytest.raises(UserError, match="no preset 'gpu'"):
        get_config("gpu")


def test_a_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    config = get_config("cpu")
    (cell,), _ = make_cells(config, source="generated", tasks=["antmaze-umaze"])
    finished(tmp_path, cell, np.zeros((5, 3)))
    check_same(cell, tmp_path / cell.folder)
    config.antmaze.train_steps = 17
    (other,), _ = make_cells(config, source="generated", tasks=["antmaze-umaze"])
    with pytest.raises(UserError, match=r"holds a run with .*; choose another --out"):
        check_same(other, tmp_path / other.folder)


def test_the_estimate_is_what_was_measured_times_what_is_to_be_made(tmp_path: Path) -> None:
    (tmp_path / "door-human-v1.hdf5").touch()
    config = get_config("cpu")
    (cell,), _ = make_cells(config, source="d4rl", tasks=["door-human"], d4rl_dir=str(tmp_path))
    cost = estimate.Cost(compile=7.0, pretrain=0.5, train=2.0, act=0.1, step=0.0)
    parts = estimate.parts_of(cell, cost)
    # 500 and 2,500 updates; 20 episodes of 200 steps
    assert parts == {"data": 0.0, "compile": 7.0, "train": 5_250.0, "evaluate": 400.0}
    (line, total) = estimate.lines([cell], {estimate.kind_of(cell): cost})
    assert "door-human: about 1 h 34 min" in line and "1 runs: about 1 h 34 min" in total


# --------------------------------------------------------------------------------- what came out


def paper_cell(task: str, **changes: Any) -> Cell:
    """DTQL's cell of Table 1, perhaps with something that is not the paper's."""
    config = get_config("paper")
    version = TABLE_1[task][0]
    (cell,), _ = make_cells(config, source="minari", tasks=[task])
    cell.config.update(source="d4rl", task=f"{task}-{version}")
    for field, value in changes.items():
        place = cell.config.algorithm if field in cell.config.algorithm else cell.config
        place[field] = value
    return cell._replace(task=f"{task}-{version}")


@pytest.mark.parametrize(
    ("task", "source", "version", "changes", "shape", "shown"),
    [
        ("hopper-medium", "d4rl", "v2", {}, (5, 10), "99.6"),
        ("kitchen-mixed", "d4rl", "v0", {}, (5, 100), "60.2"),
        ("hopper-medium", "generated", "v2", {}, (5, 10), "-"),
        ("hopper-medium", "d4rl", "v1", {}, (5, 10), "-"),
        ("hopper-medium", "d4rl", "v2", {}, (4, 10), "-"),
        ("hopper-medium", "d4rl", "v2", {}, (5, 9), "-"),
        ("hopper-medium", "d4rl", "v2", {"num_candidates": 32}, (5, 10), "-"),
        ("hopper-medium", "d4rl", "v2", {"train_steps": 999_999}, (5, 10), "-"),
        ("hopper-medium", "d4rl", "v2", {"alpha": 4.0}, (5, 10), "-"),
    ],
)
def test_the_papers_number_stands_only_beside_its_own_protocol(
    tmp_path: Path,
    task: str,
    source: str,
    version: str,
    changes: dict[str, Any],
    shape: tuple[int, int],
    shown: str,
) -> None:
    cell = paper_cell(task, **changes)
    values = np.random.default_rng(0).normal(2_000.0, 300.0, shape)
    finished(tmp_path, cell, values, source=source, version=version)
    text = table.markdown(table.rows(table.read_cells(tmp_path)))
    found = row_of(text, cell.task)
    assert found["paper's DTQL"] == shown
    assert found["data: source, dataset"].startswith(source + ", ")
    assert found["time"] == "1 min 2 s"
    if source == "generated":
        # no normalisation, no name of D4RL's
        assert found["score"] == "return" and "dtql_jax/" in found["data: source, dataset"]


def test_means_and_errors_are_numpys(tmp_path: Path) -> None:
    cell = paper_cell("hopper-medium")
    values = np.random.default_rng(1).normal(2_500.0, 400.0, (5, 10))
    finished(tmp_path, cell, values, version="v2")
    expected = 100 * (values + 20.272305) / (3234.3 + 20.272305)
    error = np.std(expected, ddof=1) / np.sqrt(50)
    over_seeds = np.std(expected.mean(axis=1), ddof=1) / np.sqrt(5)
    found = table.rows(table.read_cells(tmp_path))
    (stored,) = found[0]["cells"].values()
    np.testing.assert_allclose(stored["mean"], expected.mean(), rtol=1e-12)
    np.testing.assert_allclose(stored["standard_error"], error, rtol=1e-12)
    np.testing.assert_allclose(stored["standard_error_over_seeds"], over_seeds, rtol=1e-12)
    assert (
        row_of(table.markdown(found), cell.task)["DTQL"] == f"{expected.mean():.1f} ± {error:.1f}"
    )
    # 76 against 99.6
    assert table.shortfalls(found) == [
        f"hopper-medium-v2: {99.6 - expected.mean():.1f} below the paper's 99.6"
    ]


def test_only_scores_on_the_same_data_share_a_row(tmp_path: Path) -> None:
    cells, _ = make_cells(get_config("cpu"), source="generated", tasks=["hopper-medium"])
    for place, cell in enumerate(cells[:3]):
        finished(tmp_path, cell, np.full((5, 10), 100.0 * (place + 1)))
    path = tmp_path / cells[2].folder / "summary.json"
    path.write_text(path.read_text().replace('"dtql_jax/test-v0"', '"dtql_jax/other-v0"'))
    found = table.rows(table.read_cells(tmp_path))
    assert [sorted(row["cells"]) for row in found] == [["dql", "dtql"], ["idql"]]
    text = table.markdown(
        found, planned=cells, absent={"pen-human": "recorded"}, failed={"x-y": "why"}
    )
    rows = [line for line in text.splitlines() if line.startswith("| hopper-medium |")]
    assert "100 ± 0 | 200 ± 0 | not run" in rows[0] and "300 ± 0" in rows[1]
    assert "pen-human: recorded" in text and "x-y: why" in text
    assert "not D4RL's" in text and "Preset `cpu`" in text


def test_what_has_no_result_is_not_run(tmp_path: Path) -> None:
    cells, _ = make_cells(get_config("cpu"), source="generated", tasks=["walker2d-medium"])
    text = table.write(tmp_path / "runs", tmp_path / "results", planned=cells)
    assert row_of(text, "walker2d-medium")["DTQL"] == "not run"
    assert json.loads((tmp_path / "results" / "table.json").read_text()) == {"rows": []}


def test_the_picture_and_the_record(tmp_path: Path) -> None:
    cells, _ = make_cells(get_config("cpu"), source="generated", tasks=["hopper-medium"])
    for cell in cells:
        finished(tmp_path / "runs", cell, np.random.default_rng(0).normal(0, 9, (5, 4)))
    table.write(tmp_path / "runs", tmp_path / "results", planned=cells)
    assert (tmp_path / "results" / "table.png").read_bytes()[:4] == b"\x89PNG"
    stored = (tmp_path / "results" / "table.json").read_text()
    assert str(tmp_path) not in stored and '"path"' not in stored
    (row,) = json.loads(stored)["rows"]
    assert set(row["cells"]) == {"dtql", "dql", "idql", "iql", "bc"}


# ------------------------------------------------------------------------------------ for real


SMALL = [
    "--tasks=antmaze-umaze,hopper-medium",
    "--algorithms=dtql",
    "--seeds=2",
    *(f"--config.{domain}.transitions=600" for domain in ("antmaze", "gym")),
    *(f"--config.{domain}.{name}" for domain in ("antmaze", "gym") for name in (
        "batch_size=16", "hidden_dim=16", "num_candidates=4", "episodes=1"
    )),
    "--config.gym.pretrain_steps=20",
    "--config.gym.train_steps=60",
    "--config.antmaze.pretrain_steps=50",
    "--config.antmaze.train_steps=12000",
]  # fmt: skip


@pytest.mark.slow
def test_the_command_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    """Killed in its first run, it ends with all cells; what has ended is not made again."""
    names = ("MINARI_DATASETS_PATH", "DTQL_JAX_CACHE", "HOME")
    environment = os.environ | {name: str(tmp_path / name) for name in names}
    out, shown = tmp_path / "runs", tmp_path / "results"
    command = [sys.executable, "-m", "experiments.paper_table", *SMALL]
    command += [f"--out={out}", f"--results={shown}"]
    options: dict[str, Any] = {"cwd": ROOT, "env": environment, "text": True}

    planned = subprocess.run([*command, "--dry_run"], capture_output=True, **options)
    assert planned.returncode == 0, planned.stderr
    assert "2 runs: about" in planned.stderr and not list(out.glob("*/run.json"))

    first = out / "antmaze-umaze-generated-dtql"
    with subprocess.Popen(command, stderr=subprocess.PIPE, **options) as process:
        deadline = time.monotonic() + 1_800
        # whole ones have numbers for names; a second one means that the first is whole for sure
        while sum(p.name.isdigit() for p in (first / "checkpoints").glob("*")) < 2:
            assert process.poll() is None, "it ended before it could be cut off"
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    assert not (first / "summary.json").exists()

    ended = subprocess.run(command, capture_output=True, **options)
    assert ended.returncode == 0, ended.stderr
    assert "going on at update" in ended.stderr
    assert "measuring" not in ended.stderr  # kept from the first time
    assert "| antmaze-umaze | generated, dtql_jax/" in ended.stdout
    assert "not run" not in ended.stdout
    assert (shown / "table.md").read_text() in ended.stdout
    before = {p: p.stat().st_mtime_ns for p in out.glob("*/summary.json")}
    assert len(before) == 2

    again = subprocess.run(command, capture_output=True, **options)
    assert again.returncode == 0 and "2 of them have ended" in again.stderr
    assert before == {p: p.stat().st_mtime_ns for p in out.glob("*/summary.json")}

    other = subprocess.run([*command, "--seeds=3"], capture_output=True, **options)
    assert other.returncode == 2 and "holds a run with seeds 2" in other.stderr


def test_a_policy_file_that_is_not_there() -> None:
    command = [sys.executable, "-m", "experiments.paper_table", "--behaviour_policy=no.npz"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (2, "error: --behaviour_policy: no file no.npz\n")
