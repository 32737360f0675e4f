"""All curves of the study, and their numbers as a table."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dtql_jax.diffusion.weighting import WEIGHTINGS
from dtql_jax.errors import UserError
from dtql_jax.training.placement import Placement
from experiments.theory import curves, training
from experiments.theory.mixture import Mixture

LOSS_NAMES = {"edm": "EDM", "elbo": "ELBO"}


class Curve(NamedTuple):
    """The trust-region loss of one denoiser.

    Attributes:
      weights: "edm" or "elbo", of the loss and of the denoiser's training.
      seed: of the denoiser; None for the exact one.
      values: [G] in nats, at the actions of `grid`.
    """

    weights: str
    seed: int | None
    values: np.ndarray


def check(config: Mapping[str, Any]) -> None:
    """UserError where a number of the configuration is out of range."""
    at_least = {"seed": 0, "seeds": 1, "train_steps": 1, "batch_size": 1, "hidden_dim": 1}
    for name, least in (at_least | {"grid": 11, "levels": 2, "nodes": 2}).items():
        if config[name] < least:
            raise UserError(f"{name} is {config[name]}; expected at least {least}")
    if config["nodes"] > 180:  # beyond, numpy's weights overflow
        raise UserError(f"nodes is {config['nodes']}; expected at most 180")
    if not config["learning_rate"] > 0.0:
        raise UserError(f"learning_rate is {config['learning_rate']}; expected a number above 0")
    if config["time_dim"] < 4 or config["time_dim"] % 2:
        raise UserError(f"time_dim is {config['time_dim']}; expected an even number from 4 on")


def grid(config: Mapping[str, Any]) -> np.ndarray:
    """The actions at which losses are computed: [G]."""
    return np.linspace(-1.0, 1.0, config["grid"])


def compute(
    config: Mapping[str, Any],
    mixture: Mixture,
    say: Callable[[int, int], None] = lambda done, total: None,
) -> list[Curve]:
    """Trains the denoisers and computes all curves: of each weight the exact one, then by seed.

    Args:
      config: the study's.
      mixture: the data.
      say: told of (done, all) updates.
    """
    seeds = [config["seed"] + i for i in range(config["seeds"])]
    actions = jnp.asarray(grid(config), jnp.float32)
    found, total = [], len(WEIGHTINGS) * config["train_steps"]
    # D is not clipped to the action space: beyond it lies a little of the mixture, and with it
    # the equality of bound and density
    numbers = {"levels": config["levels"], "nodes": config["nodes"], "max_action": None}
    for i, weights in enumerate(WEIGHTINGS):

        def curve(network: Any, weights: str = weights) -> Any:
            return curves.loss_curve(network, actions, weights, **numbers)

        def keep(seed: int | None, loss: Any, weights: str = weights) -> None:
            values = curves.in_nats(weights, np.asarray(loss, np.float64))
            found.append(Curve(weights, seed, values))

        keep(None, jax.jit(lambda curve=curve: curve(mixture.network))())
        before = i * config["train_steps"]
        trained = training.train(
            config, mixture, weights, seeds, lambda done, before=before: say(before + done, total)
        )
        placement = Placement(len(seeds))
        stacked = placement.put(jax.tree.map(lambda *leaves: np.stack(leaves), *trained))
        evaluate = placement.spread(
            lambda params, curve=curve: curve(training.network(config, params)), (0,)
        )
        for seed, loss in zip(seeds, placement.take(evaluate(stacked)), strict=True):
            keep(seed, loss)
    return found


def table(config: Mapping[str, Any], mixture: Mixture, found: list[Curve]) -> list[dict[str, Any]]:
    """One row of numbers for each curve."""
    actions = grid(config)
    return [
        {
            "weight": LOSS_NAMES[curve.weights],
            "denoiser": "exact" if curve.seed is None else f"seed {curve.seed}",
            **curves.numbers(actions, curve.values, mixture)._asdict(),
        }
        for curve in found
    ]


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| weight | denoiser | minimum at | other minima | nearest mode | highest mode |"
        " distance to highest | least gap, nats | least gap in 99 % of p, nats |"
        " bound holds, % of grid | mean gap under p, nats | correlation with -log p |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        others = [f"{a:.3f}" for a in row["minima"] if abs(a - row["minimum"]) > 1e-9]
        cells = [
            *(row["weight"], row["denoiser"], f"{row['minimum']:.3f}", ", ".join(others) or "-"),
            *(f"{row[key]:.3f}" for key in ("nearest_mode", "highest_mode", "distance")),
            *(f"{row[key]:.2f}" for key in ("least_gap", "least_inside")),
            f"{100 * row['held']:.1f}",
            f"{row['mean_gap']:.3f}",
            f"{row['correlation']:.4f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def describe(config: Mapping[str, Any], mixture: Mixture) -> str:
    """What the numbers are of, as two sentences."""
    parts = " + ".join(
        f"{weight:g} N({mean:g}, {std:g}²)" for weight, mean, std in zip(*mixture, strict=True)
    )
    modes = " and ".join(f"{mode:.3f}" for mode in mixture.modes())
    return (
        f"Data: {parts}, modes at {modes} (the highest first). Each trained denoiser has width "
        f"{config['hidden_dim']} and had {config['train_steps']:,} updates of "
        f"{config['batch_size']} actions; losses at {config['grid']} actions, "
        f"{config['levels']} noise levels, {config['nodes']} nodes of the noise."
    )
