"""Nothing is executed from a file: no pickle is read anywhere."""

import ast
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtql_jax import export
from dtql_jax.collect import policies
from dtql_jax.datasets import cache
from dtql_jax.errors import UserError
from dtql_jax.types import Transition
from tests import replay_reference
from tests.datasets.dataset_files import policy_arrays

ROOT = Path(__file__).parents[2]
SOURCES = [
    p
    for room in ("dtql_jax", "experiments", "benchmarks", "examples")
    for p in (ROOT / room).rglob("*.py")
]
EXECUTING = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}


def nodes(kind: type) -> Iterator[tuple[Path, Any]]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, kind):
                yield path, node


def test_no_module_that_executes_what_it_reads_is_imported() -> None:
    found = [(path, a.name) for path, node in nodes(ast.Import) for a in node.names]
    found += [(path, node.module or "") for path, node in nodes(ast.ImportFrom)]
    assert len(found) > 500
    assert [x for x in found if x[1].split(".")[0] in EXECUTING] == []


def test_every_array_is_loaded_without_pickle() -> None:
    calls = [
        (path, node)
        for path, node in nodes(ast.Call)
        if ast.unparse(node.func) in ("np.load", "numpy.load", "np.lib.format.read_array")
    ]
    assert len(calls) > 5
    for path, node in calls:
        given = {k.arg: ast.unparse(k.value) for k in node.keywords}
        assert given.get("allow_pickle") == "False", f"{path}:{node.lineno}"
    names = {ast.unparse(node.func) for _, node in nodes(ast.Call)}
    assert not names & {"eval", "exec", "yaml.load", "torch.load", "np.memmap"}


class Trap:
    """An object whose unpickling makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (str(self.path), "w")


def npz(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez(path, **arrays)
    return path


def test_readers_do_not_spring_a_trap(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    trap = np.array([Trap(sprung)], object)
    arrays = policy_arrays(np.random.default_rng(0), 4, 2)

    policy = npz(tmp_path / "policy.npz", arrays | {"dense_0/kernel": trap})
    with pytest.raises(UserError):
        policies.read_policy(policy)

    replay = npz(tmp_path / "replay.npz", {"init/diffusion/w": trap})
    assert replay_reference.main([str(replay)]) == 2

    with zipfile.ZipFile(tmp_path / "policy.zip", "w") as archive:
        about = {"format": export.FORMAT, "format_version": export.FORMAT_VERSION, "weights": ["w"]}
        sizes = dict.fromkeys((*export.SIZES, "rows_at_once"), 1)
        archive.writestr(export.METADATA, json.dumps(about | sizes))
        archive.writestr(export.PROGRAM, b"")
        np.save(tmp_path / "w.npy", trap, allow_pickle=True)
        archive.write(tmp_path / "w.npy", f"{export.WEIGHTS}w.npy")
    with pytest.raises(UserError):
        export.load_policy(tmp_path / "policy.zip")
    assert not sprung.exists()
    # the trap does work
    np.load(tmp_path / "w.npy", allow_pickle=True)
    assert sprung.exists()


def test_the_cache_does_not_spring_a_trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DTQL_JAX_CACHE", str(tmp_path / "cache"))
    ones = np.ones((3, 1), np.float32)
    arrays = Transition(ones, ones, ones, ones[:, 0], ones[:, 0])
    lines: list[str] = []

    def load() -> Transition:
        return cache.cached("data", [], {}, lambda: (arrays, {}), lines.append)[0]

    load()
    (entry,) = (tmp_path / "cache").iterdir()
    sprung = tmp_path / "sprung"
    npz(entry, arrays._asdict() | {"masks": np.array([Trap(sprung)], object)})
    np.testing.assert_array_equal(load().masks, arrays.masks)
    assert "damaged" in lines[0] and not sprung.exists()
