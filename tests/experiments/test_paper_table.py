"""The paper's table: planned runs, comparability, conclusions, the command itself."""

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

from dtql_jax.commands import results as run_results
from dtql_jax.commands.sweeps.plan import GROUPS
from dtql_jax.datasets.registry import get_task
from dtql_jax.errors import UserError
from dtql_jax.evaluation.rollout import EvaluationResult
from dtql_jax.training.run_folder import FORMAT
from experiments.paper_table import estimate, figure, results, table
from experiments.paper_table.plan import PlannedRun, check_same, plan_runs
from experiments.paper_table.settings import get_config
from tests.commands.small_run import info_of
from tests.experiments.commands import ROOT, call
from tests.presets.test_presets import PUBLISHED

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


def planned(task: str, preset: str = "cpu", **options: Any) -> list[PlannedRun]:
    return plan_runs(get_config(preset), **{"source": "generated", "tasks": [task]} | options)[0]


def finish(out: Path, run: PlannedRun, values: np.ndarray, version: str = "v0") -> Path:
    """Writes what a run leaves, with these returns [P, N] as its last evaluation."""
    info = info_of(run.task, run.config.source)
    successes = values > 50 if info.env.success == "reward" else None
    counts = np.zeros(values.shape, np.int32)
    result = EvaluationResult(values, counts, successes, counts[:, 0], 1.0, 0.5, 1)
    config = run.config.to_dict()
    summary = run_results.scores_of(info, result) | {
        "task": run.task,
        "source": info.source,
        "dataset_id": info.dataset_id,
        "dataset_fingerprint": info.fingerprint,
        "algorithm": run.algorithm,
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
    folder = out / run.folder
    folder.mkdir(parents=True)
    dataset = info.to_dict() | {"version": version}
    record = {"format": FORMAT, "config": config, "dataset": dataset}
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "summary.json").write_text(json.dumps(summary))
    lines = [f"{update},{seed},{score}" for update in (10, 20)
             for seed, score in enumerate(values.mean(axis=1))]  # fmt: skip
    (folder / "evaluations.csv").write_text("\n".join(["update,seed,score", *lines]) + "\n")
    return folder


# --------------------------------------------------------------------------------- planned runs


def test_table_1_is_20_tasks_of_5_seeds_with_the_published_settings(tmp_path: Path) -> None:
    folder = d4rl_folder(tmp_path)
    runs, absent = plan_runs(get_config("paper"), source="d4rl", d4rl_dir=folder)
    assert not absent
    assert {run.task for run in runs} == {f"{task}-{v}" for task, (v, _) in TABLE_1.items()}
    assert len(runs) == 20 and {run.algorithm for run in runs} == {"dtql"}
    settings = {row.split()[0]: row.split()[1:] for row in PUBLISHED.strip().splitlines()}
    for run in runs:
        name = get_task(run.task).name
        rate, alpha, gamma, decay, epochs, batch, expectile, shift = settings[name]
        config, algorithm = run.config, run.config.algorithm
        assert (algorithm.learning_rate, algorithm.alpha) == (float(rate), float(alpha)), name
        assert (algorithm.gamma, algorithm.expectile) == (float(gamma), float(expectile)), name
        assert algorithm.lr_decay == (decay == "yes"), name
        assert (algorithm.num_candidates, algorithm.hidden_dim) == (1024, 256), name
        assert config.train_steps == 1000 * int(epochs) and config.pretrain_steps == 50_000, name
        assert (config.batch_size, config.reward_shift) == (int(batch), float(shift)), name
        assert config.seeds == 5 and config.train_steps == 10 * config.eval_every, name
        episodes = 10 if get_task(name).domain == "gym" else 100
        assert config.final_eval_episodes == episodes, name
        assert results.paper_differences(config.to_dict(), 5, episodes) == [], name


def test_all_missing_files_are_named_at_once(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("D4RL_DATASET_DIR", raising=False)
    monkeypatch.delenv("D4RL_BASE_URL", raising=False)
    here = ["hopper-medium", "pen-human"]
    folder = d4rl_folder(tmp_path, here)
    with pytest.raises(UserError) as caught:
        plan_runs(get_config("paper"), source="d4rl", d4rl_dir=folder)
    message = str(caught.value)
    assert message.startswith("18 of D4RL's 20 files") and "\n" not in message
    for task, (version, _) in TABLE_1.items():
        file = get_task(f"{task}-{version}").d4rl[0].file_name
        assert (f" {file}" in message) == (task not in here), file


def test_all_algorithms_of_a_task_make_the_same_updates_on_the_same_data() -> None:
    runs, absent = plan_runs(get_config("cpu"), source="generated")
    # recorded from people, or by random actions only
    left_out = {"pen-human", "kitchen-complete", "kitchen-partial", "kitchen-mixed"}
    assert set(absent) == left_out
    assert {run.task for run in runs} == set(GROUPS["paper"]) - left_out
    gym = [run for run in runs if get_task(run.task).domain == "gym"]
    assert len(gym) == 9 * 5
    for run in gym:
        config = run.config
        assert config.pretrain_steps + config.train_steps == 3_000, run.folder
        assert (config.batch_size, config.data_transitions) == (128, 100_000), run.folder
        assert config.algorithm.hidden_dim == 128 and config.seeds == 5
        assert config.algorithm.learning_rate >= 3e-4
    assert len({run.folder for run in runs}) == len(runs)


def test_a_behaviour_policy_collects_antmaze_alone() -> None:
    runs = planned("antmaze-umaze", behaviour_policy="ant.npz", algorithms=["dtql"])
    runs += planned("hopper-medium", behaviour_policy="ant.npz", algorithms=["dtql"])
    assert [run.config.behaviour_policy for run in runs] == ["ant.npz", ""]


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
        plan_runs(get_config("cpu"), **arguments)
    with pytest.raises(UserError, match="no preset 'gpu'"):
        get_config("gpu")


def test_a_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    config = get_config("cpu")
    ((run,), _) = plan_runs(config, source="generated", tasks=["antmaze-umaze"])
    folder = finish(tmp_path, run, np.zeros((5, 3)))
    check_same(run, folder)
    config.antmaze.hidden_dim = 17
    ((other,), _) = plan_runs(config, source="generated", tasks=["antmaze-umaze"])
    with pytest.raises(UserError, match=r"with algorithm\.hidden_dim 256, asked for is 17"):
        check_same(other, folder)


def test_the_estimate_is_what_was_measured_times_the_size(tmp_path: Path) -> None:
    (tmp_path / "door-human-v1.hdf5").touch()
    (run,) = planned("door-human", source="d4rl", d4rl_dir=str(tmp_path))
    cost = estimate.Cost(compile=7.0, pretrain=0.5, train=2.0, act=0.1, step=0.0)
    # 500 and 2,500 updates; 20 episodes of 200 steps
    expected = {"data": 0.0, "compile": 7.0, "train": 5_250.0, "evaluate": 400.0}
    assert estimate.parts_of(run, cost) == expected
    (line, total) = estimate.lines([run], {estimate.kind_of(run): cost})
    assert "door-human: about 1 h 34 min" in line and "1 runs: about 1 h 34 min" in total


# -------------------------------------------------------------------------------------- results


def paper_run(task: str, source: str = "d4rl", **changes: Any) -> PlannedRun:
    """DTQL's run of Table 1, perhaps with a setting that is not the paper's."""
    version = TABLE_1[task][0]
    (run,) = planned(task, "paper", source="minari")
    run.config.update(source=source, task=f"{task}-{version}")
    for field, value in changes.items():
        place = run.config.algorithm if field in run.config.algorithm else run.config
        place[field] = value
    return run._replace(task=f"{task}-{version}")


@pytest.mark.parametrize(
    ("task", "source", "version", "changes", "shape", "shown"),
    [
        ("hopper-medium", "d4rl", "v2", {}, (5, 10), 99.6),
        ("kitchen-mixed", "d4rl", "v0", {}, (5, 100), 60.2),
        ("hopper-medium", "generated", "v2", {}, (5, 10), None),
        ("hopper-medium", "d4rl", "v1", {}, (5, 10), None),
        ("hopper-medium", "d4rl", "v2", {}, (4, 10), None),
        ("hopper-medium", "d4rl", "v2", {}, (5, 9), None),
        ("hopper-medium", "d4rl", "v2", {"num_candidates": 32}, (5, 10), None),
        ("hopper-medium", "d4rl", "v2", {"train_steps": 999_999}, (5, 10), None),
        ("hopper-medium", "d4rl", "v2", {"alpha": 4.0}, (5, 10), None),
    ],
)
def test_the_papers_score_is_shown_only_for_its_own_protocol(
    tmp_path: Path,
    task: str,
    source: str,
    version: str,
    changes: dict[str, Any],
    shape: tuple[int, int],
    shown: float | None,
) -> None:
    run = paper_run(task, source, **changes)
    values = np.random.default_rng(0).normal(2_000.0, 300.0, shape)
    finish(tmp_path, run, values, version)
    (row,) = results.read_runs([tmp_path])
    assert (row["paper"] or {}).get("score") == shown
    text = table.markdown([row])
    assert f"| {source} " in text and f"{shape[0]} x {shape[1]}" in text
    assert ("comparable with the paper" in text) == (shown is None)
    assert "not the published" not in text
    for name, value in changes.items():
        assert f"{name} {value} (" in text
    if source == "generated":
        assert row["score_name"] == "return" and "data not D4RL's" in text


def test_means_errors_and_reference_range(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(2_500.0, 400.0, (5, 10))
    finish(tmp_path / "a", paper_run("hopper-medium"), values, version="v2")
    finish(tmp_path / "b", paper_run("hopper-medium", "generated"), values, version="v0")
    stored, generated = results.read_runs([tmp_path / "a", tmp_path / "b"])
    expected = 100 * (values + 20.272305) / (3234.3 + 20.272305)
    error = np.std(expected.mean(axis=1), ddof=1) / np.sqrt(5)
    np.testing.assert_allclose(stored["mean"], expected.mean(), rtol=1e-12)
    np.testing.assert_allclose(stored["standard_error"], error, rtol=1e-12)
    assert stored["reference_percent"] is None
    assert generated["reference_percent"] == pytest.approx(expected.mean())
    assert stored["curve"]["updates"] == [10, 20] and len(stored["curve"]["scores"][0]) == 5
    # 76 against 99.6
    assert table.score_text(stored) == f"{expected.mean():.1f} ± {error:.1f} normalised"
    found = table.conclusions([stored])
    assert "on 0 of 1 tasks" in found[0]
    assert f"stays {99.6 - expected.mean():.1f} below the paper's 99.6" in found[1]


def test_conclusions_compare_only_runs_on_the_same_data(tmp_path: Path) -> None:
    for place, run in enumerate(planned("hopper-medium")[:3]):
        folder = finish(tmp_path, run, np.full((5, 10), 300.0 - 100.0 * place))
    path = folder / "summary.json"
    path.write_text(path.read_text().replace("sha256:0", "sha256:1"))
    rows = results.read_runs([tmp_path])
    assert [row["algorithm"] for row in rows] == ["dtql", "dql", "idql"]
    assert [len(group) for group in table.groups(rows)] == [2, 1]
    text = table.markdown([row | {"data_return": 250.0} for row in rows])
    # DTQL and DQL were published with 256, IDQL with 512
    assert text.count("| 128 (not the published 256)") == 2
    assert text.count("| 128 (not the published 512)") == 1
    assert "3 of 3 rows were trained with another batch size than the published one" in text
    assert "above the mean return of its data in 1 of 1 rows (hopper-medium)" in text
    assert "on 1 of 1 tasks (hopper-medium)" in text
    assert "3 of 3 rows have a small budget" in text
    worse = [row | {"mean": 100.0} if row["algorithm"] == "dtql" else row for row in rows]
    assert "on 0 of 1 tasks" in "\n".join(table.conclusions(worse))


def test_data_of_random_actions_makes_no_row(tmp_path: Path) -> None:
    (run,) = planned("antmaze-umaze")
    path = finish(tmp_path, run, np.full((5, 10), 100.0)) / "summary.json"
    (row,) = results.read_runs([tmp_path])
    assert (row["score_name"], row["reference_percent"]) == ("success rate", 100.0)
    assert table.batch_text(row) == "256 (not the published 2,048)"
    assert "DTQL reaches the goal of antmaze-umaze in 100 %" in "\n".join(table.conclusions([row]))
    text = path.read_text().replace("dtql_jax/test-v0", "dtql_jax/kitchen-random/complete-v0")
    path.write_text(text)
    assert results.read_runs([tmp_path]) == []
    assert table.conclusions([]) == ["No run has finished yet."]


def test_figure_and_record(tmp_path: Path) -> None:
    for run in planned("hopper-medium"):
        finish(tmp_path, run, np.random.default_rng(0).normal(0, 9, (5, 4)))
    rows = results.read_runs([tmp_path])
    figure.draw(rows, tmp_path / "table.png")
    assert (tmp_path / "table.png").read_bytes()[:4] == b"\x89PNG"
    stored = json.dumps(rows)
    assert str(tmp_path) not in stored and '"path"' not in stored
    assert [row["algorithm"] for row in rows] == ["dtql", "dql", "idql", "iql", "bc"]


# ------------------------------------------------------------------------------ the command


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
def test_an_interrupted_table_resumes(tmp_path: Path) -> None:
    """Killed in its first run, the same command makes all rows and repeats no finished run."""
    names = ("MINARI_DATASETS_PATH", "DTQL_JAX_CACHE", "HOME")
    environment = os.environ | {name: str(tmp_path / name) for name in names}
    out, shown = tmp_path / "runs", tmp_path / "results"
    command = [sys.executable, "-m", "experiments.paper_table", *SMALL]
    command += [f"--folder={out}", f"--out={shown}"]
    options: dict[str, Any] = {"cwd": ROOT, "env": environment, "text": True}

    first_look = subprocess.run([*command, "--dry_run"], capture_output=True, **options)
    assert first_look.returncode == 0, first_look.stderr
    assert "2 runs: about" in first_look.stderr and not list(out.glob("*/run.json"))

    first = out / "antmaze-umaze-generated-dtql"
    with subprocess.Popen(command, stderr=subprocess.PIPE, **options) as process:
        deadline = time.monotonic() + 1_800
        # a checkpoint that is complete has a number for a name
        while sum(p.name.isdigit() for p in (first / "checkpoints").glob("*")) < 2:
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    assert not (first / "summary.json").exists()

    ended = subprocess.run(command, capture_output=True, **options)
    assert ended.returncode == 0, ended.stderr
    assert "antmaze-umaze" in ended.stdout and "generated" in ended.stdout
    assert (shown / "table.md").read_text() in ended.stdout
    before = {p: p.stat().st_mtime_ns for p in out.glob("*/summary.json")}
    assert len(before) == 2

    again = subprocess.run(command, capture_output=True, **options)
    assert again.returncode == 0 and "2 of them finished" in again.stderr
    assert before == {p: p.stat().st_mtime_ns for p in out.glob("*/summary.json")}

    other = subprocess.run([*command, "--seeds=3"], capture_output=True, **options)
    assert other.returncode == 2 and "holds a run with seeds 2" in other.stderr


def test_a_policy_file_that_is_not_there() -> None:
    ended = call("paper_table", "--behaviour_policy=no.npz")
    assert ended.returncode == 2
    assert ended.stderr.endswith("error: --behaviour_policy: no file no.npz\n")
    ended = call("paper_table", "--runs=nowhere", "--out=runs/nothing")
    assert ended.returncode == 2 and "--runs: no folder nowhere" in ended.stderr
