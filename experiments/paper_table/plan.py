"""The runs that the table trains: one population for each task and algorithm."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dtql_jax.commands.sweeps.plan import expand_tasks
from dtql_jax.datasets import d4rl
from dtql_jax.datasets.registry import get_task
from dtql_jax.datasets.sources import D4rlSource, Task
from dtql_jax.errors import UserError
from dtql_jax.evaluation import published
from dtql_jax.presets import get_config, has_pretraining, parts
from dtql_jax.training.run_folder import RunFolder
from experiments.paper_table.settings import DOMAINS

SOURCES = ("generated", "minari", "d4rl")
CURVE_POINTS = 10  # evaluations of a run of the published size
# a run may continue with these changed; its dataset is checked by its fingerprint
_MAY_CHANGE = ("d4rl_dir", "behaviour_policy", "wandb")


class PlannedRun(NamedTuple):
    """One population.

    Attributes:
      task: as asked for, with D4RL's version if the source is D4RL.
      algorithm: its name.
      config: ConfigDict of the run.
      source: record of the task's data.
    """

    task: str
    algorithm: str
    config: Any
    source: Any

    @property
    def folder(self) -> str:
        """Name of the run's folder."""
        return f"{self.task}-{self.config.source}-{self.algorithm}"


def plan_runs(
    table: Any,
    *,
    source: str,
    tasks: Sequence[str] = (),
    algorithms: Sequence[str] = (),
    d4rl_dir: str = "",
    behaviour_policy: str = "",
) -> tuple[list[PlannedRun], dict[str, str]]:
    """Returns the runs of a table, in the order of training.

    Args:
      table: ConfigDict of `settings.get_config`.
      source: "generated", "minari" or "d4rl". With "d4rl" a task without a version means the
        paper's ("antmaze-umaze" is antmaze-umaze-v0).
      tasks: names and groups; by default the configuration's.
      algorithms: of every task; by default those of the task's domain.
      d4rl_dir: folder of D4RL's files.
      behaviour_policy: file that collects AntMaze's data; by default the package's own.

    Returns:
      (runs, {task: why its data is not available from this source}).

    Raises:
      UserError: a name is unknown, a file of D4RL is missing (all of them are named), or a
        setting is wrong.
    """
    if source not in SOURCES:
        raise UserError(f"--source is {source!r}; expected generated, minari or d4rl")
    runs: list[PlannedRun] = []
    absent: dict[str, str] = {}
    for task in expand_tasks(list(tasks) or _split(table.tasks)):
        entry = get_task(task)
        if entry.domain not in DOMAINS:
            raise UserError(f"{task} is no task of this table; it has {', '.join(DOMAINS)}")
        if source == "d4rl" and task == entry.name:
            task = _paper_version(entry)
        data = _source_of(get_task(task), source)
        if data is None:
            absent[task] = entry.not_generated if source == "generated" else f"not in {source}"
            continue
        for algorithm in list(algorithms) or _split(table[entry.domain].algorithms):
            config = _configuration(table, task, entry.domain, algorithm)
            config.update(source=source, d4rl_dir=d4rl_dir)
            if source != "generated":
                config.data_transitions = 0
            elif entry.domain == "antmaze":
                config.behaviour_policy = behaviour_policy
            parts.trainer_config(config.to_dict())
            parts.algorithm_of(config.to_dict())
            runs.append(PlannedRun(task, algorithm, config, data))
    if source == "d4rl":
        _check_files([run.source for run in runs], d4rl_dir)
    return runs, absent


def _split(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _paper_version(entry: Task) -> str:
    """Returns the task's name with the version in the paper, if the paper has the task."""
    for source in entry.d4rl:
        if published.paper_score(entry.name, "d4rl", source.version):
            return f"{entry.name}-{source.version}"
    return entry.name


def _source_of(entry: Task, source: str) -> Any:
    """Returns the record of a task's data, or None. Data of random actions does not count."""
    if source == "d4rl":
        return entry.d4rl[0] if entry.d4rl else None
    return entry.minari if source == "minari" else entry.generated


def _configuration(table: Any, task: str, domain: str, algorithm: str) -> Any:
    """Returns the published configuration with the table's changes."""
    own = table[domain]
    config: Any = get_config(f"{task},paper,{algorithm}")
    reference: Any = get_config(f"{task},paper,dtql")
    config.preset = table.preset
    config.seed, config.seeds = table.seed, table.seeds
    config.data_transitions = own.transitions
    config.batch_size = own.batch_size or config.batch_size
    for field in ("hidden_dim", "num_candidates"):
        if own[field] and field in config.algorithm:
            config.algorithm[field] = own[field]
    # every algorithm of a task makes the same number of updates, pretraining included
    pretrain = own.pretrain_steps or (0 if own.train_steps else reference.pretrain_steps)
    train = own.train_steps or reference.train_steps
    config.pretrain_steps = pretrain if has_pretraining(algorithm) else 0
    config.train_steps = pretrain + train - config.pretrain_steps
    for field in ("learning_rate", "critic_learning_rate"):
        if field in config.algorithm:
            config.algorithm[field] = max(config.algorithm[field], table.least_learning_rate)
    # the learning curve has CURVE_POINTS points; a small run is evaluated at its end only
    config.final_eval_episodes = own.episodes or parts.final_episodes(reference.to_dict())
    config.eval_episodes = min(config.eval_episodes, 10)
    config.eval_every = config.train_steps // CURVE_POINTS
    if own.train_steps:
        config.eval_every = config.train_steps
        config.update(checkpoint_every=1_000, log_every=200, updates_per_call=50)
    return config


def _check_files(sources: Sequence[D4rlSource], d4rl_dir: str) -> None:
    """Raises UserError with the names of all missing files, unless a mirror is configured."""
    missing = []
    names = {source.file_name: source for source in sources}
    for name, source in names.items():
        try:
            d4rl.find(source, d4rl_dir or None)
        except UserError:
            missing.append(name)
    if missing and not os.environ.get("D4RL_BASE_URL"):
        places = ", ".join(map(str, d4rl.folders(d4rl_dir or None)))
        raise UserError(
            f"{len(missing)} of D4RL's {len(names)} files are not in {places}: "
            f"{', '.join(missing)}; put them there, name their folder by --d4rl_dir or "
            "D4RL_DATASET_DIR, or set D4RL_BASE_URL to an address that has them"
        )


def check_same(run: PlannedRun, folder: Path) -> None:
    """Raises UserError if a folder holds a run of other settings."""
    if not (folder / "run.json").exists():
        return
    found, asked = flat(RunFolder.read(folder)["config"]), flat(run.config.to_dict())
    for name in sorted(asked.keys() | found.keys()):
        if name not in _MAY_CHANGE and found.get(name) != asked.get(name):
            raise UserError(
                f"{folder} holds a run with {name} {found.get(name)!r}, asked for is "
                f"{asked.get(name)!r}; choose another --folder, or remove that one"
            )


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a run's configuration with the algorithm's fields as "algorithm.alpha"."""
    own = {f"algorithm.{key}": value for key, value in config["algorithm"].items()}
    return {key: value for key, value in config.items() if key != "algorithm"} | own
