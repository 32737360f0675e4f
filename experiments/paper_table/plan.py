"""What the table trains: one population for each task and algorithm, a run folder each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections

from dtql_jax.commands.sweeps.plan import expand_tasks
from dtql_jax.datasets import d4rl
from dtql_jax.datasets.registry import get_task
from dtql_jax.datasets.sources import D4rlSource, Task
from dtql_jax.errors import UserError
from dtql_jax.evaluation import published
from dtql_jax.presets import get_config, has_pretraining, parts
from dtql_jax.training.run_folder import RunFolder

# fields of a run that no score depends on, and the number of seeds, which is looked at apart
_FREE = ("source", "d4rl_dir", "seed", "seeds", "updates_per_call", "log_every", "eval_every")
_FREE += ("eval_episodes", "final_eval_episodes", "eval_envs", "eval_workers", "eval_overlap")
_FREE += ("checkpoint_every", "wandb", "record_episodes", "data_seed", "preset", "task")
PAPER_SEEDS = 5
# where data lies may differ when a table is gone on with; the dataset itself may not
_PLACES = ("d4rl_dir", "behaviour_policy", "wandb")


class Cell(NamedTuple):
    """One population: a task and an algorithm.

    Attributes:
      task: as it was asked for; with D4RL's version where the source is D4RL.
      algorithm: its name.
      config: of the run, a ConfigDict.
    """

    task: str
    algorithm: str
    config: Any

    @property
    def folder(self) -> str:
        """Name of the run's folder below the table's."""
        return f"{self.task}-{self.config.source.replace(':', '-')}-{self.algorithm}"

    @property
    def env(self) -> Any:
        """The environment of its evaluation."""
        return source_of(self.task, self.config.source).env


def make_cells(
    table: Any,
    *,
    source: str,
    tasks: Sequence[str] = (),
    algorithms: Sequence[str] = (),
    d4rl_dir: str = "",
    behaviour_policy: str = "",
) -> tuple[list[Cell], dict[str, str]]:
    """The cells of a table, in the order of the work.

    Args:
      table: ConfigDict of `configs.paper_table`.
      source: "generated", "minari" or "d4rl"; with "d4rl" a task without a version is that of
        the paper ("antmaze-umaze" is antmaze-umaze-v0).
      tasks: names and groups; (): the configuration's.
      algorithms: of every task; (): those of the configuration's domains.
      d4rl_dir: a folder with D4RL's files.
      behaviour_policy: file that collects AntMaze's data; "": the policy that comes along.

    Returns:
      (cells, {task: why the source cannot have its data}).

    Raises:
      UserError: a name is unknown, a file of D4RL's is missing (all of them are named), or a
        setting is wrong.
    """
    if source not in ("generated", "minari", "d4rl"):
        raise UserError(f"--source is {source!r}; expected generated, minari or d4rl")
    cells, absent = [], {}
    for task in expand_tasks(list(tasks) or _split(table.tasks)):
        entry = get_task(task)
        if entry.domain not in table:
            raise UserError(f"{task} is no task of this table; it has {', '.join(_domains(table))}")
        own = source
        if source == "d4rl" and task == entry.name:
            task = _as_in_the_paper(entry)
        elif source == "generated" and entry.generated is None and entry.generated_variants:
            own = f"generated:{entry.generated_variants[0].variant}"
        if source_of(task, own, missing_ok=True) is None:
            absent[task] = entry.not_generated if source == "generated" else f"not in {source}"
            continue
        for algorithm in list(algorithms) or _split(table[entry.domain].algorithms):
            config = _configuration(table, task, entry.domain, algorithm)
            config.update(source=own, d4rl_dir=d4rl_dir)
            if entry.domain == "antmaze" and source == "generated":
                config.behaviour_policy = behaviour_policy
            if source != "generated":
                config.data_transitions = 0
            plain = config.to_dict()
            parts.trainer_config(plain)
            parts.algorithm_of(plain)
            cells.append(Cell(task, algorithm, config))
    if source == "d4rl":
        _check_files(cells, d4rl_dir)
    return cells, absent


def source_of(task: str, source: str, missing_ok: bool = False) -> Any:
    """The record of a task's source, with its environment; None where there is none."""
    entry = get_task(task)
    kind, _, variant = source.partition(":")
    if kind == "d4rl":
        found = entry.d4rl[0] if entry.d4rl else None
    elif kind == "minari":
        found = entry.minari
    else:
        known = [s for s in (entry.generated, *entry.generated_variants) if s is not None]
        found = next((s for s in known if not variant or s.variant == variant), None)
        if not variant and entry.generated is None:
            found = None
    if found is None and not missing_ok:
        raise UserError(f"{task} has no source {source!r}")
    return found


def _configuration(table: Any, task: str, domain: str, algorithm: str) -> Any:
    """A run's configuration: the published one, with what the table changes in it."""
    own = table[domain]
    config: Any = get_config(f"{task},paper,{algorithm}")
    reference: Any = get_config(f"{task},paper,dtql")
    config.preset = table.preset
    config.seed, config.seeds = table.seed, table.seeds
    config.data_transitions = own.transitions
    for field in ("batch_size", "hidden_dim", "num_candidates"):
        place = config if field == "batch_size" else config.algorithm
        if own[field] and field in place:
            place[field] = own[field]
    # the same updates for every algorithm of a task, pretraining among them
    pretrain = own.pretrain_steps or (0 if own.train_steps else reference.pretrain_steps)
    train = own.train_steps or reference.train_steps
    first = pretrain if has_pretraining(algorithm) else 0
    config.pretrain_steps, config.train_steps = first, pretrain + train - first
    for field in ("learning_rate", "critic_learning_rate"):
        if field in config.algorithm:
            config.algorithm[field] = max(config.algorithm[field], table.least_learning_rate)
    config.eval_every = config.train_steps  # the last checkpoint alone is reported
    config.final_eval_episodes = own.episodes or parts.final_episodes(reference.to_dict())
    if own.train_steps:
        # a minute's work at most is lost where such a run is cut off
        config.update(checkpoint_every=1_000, log_every=200, updates_per_call=50)
    return config


def follows_paper(config: dict[str, Any], seeds: int, episodes: int) -> bool:
    """Whether a run was made by the paper's protocol, so that its score may stand beside it.

    Args:
      config: of the run, from its run.json.
      seeds: that were trained.
      episodes: of each seed, with the last checkpoint.
    """
    if config["algorithm"]["name"] != "dtql":
        return False
    paper = get_config(f"{config['task']},paper,dtql").to_dict()
    same = all(config.get(k) == v for k, v in paper.items() if k not in _FREE)
    return same and seeds >= PAPER_SEEDS and episodes >= parts.final_episodes(paper)


def check_same(cell: Cell, folder: Path) -> None:
    """UserError where a folder holds a run of other settings than the cell's."""
    if not (folder / "run.json").exists():
        return
    found, asked = RunFolder.read(folder)["config"], cell.config.to_dict()
    for name in asked.keys() | found.keys():
        before, now = found.get(name), asked.get(name)
        if name in _PLACES or before == now:
            continue
        if isinstance(now, dict) and isinstance(before, dict):
            name, before, now = next(
                (f"{name}.{k}", before.get(k), v) for k, v in now.items() if before.get(k) != v
            )
        raise UserError(
            f"{folder} holds a run with {name} {before!r}, asked for is {now!r}; choose another "
            "--out, or remove that folder"
        )


def _check_files(cells: Sequence[Cell], d4rl_dir: str) -> None:
    """UserError that names all of D4RL's files that are missing, unless an address has them."""
    import os

    sources: dict[str, D4rlSource] = {
        s.file_name: s for s in (source_of(cell.task, "d4rl") for cell in cells)
    }
    missing = []
    for name, source in sources.items():
        try:
            d4rl.find(source, d4rl_dir or None)
        except UserError:
            missing.append(name)
    if missing and not os.environ.get("D4RL_BASE_URL"):
        places = ", ".join(map(str, d4rl.folders(d4rl_dir or None)))
        raise UserError(
            f"{len(missing)} of D4RL's {len(sources)} files are not in {places}: "
            f"{', '.join(missing)}; put them there, name their folder by --d4rl_dir or "
            "D4RL_DATASET_DIR, or set D4RL_BASE_URL to an address that has them"
        )


def _as_in_the_paper(task: Task) -> str:
    """The task with the version that the paper has; its name alone where that has none."""
    for source in task.d4rl:
        if published.paper_score(task.name, "d4rl", source.version):
            return f"{task.name}-{source.version}"
    return task.name


def _split(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _domains(table: Any) -> list[str]:
    return [name for name in table if isinstance(table[name], ml_collections.ConfigDict)]
