"""Nested states in files: all that they may hold comes back as it was."""

import json
import math
import struct
import tracemalloc
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dlcore._common import safetensors, tree
from dlcore._common.tree import read_tree, write_tree


def same(a, b):
    """Whether two states are the same, classes, NaN and signs of zeros included."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray | np.generic):
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        if a.dtype == object:
            return all(map(same, a.reshape(-1), b.reshape(-1)))
        return a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return len(a) == len(b) and all(
            same(k, m) and same(v, w) for (k, v), (m, w) in zip(a.items(), b.items(), strict=True)
        )
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b)
    return a == b


def travelled(path, state, kind="thing"):
    write_tree(path, kind, state)
    return read_tree(path, kind)


dtypes = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(),
    hnp.unsigned_integer_dtypes(),
    hnp.floating_dtypes(sizes=(16, 32, 64)),
    hnp.complex_number_dtypes(sizes=(64, 128)),
    hnp.unicode_string_dtypes(max_len=4),
    hnp.byte_string_dtypes(max_len=4),
    hnp.datetime64_dtypes(),
    hnp.timedelta64_dtypes(),
)
arrays = dtypes.flatmap(
    lambda dtype: hnp.arrays(dtype.newbyteorder("="), hnp.array_shapes(min_dims=0, min_side=0))
)
scalars = dtypes.flatmap(lambda dtype: hnp.arrays(dtype.newbyteorder("="), ())).map(lambda a: a[()])
texts = st.text(st.characters(codec=None), max_size=8)
keys = st.one_of(texts, st.integers(), st.booleans(), st.none(), st.tuples(st.integers(), texts))
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.floats(),
    texts,
    arrays,
    scalars,
    st.lists(st.floats(), min_size=16, max_size=20),
    st.lists(st.integers(), min_size=16, max_size=20),
)
states = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(texts, st.just("$array")), inner, max_size=4),
        st.dictionaries(keys, inner, max_size=4),
        st.lists(inner, max_size=3).map(
            lambda items: (
                np.array([*items, None], object)[:-1]
                if not any(isinstance(i, list | tuple | np.ndarray) for i in items)
                else None
            )
        ),
    ),
    max_leaves=12,
)


@given(states)
def test_states_come_back(tmp_path_factory, state):
    path = tmp_path_factory.getbasetemp() / "state"
    assert same(travelled(path, state), state)


def test_nans_integers_and_scalars_to_the_bit(tmp_path):
    nan = struct.unpack(">d", bytes.fromhex("7ff8dead0000beef"))[0]
    state = {
        "floats": [math.inf, -math.inf, nan, -0.0, 5e-324, 1.0],
        "ints": [2**63, -(2**63), -(2**63) - 1, 10**5000],
        "scalars": [np.float32(0.1), np.int8(-3), np.bool_(True), np.str_("ä"), np.float64(nan)],
        "times": [np.datetime64("2024-02-29T12", "h"), np.timedelta64("NaT", "25s")],
    }
    assert same(travelled(tmp_path / "a", state), state)


def test_arrays_are_named_by_their_place(tmp_path):
    state = {"model": {"0.weight": np.ones((2, 3), np.float32)}, "more": [np.zeros(2), {"a": 1}]}
    write_tree(tmp_path / "a", "thing", state)
    arrays, texts = safetensors.read(tmp_path / "a")
    assert list(arrays) == ["model.0.weight", "more.0"]
    assert json.loads(texts["dlcore"])["kind"] == "thing"
    clash = {"a": {"b": np.zeros(1)}, "a.b": np.ones(1), "__metadata__": np.ones(2)}
    assert same(travelled(tmp_path / "a", clash), clash)


def test_texts_of_classes_are_arrays_of_numbers(tmp_path):
    classes = {"classes": np.array(["setosa", "ï", ""]), "objects": np.array(["a", None], object)}
    assert same(travelled(tmp_path / "a", classes), classes)


def test_more_than_a_header_may_have(tmp_path, monkeypatch):
    monkeypatch.setattr(safetensors, "_LONGEST_HEADER", 10_000)
    with pytest.raises(ValueError, match="of which the format allows 10000"):
        write_tree(tmp_path / "a", "thing", [""] * 10_000)
    assert not (tmp_path / "a").exists()


class Colour(int):
    pass


def held_by_itself():
    state = []
    state.append(state)
    return state


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ({"a": [1, {2}]}, TypeError, r"\['a'\]\[1\] is a set, for which a file has no form"),
        ([print], TypeError, r"\[0\] is a builtin_function"),
        (Colour(3), TypeError, "the state is a Colour"),
        (OrderedDict(a=1), TypeError, "the state is a OrderedDict"),
        (np.ma.masked_array([1], [True]), TypeError, "masked array"),
        ({"x": np.zeros(1, "i4,f4")}, TypeError, r"\['x'\] has dtype"),
        (np.longdouble(1), TypeError, "dtype float128|dtype longdouble"),
        (held_by_itself(), ValueError, "nested more than 100 deep"),
    ],
)
def test_what_a_file_has_no_form_for(tmp_path, state, error, message):
    path = tmp_path / "a"
    write_tree(path, "thing", 1)
    with pytest.raises(error, match=message):
        write_tree(path, "thing", state)
    assert read_tree(path, "thing") == 1


def document(**changes):
    return {
        "format": 1,
        "version": "0.1.0",
        "kind": "thing",
        "state": None,
        "metadata": None,
    } | changes


def of_state(state):
    return json.dumps(document(state=state))


FAULTS = {
    "no JSON": ("{", "Expecting"),
    "a list": ("[]", "no format"),
    "newer": (
        json.dumps({"format": 2, "version": "9.0"}),
        "by dlcore 9.0 in format 2, which is newer",
    ),
    "format": (json.dumps(document(format="1")), "no format"),
    "more": (json.dumps(document(more=1)), "its metadata has format"),
    "the kind": (json.dumps(document(kind=[1])), "its kind is no text"),
    "another kind": (
        json.dumps(document(kind="model", state=None)),
        "holds a model, not a thing",
    ),
    "twice": ('{"format":1,"format":1}', "a key twice"),
    "NaN": ('{"format":NaN}', "NaN"),
    # Deeper than the stack of each CPython; spaces, since a file this small has not so many lists.
    "deep": ("[" * 100_000 + " " * 4_000_000, "nested too deep"),
    "deep state": (of_state(7).replace("7", "[" * 300 + "]" * 300), "nested too deep"),
    "bulky": ("[" + "[]," * 1_000_000 + "[]]", "more values than a file of its size"),
    "unknown form": (of_state({"$code": "print()"}), r"unknown form '\$code'"),
    "form among keys": (of_state({"a": 1, "$int": "0x1"}), "among other keys"),
    "keys in a form": (of_state({"$int": "0x1", "a": 1}), "not as it should be"),
    "int": (of_state({"$int": "1"}), "no integer"),
    "int is a list": (of_state({"$int": []}), "not as it should be"),
    "float": (of_state({"$float": "7ff0"}), "2 bytes"),
    "float text": (of_state({"$float": "xy"}), "not hexadecimal"),
    "missing": (of_state({"$array": "x"}), "'x' is missing"),
    "twice taken": (of_state([{"$array": "a"}, {"$array": "a"}]), "'a' is missing"),
    "not referred to": (of_state(None), "nothing refers to its array 'a'"),
    "dtype": (of_state({"$array": "a", "dtype": "O"}), "'O' is no dtype"),
    "fields": (of_state({"$array": "a", "dtype": "i4,i4"}), "no dtype"),
    "huge dtype": (of_state({"$array": "a", "dtype": "<U99999999999"}), "no dtype"),
    "other dtype": (of_state({"$array": "a", "dtype": "<U3"}), "a has shape"),
    "unit": (of_state({"$array": "a", "dtype": "<M8[zz]"}), "no dtype"),
    "list": (of_state({"$list": "m"}), r"shape \(1, 2\)"),
    "key twice": (of_state({"$dict": [[1, 1], [1, 2]]}), "a key twice"),
    "key is a list": (of_state({"$dict": [[[1], 1]]}), "a list as its key"),
    "no pair": (of_state({"$dict": [[1]]}), "without a key and a value"),
    "scalar": (of_state({"$scalar": "00", "dtype": "<f4"}), "1 bytes"),
    "scalar bool": (of_state({"$scalar": "02", "dtype": "|b1"}), "value 2"),
    "scalar dtype": (of_state({"$scalar": "00", "dtype": "V1"}), "no dtype"),
    "objects": (of_state({"$objects": [1], "shape": [2]}), r"shape \[2\]"),
    "objects' shape": (of_state({"$objects": [1], "shape": [-1]}), "shape"),
    "character": (
        of_state([{"$array": "u", "dtype": "<U1"}, {"$array": "a"}]),
        "character 0x7fffffff",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_wrong_is_said(tmp_path, name):
    text, message = FAULTS[name]
    given = {
        "a": np.zeros(3),
        "m": np.zeros((1, 2)),
        "u": np.full((1, 1), 0x7FFFFFFF, np.uint32),
    }
    used = {"a": given["a"]} | {n: given[n] for n in "mu" if f'"{n}"' in text}
    safetensors.write(tmp_path / "file", used, {"dlcore": text})
    with pytest.raises(ValueError, match=f"file(:| is damaged:) .*{message}"):
        read_tree(tmp_path / "file", "thing")


@pytest.mark.parametrize(
    "state",
    [
        [[]] * 30_000,
        {f"word {i}": i for i in range(20_000)},
        {f"{i}": {"a": 1.5 * i} for i in range(5_000)},
        ["ab"] * 50_000,
        [1.5 * i for i in range(100_000)],
        list(range(10**6, 10**6 + 100_000)),
        "a" * 10**6 + "\U0001f600",
        {"long": list(range(10_000)), "array": np.zeros(10_000)},
        np.full(100_000, "abcdef"),
    ],
    ids=range(9),
)
def test_reading_takes_four_times_the_size_of_the_file(tmp_path, state):
    """Of small values the file is as long as it takes; one without that length is refused."""
    path = tmp_path / "file"
    write_tree(path, "thing", state)
    tracemalloc.start()
    try:
        assert same(read_tree(path, "thing"), state)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * path.stat().st_size + 300_000
    arrays, texts = safetensors.read(path)
    safetensors.write(tmp_path / "short", arrays, texts)
    if (tmp_path / "short").stat().st_size < path.stat().st_size:
        with pytest.raises(ValueError, match="than a file of its size"):
            read_tree(tmp_path / "short", "thing")


def test_files_of_others_are_named(tmp_path):
    safetensors.write(tmp_path / "file", {"a": np.zeros(3)}, {"format": "pt"})
    with pytest.raises(ValueError, match="file: it was not written by dlcore"):
        read_tree(tmp_path / "file", "thing")
    with pytest.raises(FileNotFoundError):
        read_tree(tmp_path / "none", "thing")


def test_the_format_is_that_of_the_files_that_are_kept():
    """A newer format comes with files of its own under tests/data."""
    assert tree.FORMAT == 1
