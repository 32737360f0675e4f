"""The mixture in closed form, the loss against integrals taken elsewhere, the whole command."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from dtql_jax.diffusion import edm
from dtql_jax.errors import UserError
from experiments import study
from experiments.theory import __main__ as theory
from experiments.theory import curves, figures, mixture
from experiments.theory import settings as theory_config
from tests.experiments.commands import call

MIXTURE = mixture.Mixture((0.25, 0.75), (-0.6, 0.3), (0.05, 0.2))
PARTS = [(0.25, stats.norm(-0.6, 0.05)), (0.75, stats.norm(0.3, 0.2))]


def density(a: Any) -> Any:
    return sum(weight * part.pdf(a) for weight, part in PARTS)


def test_density_modes_and_samples() -> None:
    a = np.linspace(-1.0, 1.0, 9)
    np.testing.assert_allclose(MIXTURE.log_density(a), np.log(density(a)), rtol=1e-10)
    noisy = 0.25 * stats.norm(-0.6, 0.5**0.5 * 0.1).pdf(a)
    noisy += 0.75 * stats.norm(0.3, (0.2**2 + 0.05**2) ** 0.5).pdf(a)
    np.testing.assert_allclose(MIXTURE.log_density(a, 0.05), np.log(noisy), rtol=1e-10)
    # 2.0 against 1.5: the narrow component is the higher, with a third of the other's mass
    np.testing.assert_allclose(MIXTURE.modes(), [-0.6, 0.3], atol=1e-4)
    drawn = np.asarray(MIXTURE.sample(jax.random.key(0), 20_000))
    assert drawn.shape == (20_000, 1)
    assert np.mean(drawn < -0.3) == pytest.approx(0.25, abs=0.02)
    assert np.mean(drawn) == pytest.approx(0.25 * -0.6 + 0.75 * 0.3, abs=0.02)


@pytest.mark.parametrize("sigma", [0.03, 0.3, 2.0])
@pytest.mark.parametrize("x", [-0.7, -0.2, 0.5])
def test_exact_denoiser_is_the_posterior_mean(x: float, sigma: float) -> None:
    def weight(a: float) -> float:
        return density(a) * stats.norm(a, sigma).pdf(x)

    points = [-0.6, 0.3, x]
    total, _ = integrate.quad(weight, -2.0, 2.0, points=points, limit=400)
    first, _ = integrate.quad(lambda a: a * weight(a), -2.0, 2.0, points=points, limit=400)
    found = MIXTURE.denoise(jnp.float32(x), jnp.float32(sigma))
    assert float(found) == pytest.approx(first / total, abs=2e-5)
    # and as the network that EDM's scaling is put around
    denoised = edm.denoise(
        MIXTURE.network, jnp.full((1, 1), x), jnp.full((1,), sigma), jnp.zeros((1, 1)), None
    )
    assert float(denoised[0, 0]) == pytest.approx(first / total, abs=2e-5)


def exact_curve(weights: str, actions: np.ndarray) -> np.ndarray:
    loss = curves.loss_curve(
        MIXTURE.network, jnp.asarray(actions), weights, levels=256, nodes=64, max_action=None
    )
    return curves.in_nats(weights, np.asarray(loss, np.float64))


def test_elbo_of_the_exact_denoiser_lies_just_above_the_negative_log_density() -> None:
    actions = np.linspace(-0.9, 0.9, 37)
    curve = exact_curve("elbo", actions)
    np.testing.assert_allclose(curve, -np.log(density(actions)), atol=0.03)
    # a bound on the density of samples that end with noise sigma_min = 0.002, twice
    ends = [(w, stats.norm(p.mean(), (p.var() + 2 * 0.002**2) ** 0.5)) for w, p in PARTS]
    gap = curve + np.log(sum(weight * part.pdf(actions) for weight, part in ends))
    assert gap.min() > -1e-3
    assert gap.max() < 0.02
    # its minimum is the highest mode, the middle of the narrow component
    assert actions[np.argmin(curve)] == pytest.approx(-0.6)


def test_edm_of_the_exact_denoiser_is_the_mean_over_noisy_densities() -> None:
    """log(sigma) ~ Logistic(log 0.5, 0.5), z = a + sigma eps: E[-log p_sigma(z)]."""
    actions = np.array([-0.6, -0.1, 0.3, 0.8])
    sigma = np.exp(stats.logistic(np.log(0.5), 0.5).ppf((np.arange(1_000) + 0.5) / 1_000))
    eps = stats.norm.ppf((np.arange(1_000) + 0.5) / 1_000)
    expected = []
    for a in actions:
        z = a + sigma[:, None] * eps
        noisy = sum(
            weight * stats.norm(part.mean(), np.hypot(part.std(), sigma[:, None])).pdf(z)
            for weight, part in PARTS
        )
        expected.append(-np.mean(np.log(noisy)))
    np.testing.assert_allclose(exact_curve("edm", actions), expected, atol=3e-3)


def test_numbers_by_hand() -> None:
    actions = np.linspace(-1.0, 1.0, 201)
    curve = -MIXTURE.log_density(actions, curves.LAST_NOISE) + 0.5
    found = curves.numbers(actions, curve, MIXTURE)
    assert (found["minimum"], found["distance"]) == pytest.approx((-0.6, 0.0), abs=1e-5)
    assert found["minima"] == pytest.approx([-0.6, 0.3])
    assert (found["least_gap"], found["mean_gap"]) == pytest.approx((0.5, 0.5))
    assert (found["held"], found["correlation"]) == pytest.approx((1.0, 1.0))
    # lower by 1 where there is hardly any mass
    rare = curves.numbers(actions, np.where(actions < -0.9, curve - 1.0, curve), MIXTURE)
    assert (rare["least_gap"], rare["least_inside"]) == pytest.approx((-0.5, 0.5))
    other = curves.numbers(actions, (actions - 0.25) ** 2 - 100.0, MIXTURE)
    assert other["minimum"] == pytest.approx(0.25)
    modes = other["nearest_mode"], other["highest_mode"]
    assert modes == pytest.approx((0.3, -0.6), abs=1e-4)
    assert other["distance"] == pytest.approx(0.85, abs=1e-4)
    assert other["held"] == 0.0


def test_wrong_settings_are_named() -> None:
    config = theory_config.get_config().to_dict()
    theory.check(config)
    for changed, said in (
        ({"seeds": 0}, "seeds is 0"),
        ({"grid": 2}, "grid is 2"),
        ({"time_dim": 5}, "time_dim is 5"),
    ):
        with pytest.raises(UserError, match=said):
            theory.check(config | changed)
    good = config["mixture"]
    mixture.make(good)
    for changed, said in (
        ({"means": (0.0,)}, "expected as many of each"),
        ({"weights": (0.5, 0.6)}, "sum to 1"),
        ({"stds": (0.001, 0.2)}, "mixture.stds"),
        ({"means": (-0.6, 0.9)}, "outside"),
    ):
        with pytest.raises(UserError, match=said):
            mixture.make(good | changed)


def test_table_and_picture(tmp_path: Path) -> None:
    config = theory_config.get_config().to_dict() | {"grid": 101}
    actions = theory.grid(config)
    curve = -MIXTURE.log_density(actions) + 0.1
    found = {w: {"exact": curve, "trained": np.stack([curve, curve])} for w in ("edm", "elbo")}
    rows = theory.rows_of(config, MIXTURE, found)
    assert [row["denoiser"] for row in rows] == ["exact", "seed 0", "seed 1"] * 2
    assert len(study.table(theory.COLUMNS, rows).splitlines()) == 8
    figures.draw(actions, MIXTURE, found, tmp_path / "theory.png")
    assert (tmp_path / "theory.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_whole_command(tmp_path: Path) -> None:
    small = {"seeds": 2, "train_steps": 5, "batch_size": 8, "hidden_dim": 8, "time_dim": 4}
    small |= {"grid": 21, "levels": 8, "nodes": 8}
    arguments = [f"--config.{name}={value}" for name, value in small.items()]
    ended = call("theory", f"--out={tmp_path}", *arguments)
    assert ended.returncode == 0, ended.stderr
    content = json.loads((tmp_path / "table.json").read_text())
    assert len(content["rows"]) == 6
    assert all(len(curve["nats"]) == 21 for curve in content["curves"])
    for name in ("theory.png", "table.md", "run.json"):
        assert (tmp_path / name).stat().st_size > 0
    again = call("theory", f"--out={tmp_path}", *arguments)
    assert again.returncode == 0 and again.stderr.count("already in") == 2
    assert json.loads((tmp_path / "table.json").read_text()) == content
    wrong = call("theory", f"--out={tmp_path}", "--config.seeds=0")
    assert wrong.returncode == 2
    assert wrong.stderr == "error: seeds is 0; expected at least 1\n"
