"""The cache gives back what was built, for exactly the files it was built from."""

import os

import numpy as np
import pytest

from dtql_jax.datasets.cache import cache_root, cached
from dtql_jax.types import Transition


def arrays(value=0.0):
    return Transition(
        observations=np.full((4, 3), value, np.float32),
        actions=np.zeros((4, 2), np.float32),
        next_observations=np.ones((4, 3), np.float32),
        rewards=np.arange(4, dtype=np.float32),
        masks=np.ones(4, np.float32),
    )


class Builder:
    """Counts how often it is asked."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return arrays(self.calls), {"episodes": 2, "episode_lengths": np.array([1, 3])}


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.hdf5"
    path.write_bytes(b"one")
    return path


def entries():
    return [path for path in cache_root().iterdir() if not path.name.startswith(".")]


def test_a_second_load_is_not_built(source, lines):
    build = Builder()
    first, facts = cached("name", [source], {}, build, lines)
    second, facts_again = cached("name", [source], {}, build, lines)
    assert build.calls == 1
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    np.testing.assert_equal(facts_again, facts)
    assert type(facts_again["episodes"]) is int
    assert facts["episodes"] == 2
    assert facts["fingerprint"].startswith("sha256:")
    assert lines == []


def test_a_changed_file_is_read_anew_and_the_old_entry_removed(source, lines):
    build = Builder()
    cached("name", [source], {}, build, lines)
    source.write_bytes(b"other")
    result, _ = cached("name", [source], {}, build, lines)
    assert build.calls == 2
    assert result.observations[0, 0] == 2
    assert len(entries()) == 1


def test_the_time_of_change_alone_counts(source, lines):
    build = Builder()
    cached("name", [source], {}, build, lines)
    os.utime(source, ns=(0, 0))
    cached("name", [source], {}, build, lines)
    assert build.calls == 2


def test_other_settings_are_another_entry(source, lines):
    build = Builder()
    for settings in ({"keys": ["a"]}, {"keys": ["b"]}, {"keys": ["a"]}):
        cached("name", [source], settings, build, lines)
    assert build.calls == 2


def cut(entry):
    entry.write_bytes(entry.read_bytes()[:-8])


def flip_byte(entry):
    data = bytearray(entry.read_bytes())
    data[len(data) // 2] ^= 1
    entry.write_bytes(bytes(data))


def pickle_array(entry):
    with np.load(entry, allow_pickle=False) as file:
        arrays = dict(file)
    np.savez(entry, **(arrays | {"masks": np.array([{}], object)}))


def remove_array(entry):
    with np.load(entry, allow_pickle=False) as file:
        arrays = dict(file)
    del arrays["actions"]
    np.savez(entry, **arrays)


@pytest.mark.parametrize("damage", [cut, flip_byte, pickle_array, remove_array])
def test_a_damaged_entry_is_built_anew(source, lines, damage):
    build = Builder()
    cached("name", [source], {}, build, lines)
    (entry,) = entries()
    damage(entry)
    result, _ = cached("name", [source], {}, build, lines)
    assert build.calls == 2
    assert result.observations[0, 0] == 2
    assert len(lines) == 1 and "damaged" in lines[0]
    cached("name", [source], {}, build, lines)
    assert build.calls == 2


def test_an_unusable_cache_folder_costs_only_time(source, lines, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DTQL_JAX_CACHE", str(tmp_path / "file"))
    build = Builder()
    result, facts = cached("name", [source], {}, build, lines)
    assert result.observations[0, 0] == 1
    assert facts["fingerprint"].startswith("sha256:")
    assert len(lines) == 1 and "cannot keep name in the cache" in lines[0]


def test_a_write_that_fails_leaves_nothing(source, lines, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", fail)
        cached("name", [source], {}, Builder(), lines)
    assert list(cache_root().iterdir()) == []
    assert "disk full" in lines[0]


def test_entries_of_killed_writers_and_older_versions_are_removed(source, lines):
    cached("name", [source], {}, Builder(), lines)
    (entry,) = entries()
    slot = entry.name.rpartition("-")[0]
    left_over, running, old = (
        cache_root() / f"{slot}-{end}" for end in ("a.npz.1.writing", "b.npz.2.writing", "old")
    )
    left_over.write_text("")
    os.utime(left_over, (0, 0))
    running.write_text("")
    old.mkdir()
    source.write_bytes(b"other")
    cached("name", [source], {}, Builder(), lines)
    assert not left_over.exists() and not old.exists() and not entry.exists()
    assert running.exists()


def test_root_defaults_to_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("DTQL_JAX_CACHE")
    assert cache_root() == tmp_path / "home" / ".cache" / "dtql_jax"
