"""Strategies for what happens to files: flipped bits, cuts, foreign content."""

import io
import json
import zipfile

import h5py
import numpy as np
from hypothesis import strategies as st


def _npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.arange(3), objects=np.array([{"a": 1}], object))
    return buffer.getvalue()


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("metadata.json", "[1, 2")
    return buffer.getvalue()


def _hdf5() -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["observations"] = np.zeros((3, 2))
        file["actions"] = np.array(["a", "b", "c"], dtype="S1")
    return buffer.getvalue()


FOREIGN = {
    "nothing": b"",
    "text": b"observations,actions\n1,2\n",
    "zeros": bytes(4096),
    "a pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00K\x01K\x02\x86\x94.",
    "an .npz with objects": _npz(),
    "a .zip": _zip(),
    "an .hdf5": _hdf5(),
    "JSON": json.dumps({"config": {}, "dataset": []}).encode(),
    "a number": b"17",
}


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """`content` with one thing done to it."""
    size = len(content)
    kind = draw(st.sampled_from(["flip", "flip", "flip", "cut", "wipe", "insert", "foreign"]))
    if kind == "foreign" or size == 0:
        return draw(st.sampled_from(list(FOREIGN.values())) | st.binary(max_size=200))
    place = draw(st.integers(0, size - 1))
    if kind == "cut":
        return content[:place]
    if kind == "wipe":
        length = draw(st.integers(1, 512))
        return (
            content[:place]
            + bytes(len(content[place : place + length]))
            + content[place + length :]
        )
    if kind == "insert":
        return content[:place] + draw(st.binary(min_size=1, max_size=16)) + content[place:]
    changed = bytearray(content)
    for at in [place, *draw(st.lists(st.integers(0, size - 1), max_size=7))]:
        changed[at] ^= 1 << draw(st.integers(0, 7))
    return bytes(changed)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([0, 1, -1, 2**40, 10**30, 0.5, -1e300, float("inf"), float("nan")])
    | st.sampled_from(["", "x", "0", "\u0000", "../..", "dtql", "inf"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.just("a"), inner, max_size=1),
    max_leaves=3,
)


@st.composite
def changed_tree(draw: st.DrawFn, tree: dict) -> dict:
    """A JSON-able tree with a value replaced, or an entry removed or added, somewhere."""
    copy = json.loads(json.dumps(tree))
    node = copy
    while True:
        key = draw(st.sampled_from(sorted(node)))
        if isinstance(node[key], dict) and node[key] and draw(st.booleans()):
            node = node[key]
            continue
        action = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if action == "remove":
            del node[key]
        elif action == "add":
            node[draw(st.sampled_from(["x", "a/b", ""]))] = draw(JSON_VALUES)
        else:
            node[key] = draw(JSON_VALUES)
        return copy
