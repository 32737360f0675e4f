"""The panels of the study: three rows of policies on five bandits, over a population of seeds."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from dtql_jax.errors import UserError
from experiments import study
from experiments.bandits import problems, refinement, scoring, training
from experiments.bandits.problems import Bandit
from experiments.bandits.scoring import Numbers, Population
from experiments.bandits.settings import DATA_TITLES

ROWS = {"trust_region": "trust region", "kl": "KL", "own": "trust region, own setting"}
STARTS = ("middle", "data")


class Panel(NamedTuple):
    """One row's policies on one bandit.

    Attributes:
      row: "trust_region", "kl", or a name of the configuration's variants.
      name: of the bandit in the configuration.
      bandits: one for each seed (their data differ).
      samples: [K, S, 2], S samples of each of K seeds.
      numbers: of each seed.
      population: of all seeds.
    """

    row: str
    name: str
    bandits: list[Bandit]
    samples: np.ndarray
    numbers: list[Numbers]
    population: Population


def title(panel: Mapping[str, Any]) -> str:
    """Returns the title of a bandit, such as "25 Gaussians, far"."""
    return f"{DATA_TITLES[panel['data']]}, {panel['reward'].replace('_', ' ')}"


def check(config: Mapping[str, Any]) -> None:
    """Raises UserError for the first number that is out of range."""
    rows = ("critic_rows", "denoiser_rows", "policy_rows", "generator_rows")
    study.check_least(config, seeds=1, points=2, samples=1, **dict.fromkeys(rows, 1))
    for name in rows[:2]:
        if config[name] > config["points"]:
            raise UserError(f"{name} is {config[name]}; expected at most points")
    for name, panel in config["panels"].items():
        for key in ("updates", "kl_updates"):
            if panel[key] < 1 or panel[key] % training.EVERY:
                raise UserError(
                    f"panels.{name}.{key} is {panel[key]}; expected a multiple of {training.EVERY}"
                )
    for name, variant in config["variants"].items():
        if variant["start"] not in STARTS:
            raise UserError(
                f"variants.{name}.start is {variant['start']!r}; expected one of {STARTS}"
            )


def compute(work: study.Study, config: Mapping[str, Any]) -> list[Panel]:
    """Trains what is not kept yet, and returns the panels of all rows and variants.

    Args:
      work: the study, which keeps one cell for each data set and seed, and one for each policy
        that is trained afterwards.
      config: the study's.
    """
    groups: dict[str, list[str]] = {}
    for name, panel in config["panels"].items():
        groups.setdefault(panel["data"], []).append(name)
    jobs = [(data, seed) for seed in range(config["seeds"]) for data in groups]
    updates = {
        data: max(config["panels"][n]["updates"] for n in names) for data, names in groups.items()
    }
    done = dict.fromkeys(jobs, 0)
    work.display.start("train", sum(updates[data] for data, _ in jobs), unit="updates")

    def job(data: str, seed: int, device: Any) -> dict[tuple[str, str], tuple[Bandit, np.ndarray]]:
        def say(updates: int) -> None:
            done[data, seed] = updates
            work.display.advance(sum(done.values()))

        with jax.default_device(device):
            found = _seed(work, config, data, groups[data], seed, say)
        say(updates[data])
        return found

    devices = jax.local_devices()
    with ThreadPoolExecutor(len(devices)) as pool:
        futures = [pool.submit(job, *one, devices[i % len(devices)]) for i, one in enumerate(jobs)]
        found = [future.result() for future in futures]
    panels = []
    for row in (*list(ROWS)[:2], *config["variants"]):
        for name in config["panels"]:
            of_seeds = [part[row, name] for part in found if (row, name) in part]
            if not of_seeds:
                continue
            bandits, samples = (list(x) for x in zip(*of_seeds, strict=True))
            numbers = [scoring.score(s, b) for s, b in zip(samples, bandits, strict=True)]
            population = scoring.over_seeds(numbers)
            panels.append(Panel(row, name, bandits, np.stack(samples), numbers, population))
    return panels


def _seed(
    work: study.Study,
    config: Mapping[str, Any],
    data: str,
    names: list[str],
    seed: int,
    say: Any,
) -> dict[tuple[str, str], tuple[Bandit, np.ndarray]]:
    """Returns {(row, bandit): (bandit, samples [S, 2])} of one seed on one data set."""
    settings = [config["panels"][name] for name in names]
    bandits = [problems.make(data, s["reward"], config["points"], seed) for s in settings]
    populations = ("seeds", "cause_seeds", "panels", "variants")
    own = {key: config[key] for key in config if key not in populations}
    own |= {"panels": {name: config["panels"][name] for name in names}, "seed": seed}
    trained = work.cell(
        f"{data}/seed{seed}", own, lambda: training.train(config, bandits, settings, seed, say)
    )
    found = {}
    for i, (name, bandit, panel) in enumerate(zip(names, bandits, settings, strict=True)):
        policies = {"trust_region": trained["policies"][-1, i]}
        for variant, chosen in config["variants"].items():
            if variant != "own" and seed >= config["cause_seeds"]:
                continue

            def refine(i: int = i, chosen: Any = chosen, b: Bandit = bandit, s: Any = panel) -> Any:
                networks = training.unflatten(trained["denoiser"], trained["critics"][i])
                start, end = refinement.train(config, chosen, b, s["eta"], networks, seed)
                return {"start": start, "end": end}

            cell = work.cell(
                f"{variant}/{name}/seed{seed}", own | {"name": name, "variant": chosen}, refine
            )
            policies[variant] = cell["end"]
        for row, policy in policies.items():
            drawn = training.gaussian_samples(policy, bandit.box, config["samples"])
            found[row, name] = bandit, drawn
        found["kl", name] = bandit, trained["generated"][i]
    return found
