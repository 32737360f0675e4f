"""Bad input for the commands' parts: one target for each kind of input.

A target is made in a folder of its own and gives a strategy of cases and a function that tries one:
it returns "correct" or "refused" and fails on anything but a result that holds or an error of one
line. `run` counts them.
"""

import collections
import copy
import io
import json
import os
import shutil
import time
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dtql_jax import export
from dtql_jax.algorithms import ALGORITHMS, make_algorithm
from dtql_jax.collect import policies
from dtql_jax.commands import runner
from dtql_jax.datasets import d4rl, minari, store
from dtql_jax.datasets.own import read_data
from dtql_jax.datasets.registry import get_task
from dtql_jax.errors import UserError
from dtql_jax.presets import parts
from dtql_jax.training.checkpoint import Checkpoints
from dtql_jax.training.run_folder import RunFolder
from dtql_jax.types import Transition
from tests import replay_reference
from tests.algorithms import small
from tests.commands.small_run import small_config, write_run
from tests.datasets.dataset_files import (
    d4rl_columns,
    policy_arrays,
    random_episode,
    write_d4rl,
    write_minari,
)
from tests.robustness.damage import JSON_VALUES, changed_tree, damaged

Case = Any
Target = tuple[st.SearchStrategy, Callable[[Case], str]]
REFERENCE = Path(__file__).parents[1] / "reference"


def attempt(act: Callable[[], Any], holds: Callable[[Any], bool], errors: Any = UserError) -> str:
    """Does something; "refused" after an error of one line, "correct" where its result holds."""
    try:
        result = act()
    except errors as error:
        said = str(error)
        assert said and "\n" not in " ".join(said.split())
        return "refused"
    assert holds(result), "neither an error nor a correct result"
    return "correct"


def run(
    make: Callable[[Path], Target], folder: Path, cases: int
) -> tuple[collections.Counter, float]:
    """Tries `cases` cases of a target, the same ones each time.

    Returns:
      Their results, and the seconds of the slowest one.
    """
    strategy, check = make(folder)
    found: collections.Counter = collections.Counter()
    seconds = [0.0]

    @settings(
        max_examples=cases,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(strategy)
    def every(case: Case) -> None:
        began = time.monotonic()
        found[check(case)] += 1
        seconds.append(time.monotonic() - began)

    every()
    return found, max(seconds)


# ---------------------------------------------------------------------------------- configurations

_NUMBERS = st.sampled_from([0, 1, 2, 3, 7, 64, -1, 2**31, 2**40, 0.0, 0.5, 1.0, 1.5, -0.5, 1e30])
_ANYTHING = _NUMBERS | st.sampled_from([float("inf"), float("nan"), True, False]) | JSON_VALUES


def configurations(folder: Path) -> Target:
    """Fields of a run's configuration: what is accepted gives a training step that is sound."""
    plain = {name: small_config("pointmaze-umaze", name) for name in ALGORITHMS}

    @st.composite
    def cases(draw: st.DrawFn) -> dict[str, Any]:
        config = copy.deepcopy(plain[draw(st.sampled_from(sorted(plain)))])
        for _ in range(draw(st.integers(1, 3))):
            node = config if draw(st.booleans()) else config["algorithm"]
            if not isinstance(node, dict) or not node:
                continue
            node[draw(st.sampled_from(sorted(node)))] = draw(_ANYTHING)
        return config

    def build(config: dict[str, Any]) -> Any:
        algorithm = config["algorithm"]
        if not isinstance(algorithm, dict) or not isinstance(algorithm.get("name"), str):
            raise UserError("a run's record is refused for this before (see records)")
        return parts.trainer_config(config), parts.algorithm_of(config)

    def sound(built: Any) -> bool:
        loop, algorithm = built
        if loop.batch_size > 4096:
            return True  # no memory for it here
        batch = small.batch(2)
        state = jax.eval_shape(algorithm.init, jax.random.key(0), batch)
        after, metrics = jax.eval_shape(algorithm.train_step, state, batch, jax.random.key(0))
        same = jax.tree.structure(after) == jax.tree.structure(state)
        return same and all(value.shape == () for value in metrics.values())

    return cases(), lambda config: attempt(lambda: build(config), sound)


def records(folder: Path) -> Target:
    """run.json: damaged, of another program, or written by hand."""
    path = folder / "run"
    write_run(path)
    file = path / "run.json"
    whole = file.read_bytes()
    record = json.loads(whole)
    by_hand = {key: value for key, value in record.items() if key != "sha256"}
    changed = changed_tree(by_hand).map(lambda tree: json.dumps(tree).encode())

    def check(content: bytes) -> str:
        file.write_bytes(content)

        def act() -> Any:
            with RunFolder.open(path) as opened:
                config = opened.run["config"]
                parts.trainer_config(config)
                parts.algorithm_of(config)
                return opened.run, runner.members_of(opened.run)

        def sound(found: Any) -> bool:
            run, _ = found
            return "sha256" not in json.loads(content) or (run | {"sha256": ""}) == (
                record | {"sha256": ""}
            )

        return attempt(act, sound)

    return damaged(whole) | changed, check


# ------------------------------------------------------------------------------------------- data


def _sound(found: tuple[Transition, dict[str, Any]], rows: int) -> bool:
    """Whether transitions are what a training can take."""
    arrays, _ = found
    finite = all(np.isfinite(array).all() for array in arrays)
    return finite and 0 < len(arrays.rewards) <= rows and bool(np.isin(arrays.masks, (0, 1)).all())


def hdf5_files(folder: Path) -> Target:
    """D4RL's files, read for a task of the registry and as a file of the user's own."""
    source = get_task("hopper-medium").d4rl[0]
    rng = np.random.default_rng(0)
    ends = np.arange(60) % 20 == 19
    original = folder / "original.hdf5"
    write_d4rl(original, d4rl_columns(rng, ends, ~ends & (np.arange(60) % 30 == 12)))
    whole = original.read_bytes()
    cache = folder / "cache"

    def check(case: tuple[bytes, bool]) -> str:
        content, own = case
        path = folder / f"{uuid.uuid4().hex}.hdf5"
        path.write_bytes(content)
        shutil.rmtree(cache, ignore_errors=True)
        os.environ["DTQL_JAX_CACHE"] = str(cache)
        try:
            if own:
                return attempt(lambda: (read_data(path, None)[0], {}), lambda x: _sound(x, 60))
            return attempt(
                lambda: d4rl.load(path, source, lambda line: None), lambda x: _sound(x, 60)
            )
        finally:
            path.unlink()

    return st.tuples(damaged(whole), st.booleans()), check


def minari_files(folder: Path) -> Target:
    """Minari's folders: the HDF5 file and the metadata beside it."""
    source = get_task("pointmaze-umaze").generated
    root, cache = folder / "minari", folder / "cache"
    os.environ["MINARI_DATASETS_PATH"] = str(root)
    os.environ["DTQL_JAX_CACHE"] = str(cache)
    rng = np.random.default_rng(0)
    widths = {"observation": 4, "achieved_goal": 2, "desired_goal": 2}
    episodes = [random_episode(rng, 8, widths, 2, terminated=k % 2 == 0) for k in range(3)]
    name = "test/maze-v0"
    write_minari(name, source.env.env_id, episodes, **source.env.kwargs)
    place = store.data_folder(name)
    files = {path.name: path.read_bytes() for path in sorted(place.iterdir())}
    metadata = json.loads(files[store.METADATA_FILE])
    changed = changed_tree(metadata).map(lambda tree: json.dumps(tree).encode())
    of_file = [st.tuples(st.just(key), damaged(content)) for key, content in files.items()]

    def check(case: tuple[str, bytes]) -> str:
        shutil.rmtree(cache, ignore_errors=True)
        for key, content in files.items():
            (place / key).write_bytes(content)
        (place / case[0]).write_bytes(case[1])
        os.environ["MINARI_DATASETS_PATH"] = str(root)
        os.environ["DTQL_JAX_CACHE"] = str(cache)
        return attempt(
            lambda: minari.load([name], source, lambda line: None), lambda x: _sound(x, 24)
        )

    return st.one_of(*of_file, st.tuples(st.just(store.METADATA_FILE), changed)), check


# ------------------------------------------------------------------------- checkpoints and policies


def checkpoints(folder: Path) -> Target:
    """A run's checkpoints: any of their files damaged, cut, foreign or gone."""
    whole, place = folder / "whole", folder / "checkpoints"
    state = {
        "state": {"w": np.arange(12.0, dtype=np.float32).reshape(3, 4), "k": np.array(5, np.int32)}
    }
    later = jax.tree.map(lambda x: x + 1, state)
    with Checkpoints(whole) as manager:
        manager.save(10, state, {"update": 10})
        manager.save(20, later, {"update": 20})
    names = sorted(str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file())
    gone = st.tuples(st.sampled_from(names), st.none())
    of_file = [st.tuples(st.just(n), damaged((whole / n).read_bytes())) for n in names]

    def check(case: tuple[str, bytes | None]) -> str:
        name, content = case
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(whole, place)
        if content is None:
            (place / name).unlink()
        else:
            (place / name).write_bytes(content)

        def act() -> Any:
            with Checkpoints(place) as manager:
                return manager.restore(state)

        def sound(found: Any) -> bool:
            tree, meta = found
            expected = {10: state, 20: later}[meta["update"]]
            return all(
                np.array_equal(a, b)
                for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(expected), strict=True)
            )

        return attempt(act, sound)

    return st.one_of(gone, *of_file), check


def behaviour_policies(folder: Path) -> Target:
    """Policies that collect data (.npz): damaged files, and whole ones with other arrays."""
    arrays = policy_arrays(np.random.default_rng(0), 4, 2)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    path = folder / "policy.npz"

    @st.composite
    def other(draw: st.DrawFn) -> bytes:
        changed = dict(arrays)
        key = draw(st.sampled_from(sorted(changed)))
        value = draw(
            st.none()
            | st.sampled_from(
                [np.array("x"), np.array(np.nan), np.zeros((0, 3)), np.ones((2, 2, 2)), np.ones(7)]
            )
        )
        if value is None:
            del changed[key]
        else:
            changed[key] = value
        content = io.BytesIO()
        np.savez(content, **changed)
        return content.getvalue()

    def check(content: bytes) -> str:
        path.write_bytes(content)

        def act() -> np.ndarray:
            return policies.read_policy(path).action(np.zeros(4, np.float32))

        return attempt(act, lambda action: action.shape == (2,) and np.isfinite(action).all())

    return damaged(buffer.getvalue()) | other(), check


def exported_policies(folder: Path) -> Target:
    """Exported policies: damaged archives, and sound archives with damaged parts."""
    algorithm = make_algorithm("bc", small.settings("bc"))
    batch = small.batch(2)
    sizes = batch.observations.shape[1], batch.actions.shape[1]
    state = algorithm.init(jax.random.key(0), batch)
    path = folder / "policy.zip"
    bound = np.ones(sizes[1], np.float32)
    export.export_policy(
        path,
        algorithm.act,
        state,
        observation_dim=sizes[0],
        action_low=-bound,
        action_high=bound,
        metadata={},
        platforms=("cpu",),
    )
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    observation = np.linspace(-1, 1, sizes[0]).astype(np.float32)
    expected = export.load_policy(path)(observation, 3)
    metadata = json.loads(parts[export.METADATA])

    def pack(name: str, content: bytes) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for key, own in parts.items():
                archive.writestr(key, content if key == name else own)
        return buffer.getvalue()

    inside = [damaged(parts[name]).map(lambda c, name=name: pack(name, c)) for name in parts]
    changed = changed_tree(metadata).map(
        lambda tree: pack(export.METADATA, json.dumps(tree).encode())
    )

    def check(content: bytes) -> str:
        path.write_bytes(content)

        def sound(action: np.ndarray) -> bool:
            return action.shape == expected.shape and np.array_equal(action, expected)

        return attempt(lambda: export.load_policy(path)(observation, 3), sound)

    return st.one_of(damaged(whole), changed, *inside), check


def replay_files(folder: Path) -> Target:
    """Stored runs of the reference programs, as `python -m tests.replay_reference` takes them."""
    file = REFERENCE / "dtql_decay.npz"
    whole = file.read_bytes()
    path = folder / "replay.npz"

    def check(content: bytes) -> str:
        path.write_bytes(content)
        code = replay_reference.main([str(path)])
        assert code in (0, 1, 2)
        return "refused" if code == 2 else "correct"

    return damaged(whole), check


TARGETS = {
    "configurations": configurations,
    "records (run.json)": records,
    "HDF5 files": hdf5_files,
    "Minari folders": minari_files,
    "checkpoints": checkpoints,
    "behaviour policies (.npz)": behaviour_policies,
    "exported policies": exported_policies,
    "replay files": replay_files,
}
FEW = 8  # cases of each target in the fast tests
MANY = {  # cases of each target in the slow ones, by what one costs
    "configurations": 200,
    "records (run.json)": 250,
    "HDF5 files": 250,
    "Minari folders": 150,
    "checkpoints": 150,
    "behaviour policies (.npz)": 200,
    "exported policies": 150,
    "replay files": 60,
}
