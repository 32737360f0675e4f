"""D4RL's files, read by the reference's rules."""

import contextlib
import http.server
import threading

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtql_jax.datasets import d4rl
from dtql_jax.datasets.registry import get_task
from dtql_jax.errors import UserError
from tests.datasets.dataset_files import d4rl_columns, write_d4rl

HOPPER = get_task("hopper-medium").d4rl[0]
KITCHEN = get_task("kitchen-mixed").d4rl[0]


def reference_loop(columns, max_episode_steps):
    """The rule as D4RL states it, one row at a time."""
    rows = []
    episode_step = 0
    for i in range(len(columns["rewards"]) - 1):
        done = bool(columns["terminals"][i])
        if "timeouts" in columns:
            last = bool(columns["timeouts"][i])
        else:
            last = episode_step == max_episode_steps - 1
        if last:
            episode_step = 0
            continue
        if done:
            episode_step = 0
        rows.append(
            (
                columns["observations"][i],
                columns["actions"][i],
                columns["observations"][i + 1],
                columns["rewards"][i],
                1.0 - done,
            )
        )
        episode_step += 1
    if not rows:
        return None
    return [np.array(column, np.float32) for column in zip(*rows, strict=True)]


ends = st.lists(
    st.sampled_from(["", "", "", "terminal", "timeout", "both"]), min_size=2, max_size=40
)


@settings(max_examples=150, deadline=None)
@given(ends=ends, with_timeouts=st.booleans(), limit=st.integers(2, 9))
def test_rows_as_in_the_reference(ends, with_timeouts, limit):
    terminals = [end in ("terminal", "both") for end in ends]
    timeouts = [end in ("timeout", "both") for end in ends] if with_timeouts else None
    columns = d4rl_columns(np.random.default_rng(len(ends)), terminals, timeouts)
    transitions, _ = d4rl.from_columns(columns, limit)
    expected = reference_loop(columns, limit)
    if expected is None:
        assert len(transitions.rewards) == 0
        return
    for name, array, column in zip(transitions._fields, transitions, expected, strict=True):
        np.testing.assert_array_equal(array, column, err_msg=name)


def read(tmp_path, lines, columns, source=HOPPER):
    path = write_d4rl(tmp_path / "files" / source.file_name, columns)
    return d4rl.load(path, source, lines)


def test_a_file_is_read_to_the_row(tmp_path, lines):
    terminals, timeouts = np.zeros(9, bool), np.zeros(9, bool)
    terminals[2], timeouts[5] = True, True
    columns = d4rl_columns(np.random.default_rng(0), terminals, timeouts)
    # the rule does not ask for them
    columns["next_observations"] = np.full((9, 11), 7, np.float32)
    transitions, facts = read(tmp_path, lines, columns)
    kept = [0, 1, 2, 3, 4, 6, 7]
    np.testing.assert_array_equal(transitions.rewards, columns["rewards"][kept])
    following = columns["observations"][np.array(kept) + 1]
    np.testing.assert_array_equal(transitions.next_observations, following)
    np.testing.assert_array_equal(transitions.masks, [1, 1, 0, 1, 1, 1, 1])
    assert facts["episodes"] == 3
    for array in transitions:
        assert array.dtype == np.float32
        assert array.flags.c_contiguous


def test_kitchen_counts_rows_where_timeouts_are_missing(tmp_path, lines):
    # one demonstration of 100 rows, one of 500; the limit is 280
    terminals = np.zeros(600, bool)
    terminals[[99, 599]] = True
    columns = d4rl_columns(np.random.default_rng(0), terminals, None, 60, 9)
    transitions, _ = read(tmp_path, lines, columns, KITCHEN)
    # the count starts at 1 after a terminal: it reaches 279 at row 100 + 278; and the last row
    dropped = {378, 599}
    kept = [row for row in range(600) if row not in dropped]
    np.testing.assert_array_equal(transitions.rewards, columns["rewards"][kept])
    assert int((transitions.masks == 0).sum()) == 1


def test_columns_of_other_types_and_shapes_that_the_reference_takes(tmp_path, lines):
    columns = d4rl_columns(np.random.default_rng(0), [0, 1, 0, 0], [0, 0, 0, 1])
    expected, _ = read(tmp_path / "a", lines, columns)
    other = {
        "observations": columns["observations"].astype(np.float64),
        "actions": columns["actions"].astype(np.float64),
        "rewards": columns["rewards"][:, None],
        "terminals": columns["terminals"].astype(np.float32)[:, None],
        "timeouts": columns["timeouts"].astype(np.uint8),
    }
    transitions, _ = read(tmp_path / "b", lines, other)
    for array, column in zip(transitions, expected, strict=True):
        np.testing.assert_array_equal(array, column)
        assert array.dtype == np.float32


def test_actions_are_clipped_and_counted(tmp_path, lines):
    columns = d4rl_columns(np.random.default_rng(0), [0, 0, 0], [0, 0, 1])
    columns["actions"][0] = [1.37, -1.2, 0.3]
    transitions, facts = read(tmp_path, lines, columns)
    assert facts["clipped_actions"] == 2
    assert np.abs(transitions.actions).max() <= 1


def good():
    return d4rl_columns(np.random.default_rng(0), [0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 1, 0])


def without(*keys):
    return {key: column for key, column in good().items() if key not in keys}


def put(key, row, value):
    columns = good()
    columns[key] = columns[key].copy()
    columns[key][row] = value
    return columns


BAD = {
    "keys": (without("rewards", "terminals"), "lacks rewards, terminals; expected .*found actions"),
    "nothing": ({}, "lacks observations.*found nothing"),
    "lengths": (
        good() | {"actions": np.zeros((5, 3))},
        r"actions have shape \(5, 3\); expected \(6, any\)",
    ),
    "rewards": (good() | {"rewards": np.zeros((6, 2))}, r"rewards have shape \(6, 2\)"),
    "flat": (good() | {"observations": np.zeros(6)}, r"observations have shape \(6,\)"),
    "text": (good() | {"actions": np.full((6, 3), b"x")}, "actions are of type .*; expected numb"),
    "complex": (good() | {"rewards": np.zeros(6, complex)}, "rewards are of type .*expected numb"),
    "width": (good() | {"observations": np.zeros((6, 17))}, r"\(4, 17\); expected \(4, 11\)"),
    "action width": (good() | {"actions": np.zeros((6, 6))}, r"\(4, 6\); expected \(4, 3\)"),
    "nan": (put("observations", 3, np.nan), "observations have 11 NaN or infinite .* row 3"),
    "inf": (
        put("rewards", 1, np.inf),
        "rewards have 1 NaN or infinite entries, the first in row 1",
    ),
    "too large": (
        good() | {"rewards": np.array([0, 0, 0, 0, 1e300, 0])},
        "rewards have 1 NaN or infinite entries, the first in row 4",
    ),
    "flags": (good() | {"terminals": np.array([0, 0, 2, 0, 0, 0])}, "terminals must be .* row 2"),
    "empty": (d4rl_columns(np.random.default_rng(0), [], []), "is empty"),
    "one row": (d4rl_columns(np.random.default_rng(0), [1], [0]), "is empty"),
    "no ends": (
        good() | {"terminals": np.zeros(6, bool), "timeouts": np.zeros(6, bool)},
        "no terminal and no timeout in 5 rows",
    ),
    "no ends, no timeouts": (
        without("timeouts") | {"terminals": np.zeros(6, bool)},
        "no terminal and no timeout in 5 rows",
    ),
}


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_one_line(tmp_path, lines, name):
    columns, message = BAD[name]
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, lines, columns)
    assert HOPPER.file_name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_group_in_place_of_an_array_is_missing(tmp_path, lines):
    path = write_d4rl(tmp_path / HOPPER.file_name, without("rewards"))
    with h5py.File(path, "a") as file:
        file.create_group("rewards")
    with pytest.raises(UserError, match="lacks rewards"):
        d4rl.load(path, HOPPER, lines)


def test_cut_off_and_foreign_files_are_one_line(tmp_path, lines):
    path = write_d4rl(tmp_path / HOPPER.file_name, good())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="is not a whole HDF5 file"):
        d4rl.load(path, HOPPER, lines)
    path.write_bytes(b"<html>403 Forbidden</html>")
    with pytest.raises(UserError, match="is not a whole HDF5 file"):
        d4rl.load(path, HOPPER, lines)


def test_damaged_blocks_are_one_line(tmp_path, lines):
    path = tmp_path / HOPPER.file_name
    with h5py.File(path, "w") as file:
        for key, column in good().items():
            file.create_dataset(key, data=column, chunks=True, fletcher32=True)
        offset = file["observations"].id.get_chunk_info(0).byte_offset
    data = bytearray(path.read_bytes())
    data[offset] ^= 255
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match="is damaged"):
        d4rl.load(path, HOPPER, lines)


def test_the_second_load_comes_from_the_cache(tmp_path, lines, monkeypatch):
    first, facts = read(tmp_path, lines, good())
    monkeypatch.setattr(d4rl, "read_columns", None)
    second, facts_again = d4rl.load(tmp_path / "files" / HOPPER.file_name, HOPPER, lines)
    np.testing.assert_array_equal(first.observations, second.observations)
    np.testing.assert_equal(facts, facts_again)


def test_folders_are_looked_into_in_order(tmp_path, monkeypatch):
    named, environment = tmp_path / "named", tmp_path / "environment"
    home = tmp_path / "home" / ".d4rl" / "datasets"
    monkeypatch.setenv("D4RL_DATASET_DIR", str(environment))
    with pytest.raises(UserError) as caught:
        d4rl.find(HOPPER, str(named))
    for part in (HOPPER.file_name, str(named), str(environment), str(home), "D4RL_BASE_URL"):
        assert part in str(caught.value)
    for folder in (home, environment, named):
        write_d4rl(folder / HOPPER.file_name, good())
        assert d4rl.find(HOPPER, str(named)) == folder / HOPPER.file_name


@contextlib.contextmanager
def serving(body, length):
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if not self.path.endswith(HOPPER.file_name):
                self.send_error(404)
                return
            self.send_response(200)
            if length is not None:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def body(tmp_path):
    path = write_d4rl(tmp_path / "served.hdf5", good())
    return path.read_bytes()


@pytest.mark.parametrize("announced", [True, False])
def test_download(tmp_path, lines, body, monkeypatch, announced):
    with serving(body, len(body) if announced else None) as address:
        monkeypatch.setenv("D4RL_BASE_URL", f"{address}/files/")
        path = d4rl.fetch(HOPPER, str(tmp_path / "new"), lines)
    assert path.read_bytes() == body
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert len(lines) == 1 and address in lines[0]
    d4rl.load(path, HOPPER, lines)
    # now it is there, and the address is not asked again
    assert d4rl.fetch(HOPPER, str(tmp_path / "new"), lines) == path


@pytest.mark.parametrize(
    ("cut", "announce", "message"),
    [
        (-1, True, "broke off"),
        (-1, False, "not a whole HDF5 file"),
        (0, True, "not a whole HDF5 file"),
    ],
)
def test_a_download_that_is_not_whole_is_never_kept(
    tmp_path, lines, body, monkeypatch, cut, announce, message
):
    sent = body[:cut] if cut else b"<html>no</html>"
    length = (len(body) if cut else len(sent)) if announce else None
    folder = tmp_path / "new"
    with serving(sent, length) as address:
        monkeypatch.setenv("D4RL_BASE_URL", address)
        with pytest.raises(UserError, match=message) as caught:
            d4rl.fetch(HOPPER, str(folder), lines)
        assert "nothing was kept" in str(caught.value)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("address", ["nonsense", "http://127.0.0.1:1/files"])
def test_addresses_that_fail_are_one_line(tmp_path, lines, monkeypatch, address):
    monkeypatch.setenv("D4RL_BASE_URL", address)
    with pytest.raises(UserError, match=f"downloading {address}.* failed"):
        d4rl.fetch(HOPPER, str(tmp_path / "new"), lines)


def test_a_file_that_the_address_lacks_is_one_line(tmp_path, lines, monkeypatch):
    with serving(b"", 0) as address:
        monkeypatch.setenv("D4RL_BASE_URL", address)
        with pytest.raises(UserError, match="404"):
            d4rl.fetch(KITCHEN, str(tmp_path / "new"), lines)
