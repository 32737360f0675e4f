"""DTQL's trust-region loss beside -log p(a|s), where p and the best denoiser are known.

    python -m experiments.theory --out=results/theory

A one-dimensional mixture of Gaussians in one state. Denoisers are trained with EDM's weight and
with the ELBO's; their trust-region loss, and that of the exact denoiser, is computed over a grid
of actions. Writes theory.png, table.md, table.json (with all curves) and run.json. Finished
denoisers are kept in OUT/cells and not trained again.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.algorithms import make_algorithm
from dtql_jax.commands import cli
from dtql_jax.diffusion.weighting import WEIGHTINGS
from dtql_jax.training.progress import Progress
from experiments import study
from experiments.theory import curves, figures, training
from experiments.theory import mixture as mixtures
from experiments.theory.mixture import Mixture
from experiments.theory.settings import get_config

COLUMNS: dict[str, study.Column] = {
    "weight": "weight",
    "denoiser": "denoiser",
    "minimum at": "minimum:.3f",
    "other minima": lambda row: _other_minima(row),
    "nearest mode": "nearest_mode:.3f",
    "highest mode": "highest_mode:.3f",
    "distance to highest": "distance:.3f",
    "least gap, nats": "least_gap:.2f",
    "least gap in 99 % of p, nats": "least_inside:.2f",
    "bound holds, % of grid": "held:.1%",
    "mean gap under p, nats": "mean_gap:.3f",
    "correlation with -log p": "correlation:.4f",
}


def _other_minima(row: study.Row) -> str:
    others = [f"{a:.3f}" for a in row["minima"] if abs(a - row["minimum"]) > 1e-9]
    return ", ".join(others) or "-"


def check(config: Mapping[str, Any]) -> None:
    """Raises UserError if a number of the configuration is out of range."""
    study.check_least(config, seed=0, seeds=1, train_steps=1, batch_size=1)
    study.check_least(config, grid=11, levels=2, nodes=2)
    make_algorithm("dtql", training.settings(config, "edm"))


def grid(config: Mapping[str, Any]) -> np.ndarray:
    """Returns the actions at which losses are computed: [G]."""
    return np.linspace(-1.0, 1.0, config["grid"])


def compute(
    config: Mapping[str, Any], mixture: Mixture, weights: str, display: Progress
) -> study.Arrays:
    """Trains the denoisers of one weight; returns the curves in nats: exact [G], trained [P, G]."""
    actions = jnp.asarray(grid(config), jnp.float32)

    def curve(network: Any) -> Any:
        # D is not clipped to the action space: a little of the mixture is outside, and with
        # clipping the bound would not be that of the density
        sizes = {name: config[name] for name in ("levels", "nodes")}
        return curves.loss_curve(network, actions, weights, max_action=None, **sizes)

    exact = np.asarray(jax.jit(lambda: curve(mixture.network))(), np.float64)
    seeds = [config["seed"] + i for i in range(config["seeds"])]
    display.start(f"train, {weights}", config["train_steps"])
    trained = training.train(config, mixture, weights, seeds, curve, display.advance)
    return {
        "exact": curves.in_nats(weights, exact),
        "trained": curves.in_nats(weights, trained),
    }


def rows_of(
    config: Mapping[str, Any], mixture: Mixture, found: Mapping[str, study.Arrays]
) -> list[dict[str, Any]]:
    """Returns one row of numbers for each curve of {weights: result of `compute`}."""
    return [
        {
            "weight": weights.upper(),
            "denoiser": "exact" if seed is None else f"seed {seed}",
            **curves.numbers(grid(config), values, mixture),
        }
        for weights, seed, values in each_curve(config, found)
    ]


def each_curve(
    config: Mapping[str, Any], found: Mapping[str, study.Arrays]
) -> Iterator[tuple[str, int | None, np.ndarray]]:
    """Yields (weights, seed of the denoiser or None for the exact one, losses [G] in nats)."""
    for weights, arrays in found.items():
        yield weights, None, arrays["exact"]
        for seed, values in enumerate(arrays["trained"], config["seed"]):
            yield weights, seed, values


def describe(config: Mapping[str, Any], mixture: Mixture) -> str:
    """Returns the setup in two sentences."""
    parts = " + ".join(
        f"{weight:g} N({mean:g}, {std:g}²)" for weight, mean, std in zip(*mixture, strict=True)
    )
    modes = " and ".join(f"{mode:.3f}" for mode in mixture.modes())
    return (
        f"Data: {parts}, modes at {modes} (the highest first). Each trained denoiser has width "
        f"{config['hidden_dim']} and was trained for {config['train_steps']:,} updates of "
        f"{config['batch_size']} actions; losses at {config['grid']} actions, "
        f"{config['levels']} noise levels, {config['nodes']} nodes of the noise."
    )


def define(argv: list[str]) -> None:
    """Defines the flags of this command."""
    study.define(argv, get_config, "results/theory")


def run() -> None:
    """Computes all curves and writes the results."""
    config = study.settings()
    check(config)
    mixture = mixtures.make(config["mixture"])
    with study.Study("theory", config, f"{config['seeds']} denoisers of each weight") as s:
        found = {
            weights: s.cell(
                weights, config, lambda w=weights: compute(config, mixture, w, s.display)
            )
            for weights in WEIGHTINGS
        }
        rows, about = rows_of(config, mixture, found), describe(config, mixture)
        shown = [
            {"weights": weights, "seed": seed, "nats": [round(float(x), 5) for x in values]}
            for weights, seed, values in each_curve(config, found)
        ]
        s.write(
            f"{about}\n\n{study.table(COLUMNS, rows)}",
            {"about": about, "rows": rows, "curves": shown},
            {"theory.png": lambda path: figures.draw(grid(config), mixture, found, path)},
        )


if __name__ == "__main__":
    cli.launch(run, __doc__, define)
