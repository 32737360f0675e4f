"""Sweeps: the plan, a grid here, a Slurm script run by hand, a Ray cluster."""

import csv
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from dtql_jax.commands.runner import Member
from dtql_jax.commands.sweeps import plan, results
from dtql_jax.errors import UserError
from dtql_jax.presets import get_config
from dtql_jax.training.logging import read_rows
from tests.commands.commands import ROOT, SMALL, call, command

SMALLER = (
    *SMALL,
    *("--config.pretrain_steps=20", "--steps=60", "--config.checkpoint_every=20"),
    *("--config.final_eval_episodes=2", "--config.record_episodes=0"),
)


# ---------------------------------------------------------------------------------- the plan


def test_a_grid_is_one_population() -> None:
    config = get_config("pointmaze-umaze")
    config.seeds = 5
    axes = [plan.parse_axis(text, config) for text in ("alpha=0.5,1,5", "gamma=0,1")]
    assert axes[0] == ("algorithm.alpha", (0.5, 1.0, 5.0))
    traced = {"pointmaze-umaze": ("alpha", "gamma")}
    (job,) = plan.make_jobs([config], axes, traced, {"pointmaze-umaze": 100})
    assert len(job.members) == 30
    assert job.members[0] == Member(0, {"alpha": 0.5, "gamma": 0.0})
    assert job.members[-1] == Member(4, {"alpha": 5.0, "gamma": 1.0})
    # gamma 0 would compile the NLL away for all members
    assert job.config["algorithm"]["gamma"] == 1.0
    chunks = plan.make_jobs([config], axes, traced, {"pointmaze-umaze": 12})
    assert [len(j.members) for j in chunks] == [12, 12, 6]
    assert sum((j.members for j in chunks), ()) == job.members


def test_fields_that_are_not_traced_make_jobs_of_their_own() -> None:
    configs = [get_config(task) for task in ("pointmaze-umaze", "hopper-medium")]
    texts = ("batch_size=64,128", "policy=gaussian,deterministic", "alpha=1,2")
    axes = [plan.parse_axis(text, configs[0]) for text in texts]
    traced = dict.fromkeys(("pointmaze-umaze", "hopper-medium"), ("alpha",))
    jobs = plan.make_jobs(configs, axes, traced, dict.fromkeys(traced, 9))
    assert len(jobs) == 8 and all(len(job.members) == 2 for job in jobs)
    assert jobs[-1].settings == {"batch_size": 128, "algorithm.policy": "deterministic"}
    assert jobs[-1].config["batch_size"] == 128
    assert jobs[-1].config["algorithm"]["policy"] == "deterministic"
    assert jobs[-1].config["task"] == "hopper-medium"
    assert len({job.name for job in jobs}) == 8


def test_groups_of_tasks() -> None:
    assert len(plan.expand_tasks(["paper"])) == 20
    assert plan.expand_tasks(["antmaze", "antmaze-umaze", "x"])[-1] == "x"
    assert len(plan.expand_tasks(["antmaze", "antmaze-umaze"])) == 6


def test_a_plan_is_not_replaced(tmp_path: Path) -> None:
    config, path = get_config("pointmaze-umaze"), tmp_path / "sweep" / "sweep.json"
    axes = [plan.parse_axis("batch_size=16,32", config)]
    jobs = plan.make_jobs([config], axes, {"pointmaze-umaze": ()}, {"pointmaze-umaze": 9})
    plan.write(path, jobs)
    assert plan.read(path) == jobs
    plan.write(path, jobs)
    with pytest.raises(UserError, match="holds another sweep"):
        plan.write(path, jobs[:1])
    path.rename(path.with_name("notes.json"))
    with pytest.raises(UserError, match="is not empty"):
        plan.write(path, jobs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alpha", "expected FIELD=VALUE,VALUE"),
        ("alpha=1,,2", "expected FIELD=VALUE,VALUE"),
        ("alpga=1", "did you mean alpha"),
        ("batch_size=large", "'large'; expected int"),
        ("seed=1,2", "--sweep seed"),
        ("lr_decay=maybe", "expected true or false"),
    ],
)
def test_wrong_axes(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan.parse_axis(text, get_config())


# ------------------------------------------------------------------------------------ for real


@pytest.fixture(scope="module")
def grid(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sweeps") / "grid"
    axes = ["--sweep", "alpha=0.5,5", "--sweep=learning_rate=1e-3,1e30", "--sweep=batch_size=32"]
    ended = call("sweep", f"--out={out}", "--seeds=1", *axes, *SMALLER, environment=environment)
    assert ended.returncode == 0, ended.stderr
    assert "| alpha=0.5, learning_rate=0.001, batch_size=32 " in ended.stdout
    return out


def test_a_grid_has_rows_scores_and_marks_of_all_members(grid: Path) -> None:
    (folder,) = [p for p in grid.iterdir() if p.is_dir()]
    rows = read_rows(folder / "metrics.csv")
    assert {r["member"] for r in rows} == {"0", "1", "2", "3"}
    found = {r["setting"]: r for r in json.loads((grid / "results.json").read_text())["rows"]}
    assert len(found) == 4
    for setting, row in found.items():
        assert row["diverged"] == int("learning_rate=1e+30" in setting), setting
    with (grid / "results.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 4
    summary = json.loads((folder / "summary.json").read_text())
    assert [m["diverged"] is not None for m in summary["members"]] == [False, True, False, True]


@pytest.mark.slow
def test_a_member_equals_its_own_run(environment: dict[str, str], grid: Path, tmp_path) -> None:
    out = tmp_path / "single"
    own = ["--config.algorithm.alpha=5", "--config.algorithm.learning_rate=1e-3"]
    ended = call(
        "train", f"--out={out}", "--config.batch_size=32", *own, *SMALLER, environment=environment
    )
    assert ended.returncode == 0, ended.stderr
    (folder,) = [p for p in grid.iterdir() if p.is_dir()]
    alone = read_rows(out / "metrics.csv")
    member = [r for r in read_rows(folder / "metrics.csv") if r["member"] == "2"]
    assert len(alone) == len(member) > 2
    for a, b in zip(alone, member, strict=True):
        for name in a.keys() - {"phase", "member", "seed"}:
            if a[name]:
                np.testing.assert_allclose(float(a[name]), float(b[name]), rtol=1e-4, atol=1e-6)
    scores = [read_rows(p / "evaluations.csv") for p in (out, folder)]
    assert scores[0][-1]["score"] == [r for r in scores[1] if r["member"] == "2"][-1]["score"]


def test_another_sweep_in_the_same_folder_is_refused(
    environment: dict[str, str], grid: Path
) -> None:
    ended = call("sweep", f"--out={grid}", "--sweep=alpha=1,2", *SMALLER, environment=environment)
    assert ended.returncode == 2
    assert "holds another sweep" in ended.stderr
    again = call("sweep", f"--out={grid}", environment=environment)
    assert again.returncode == 0 and "| pointmaze-umaze |" in again.stdout


@pytest.mark.slow
def test_a_slurm_array_element_runs_its_job(environment: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "slurm"
    axes = ["--backend=slurm", "--sweep=batch_size=16,32", "--at_once=4"]
    ended = call("sweep", f"--out={out}", *axes, *SMALLER, environment=environment)
    assert ended.returncode == 0, ended.stderr
    script = out / "sweep.sbatch"
    assert ended.stdout.strip() == f"sbatch {script}"
    assert "#SBATCH --array=0-1%4" in script.read_text()
    # Slurm runs the script with the number of the element
    subprocess.run(
        ["bash", str(script)],
        env=os.environ | environment | {"SLURM_ARRAY_TASK_ID": "1"},
        check=True,
    )
    jobs = plan.read(out / "sweep.json")
    assert [results.state(out, job).name for job in jobs] == ["waiting", "done"]
    # without Slurm, the same folder continues here
    ended = call("sweep", f"--out={out}", environment=environment)
    assert ended.returncode == 0, ended.stderr
    assert [results.state(out, job).name for job in jobs] == ["done", "done"]


@pytest.mark.slow
def test_a_ray_cluster_with_a_worker_killed(environment: dict[str, str], tmp_path: Path) -> None:
    """A job whose process is killed in the middle is tried again and ends as if it was not."""
    longer = (*SMALLER, "--steps=4000", "--config.eval_every=4000")
    axes = ["--sweep=batch_size=16,32"]
    plain = tmp_path / "plain"
    ended = call("sweep", f"--out={plain}", *axes, *longer, environment=environment)
    assert ended.returncode == 0, ended.stderr

    out = tmp_path / "ray"
    flags = [f"--out={out}", "--backend=ray", "--job_cpus=0.5", *axes, *longer]
    with subprocess.Popen(
        command("sweep", *flags),
        cwd=ROOT,
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as sweep:
        killed = None
        deadline = time.monotonic() + 300
        while killed is None and sweep.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
            for folder in out.glob("0*"):
                rows = read_rows(folder / "metrics.csv")
                if rows and 100 < int(rows[-1]["update"]) < 3000 and (holder := _holder(folder)):
                    os.kill(holder, signal.SIGKILL)
                    killed = folder
                    break
        _, errors = sweep.communicate(timeout=600)
    assert killed is not None, errors
    assert sweep.returncode == 0, errors
    for folder in out.glob("0*"):
        for name in ("metrics.csv", "evaluations.csv"):
            assert (folder / name).read_text() == (plain / folder.name / name).read_text(), folder


def _holder(folder: Path) -> int | None:
    """The process that has a run's metrics open."""
    wanted = str((folder / "metrics.csv").resolve())
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(f) == wanted for f in (process / "fd").iterdir()):
                return int(process.name)
        except OSError:
            continue
    return None
