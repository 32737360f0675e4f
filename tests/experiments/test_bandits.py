"""The bandits: data and rewards by hand, the numbers of a panel, the files, the whole command."""

import json
from pathlib import Path

import numpy as np
import pytest

from dtql_jax.errors import UserError
from experiments.bandits import figures, panels, problems, scoring
from experiments.bandits import settings as bandits_config
from tests.commands.commands import call


def test_gaussians_lie_on_the_grid() -> None:
    bandit = problems.make("gaussians", "far", 20_000, seed=1)
    nearest = np.round(bandit.actions / 5.0) * 5.0
    assert {tuple(c) for c in nearest} == {
        (x, y) for x in (-10, -5, 0, 5, 10) for y in (-10, -5, 0, 5, 10)
    }
    np.testing.assert_allclose(np.std(bandit.actions - nearest, axis=0), 0.3, rtol=0.02)
    counts = np.unique(nearest, axis=0, return_counts=True)[1]
    assert counts.min() > 800 - 6 * 28  # 20,000 / 25, and six binomial deviations
    assert bandit.best == pytest.approx(np.sqrt(200.0))


def test_swiss_roll_has_radius_equal_to_angle() -> None:
    bandit = problems.make("swiss_roll", "near", 5_000)
    radius = np.linalg.norm(bandit.actions, axis=-1)
    assert 1.5 * np.pi - 0.5 < radius.min() < radius.max() < 4.5 * np.pi + 0.5
    turned = np.arctan2(bandit.actions[:, 1], bandit.actions[:, 0])
    wound = turned + 2 * np.pi * np.round((radius - turned) / (2 * np.pi))
    np.testing.assert_allclose(wound, radius, atol=0.6)
    # the inner end has radius 1.5 pi
    assert bandit.best == pytest.approx(radius.max() - 1.5 * np.pi, abs=1e-6)


def test_rewards_by_hand() -> None:
    known = problems.rewards(np.array([[3.0, 4.0], [-6.0, 8.0]]))
    a = np.array([[3.0, 4.0], [-8.0, 8.0], [-7.0, 8.0]])
    np.testing.assert_allclose(known["far"](a), [5.0, np.sqrt(128), np.sqrt(113)])
    np.testing.assert_allclose(known["near"](a), [5.0, 10 - np.sqrt(128), 10 - np.sqrt(113)])
    np.testing.assert_allclose(known["hard"](a), [5.0, 2 * np.sqrt(128), np.sqrt(113)])
    corners = np.array([[10.0, 10.0], [-10.0, -10.0], [10.0, 7.0]])
    np.testing.assert_allclose(known["two_corners"](corners), [10.0, 10.0, 7.0])


def test_numbers_under_a_panel() -> None:
    bandit = problems.make("gaussians", "far", 10_000)
    corner, inner, gap = [10.0, 10.0], [5.0, 5.0], [7.5, 7.5]
    samples = np.array([corner, corner, inner, gap, [np.nan, 0.0]])
    found = scoring.score(samples, bandit)
    # rewards 1, 1, 0.5, 0.75 of the corner's; the gap is 3.5 from every mode, NaN is nowhere
    assert found.reward == pytest.approx(3.25 / 4)
    assert found.outside == pytest.approx(2 / 5)
    assert found.at_best == pytest.approx(2 / 5)
    lost = scoring.score(np.full((3, 2), np.inf), bandit)
    assert lost.reward is None
    assert lost.outside == 1.0


def small_config() -> dict:
    config = bandits_config.get_config()
    config.update(points=300, samples=20, batch_size=16, record_every=5)
    for name in config.panels:
        config.panels[name].update(trust_region_steps=10, kl_steps=5)
    return config.to_dict()


def drawn_panels(config: dict) -> list[panels.Panel]:
    """Panels whose samples are data, further from it at each recording."""
    bandits, found = panels.make_bandits(config), []
    for row in panels.ROWS:
        for name, bandit in bandits.items():
            own = np.stack([bandit.actions[:20] + k for k in range(3)])
            shown = config["panels"][name][f"{row}_steps"]
            found.append(panels.Panel(name, row, shown, np.array([0, 5, 10]), own, own))
    return found


def test_files_and_pictures(tmp_path: Path) -> None:
    config = small_config()
    bandits, drawn = panels.make_bandits(config), drawn_panels(config)
    panels.save(tmp_path / "samples.npz", config, drawn[:7])
    again = panels.load(tmp_path / "samples.npz", config)
    assert [(p.row, p.name) for p in again] == [(p.row, p.name) for p in drawn[:7]]
    np.testing.assert_array_equal(again[6].shown(), drawn[6].policy[1])
    assert panels.load(tmp_path / "samples.npz", config | {"seed": 1}) == []
    (tmp_path / "torn.npz").write_bytes((tmp_path / "samples.npz").read_bytes()[:500])
    assert panels.load(tmp_path / "torn.npz", config) == []
    rows = panels.table(config, bandits, drawn)
    assert len(rows) == 10
    assert len(panels.markdown(rows).splitlines()) == 12
    # at the first recording all samples are data; at the last they are 2 sqrt(2) away
    assert all(row["diffusion_outside"] > 0.5 for row in rows)
    figures.figure(config, bandits, drawn, tmp_path / "bandits.png")
    figures.animation(config, bandits, drawn, tmp_path / "bandits.gif", frames=2)
    assert (tmp_path / "bandits.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "bandits.gif").read_bytes().startswith(b"GIF89a")


def test_wrong_settings_are_named() -> None:
    config = small_config()
    for changed, said in (
        ({"points": 1}, "points is 1"),
        ({"record_every": 3}, "expected a multiple of record_every"),
        ({"panels": {"x": config["panels"]["gaussians_far"] | {"eta": 0.0}}}, "panels.x.eta is 0"),
        ({"kl": config["kl"] | {"gamma": 0.1}}, "kl.gamma is not 0"),
    ):
        with pytest.raises(UserError, match=said):
            panels.check(config | changed)
    with pytest.raises(UserError, match="did you mean swiss_roll"):
        problems.make("swissroll", "far", 10)
    with pytest.raises(UserError, match="no bandit reward 'fat'"):
        problems.make("gaussians", "fat", 10)


@pytest.mark.slow
def test_the_whole_command(tmp_path: Path) -> None:
    arguments = [
        f"--out={tmp_path}",
        "--animate",
        "--frames=2",
        "--config.points=300",
        "--config.samples=20",
        "--config.batch_size=16",
        "--config.record_every=5",
        "--config.kl.pretrain_steps=5",
    ]
    for row in panels.ROWS:
        arguments.append(f"--config.{row}.settings.hidden_dim=8")
        arguments += [f"--config.panels.{name}.{row}_steps=5" for name in bandits_config.PANELS]
    ended = call("bandits", *arguments)
    assert ended.returncode == 0, ended.stderr
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert len(rows) == 10
    assert all(0.0 <= row["outside"] <= 1.0 for row in rows)
    for name in ("bandits.png", "bandits.gif", "table.md", "run.json", "samples.npz"):
        assert (tmp_path / name).stat().st_size > 0
    again = call("bandits", *arguments)
    assert again.returncode == 0, again.stderr
    assert "not trained again" in again.stderr
    assert json.loads((tmp_path / "table.json").read_text())["rows"] == rows
