"""The ablations: compared settings, populations of traced settings, tables and figure."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtql_jax.errors import UserError
from dtql_jax.presets import parts
from experiments.ablations import acting, figures, points, tables
from experiments.ablations import settings as ablations_config
from tests.experiments.commands import call

CONFIG = ablations_config.get_config().to_dict()
NAMES = list(CONFIG["tasks"])


def labels(name: str, group: str) -> list[str]:
    return [label for own, label, _ in points.compared(CONFIG, name) if own == group]


def test_the_compared_settings() -> None:
    domains = [CONFIG["settings"][name]["task"].partition("-")[0] for name in NAMES]
    assert domains == ["pointmaze", "hopper", "antmaze"]
    assert CONFIG["seeds"] == 5
    for name in NAMES:
        assert labels(name, "gamma") == ["0", "0.01", "0.1", "0.5", "1", "5"]
        alphas = [float(label) for label in labels(name, "alpha")]
        assert max(alphas) / min(alphas) == pytest.approx(1000.0)  # three decades
        assert labels(name, "policy") == ["gaussian", "deterministic", "implicit"]
        assert labels(name, "weighting") == ["edm", "elbo"]
        assert labels(name, "value_target") == ["online", "target"]
        found = points.compared(CONFIG, name)
        algorithms = {point.algorithm for group, _, point in found if group == "objective"}
        assert algorithms == {"dtql", "dql_kl"}
    assert acting.variants(CONFIG) == [
        *(("softmax", n) for n in (1, 16, 128, 1024)),
        *(("argmax", n) for n in (16, 128, 1024)),
    ]


def test_each_task_keeps_its_own_settings() -> None:
    # method: alpha 5, gamma 0 for hopper-medium; 1 and 1 for antmaze-umaze
    assert dict(points.own_point(CONFIG, "hopper").traced) == {"alpha": 5.0, "gamma": 0.0}
    assert dict(points.own_point(CONFIG, "antmaze").traced) == {"alpha": 1.0, "gamma": 1.0}
    full = points.task_config(CONFIG | {"budget": "full"}, "antmaze")
    assert (full["batch_size"], full["train_steps"], full["eval_episodes"]) == (2048, 500_000, 100)
    assert (full["algorithm"]["hidden_dim"], full["algorithm"]["num_candidates"]) == (256, 1024)
    short = points.task_config(CONFIG, "antmaze")
    assert short["train_steps"] < 10_000 and short["reward_shift"] == -1.0
    assert short["algorithm"]["expectile"] == 0.9


@pytest.mark.parametrize("name", NAMES)
def test_traced_settings_are_one_population(name: str) -> None:
    planned = points.plan(CONFIG, [name])
    jobs = points.jobs(planned)
    assert set(planned) == {point for _, _, point in points.compared(CONFIG, name)}
    assert sum(len(job.members) for job in jobs) == 5 * len(planned)
    # every program is there once: static settings and whether there is an NLL
    programs = [
        (
            job.config["algorithm"]["name"],
            json.dumps(job.settings, sort_keys=True),
            job.config["algorithm"].get("gamma", 0.0) != 0.0,
        )
        for job in jobs
    ]
    assert len(set(programs)) == len(programs)
    largest = max(jobs, key=lambda job: len(job.members))
    # five gammas above 0 are members of one job, with as many seeds each
    with_nll = [job for job in jobs if len({m.settings.get("gamma") for m in job.members}) > 1]
    assert len(with_nll) == 1 and len(largest.members) >= 25
    gammas = {m.settings["gamma"] for m in with_nll[0].members}
    assert gammas >= {0.01, 0.1, 0.5, 1.0, 5.0} and 0.0 not in gammas
    for job in jobs:
        parts.algorithm_of(job.config)
        parts.trainer_config(job.config)
        per_setting: dict[str, list[int]] = {}
        for member in job.members:
            per_setting.setdefault(json.dumps(member.settings), []).append(member.seed)
        assert all(seeds == [0, 1, 2, 3, 4] for seeds in per_setting.values())
        # a program without the NLL has no member with one
        if job.config["algorithm"].get("gamma") == 0.0:
            assert {m.settings.get("gamma", 0.0) for m in job.members} == {0.0}
    for point, job in planned.items():
        assert job.config["algorithm"]["name"] == point.algorithm
        assert dict(point.traced) in [member.settings for member in job.members]
        for field, value in point.static:
            assert job.config["algorithm"][field] == value


def test_wrong_settings_are_named() -> None:
    for changed, said in (
        ({"budget": "ful"}, "did you mean full"),
        ({"seeds": 0}, "seeds is 0"),
        ({"gamma": (0.0, -1.0)}, "expected numbers >= 0"),
    ):
        with pytest.raises(UserError, match=said):
            points.check(CONFIG | changed)
    points.check(CONFIG)


def summaries_of(jobs: list[Any]) -> dict[str, Any]:
    """Scores that follow from a member's settings: gamma + 10 * alpha + the seed."""
    found = {}
    for job in jobs:
        members = [
            m._asdict()
            | {
                "score": m.settings.get("gamma", 0.0) + 10 * m.settings["alpha"] + m.seed,
                "diverged": None,
            }
            for m in job.members
        ]
        found[job.name] = {"members": members, "score_name": "return", "dataset_id": "d"}
        found[job.name] |= {"episodes": 3, "source": "generated"}
    return found


def test_rows_tables_and_figure(tmp_path: Path) -> None:
    planned = points.plan(CONFIG, NAMES)
    summaries = summaries_of(points.jobs(planned))
    rows = tables.trained(CONFIG, NAMES, planned, summaries)
    found = {(r["task"], r["group"], r["label"]): r for r in rows}
    gamma = found["pointmaze", "gamma", "0.5"]
    assert gamma["scores_by_seed"] == [10.5, 11.5, 12.5, 13.5, 14.5]
    assert gamma["mean"] == 12.5 and gamma["standard_error"] == pytest.approx(np.sqrt(0.5))
    assert found["hopper", "alpha", "500"]["mean"] == 5002.0
    owns = [key for key, r in found.items() if r["own"] and key[0] == "hopper"]
    assert {group for _, group, _ in owns} == {
        *("gamma", "alpha", "policy", "objective", "weighting", "value_target")
    }
    scores = np.arange(10.0).reshape(5, 2)
    for name in NAMES:
        own = {"action_selection": "softmax", "num_candidates": 16}
        acted = tables.acted(name, dict.fromkeys(acting.variants(CONFIG), scores), own)
        assert [r["label"] for r in acted if r["own"]] == ["16 softmax"]
        assert acted[0]["scores_by_seed"] == [0.5, 2.5, 4.5, 6.5, 8.5]
        rows += acted
    lines = tables.markdown(rows, NAMES).splitlines()
    text = "\n".join(" ".join(line.split()) for line in lines)  # without the padding
    assert "| 0.5 | 12.5 ± 0.7 | 52.5 ± 0.7 | 12.5 ± 0.7 |" in text
    assert text.count("## ") == 7 and "| 0.1: 4.0 ± 0.7 | 0.5: 7.0 ± 0.7 |" in text
    assert len(tables.setup(CONFIG, NAMES, planned, summaries)) == 3
    names = dict.fromkeys(NAMES, "return")
    figures.draw(rows, names, tmp_path / "ablations.png", "by hand")
    assert (tmp_path / "ablations.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_whole_command(environment: dict[str, str], tmp_path: Path) -> None:
    small = {
        "data_transitions": 3000,
        "pretrain_steps": 4,
        "train_steps": 8,
        "batch_size": 8,
        "updates_per_call": 4,
        "eval_episodes": 2,
        "final_eval_episodes": 2,
        "algorithm.hidden_dim": 16,
        "algorithm.num_candidates": 4,
    }
    arguments = [f"--config.settings.pointmaze.short.{k}={v}" for k, v in small.items()]
    arguments += ["--tasks=pointmaze", "--config.seeds=2", "--config.acting_episodes=2"]
    arguments += ["--config.candidates=(1, 4)", "--config.gamma=(0.0, 1.0)"]
    arguments += ["--config.alpha_factors=(1.0,)", "--config.policy=('gaussian',)"]
    arguments += [f"--out={tmp_path / 'out'}", f"--runs={tmp_path / 'runs'}", "--quiet"]
    ended = call("ablations", *arguments, environment=environment)
    assert ended.returncode == 0, ended.stderr
    rows = json.loads((tmp_path / "out" / "table.json").read_text())["rows"]
    assert {r["group"] for r in rows} == set(tables.TITLES)
    # the task's own setting acts in its own way in both: the same episodes, the same scores
    own = {r["group"]: r["scores_by_seed"] for r in rows if r["own"]}
    assert own["acting"] == own["gamma"] == own["alpha"] == own["weighting"]
    for name in ("ablations.png", "table.md", "run.json"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    # a second call repeats nothing but what is missing
    kept = sorted((tmp_path / "out" / "cells").glob("*.npz"))
    kept[0].unlink()
    times = [os.stat(path).st_mtime_ns for path in kept[1:]]
    ended = call("ablations", *arguments, environment=environment)
    assert ended.returncode == 0, ended.stderr
    assert [os.stat(path).st_mtime_ns for path in kept[1:]] == times and kept[0].exists()
    assert json.loads((tmp_path / "out" / "table.json").read_text())["rows"] == rows
    changed = call("ablations", *arguments, "--config.seeds=3", environment=environment)
    assert changed.returncode == 2 and "holds another sweep" in changed.stderr
