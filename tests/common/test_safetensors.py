"""The safetensors format, beside the library of that name, and files that are none."""

import json
import tracemalloc

import numpy as np
import pytest

from dlcore._common import safetensors

library = pytest.importorskip("safetensors.numpy")

ARRAYS = {
    "flag": np.array([True, False, True]),
    "matrix": np.arange(6.0, dtype=np.float32).reshape(2, 3).T,
    "number": np.array(8),
    "half": np.array([1.5, np.nan], np.float16),
    "swapped": np.arange(3, dtype=">i4"),
    "none": np.zeros((0, 3)),
    "complex": np.array([1 + 2j], np.complex64),
    "an ä / name": np.array([3], np.uint8),
}


def file_of(path, header, data=b"", pad=True):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % 8 if pad else 0)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_the_library_reads_what_is_written_and_the_other_way(tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    texts = {"a": 'quoted "ü" \n', "b": ""}
    safetensors.write(ours, ARRAYS, texts)
    native = {
        name: np.ascontiguousarray(value.astype(value.dtype.newbyteorder("="))).reshape(value.shape)
        for name, value in ARRAYS.items()
    }
    library.save_file(native, theirs, texts)
    read = library.load_file(ours)
    for arrays, metadata in (safetensors.read(ours), safetensors.read(theirs), (read, texts)):
        assert metadata == texts
        assert set(arrays) == set(ARRAYS)
        for name, value in ARRAYS.items():
            np.testing.assert_array_equal(arrays[name], value)
            assert arrays[name].dtype == value.dtype.newbyteorder("=")
            assert arrays[name].shape == value.shape
    arrays, _ = safetensors.read(ours)
    assert list(arrays) == list(ARRAYS)
    assert all(
        a.flags.writeable and a.flags.aligned and a.flags.c_contiguous for a in arrays.values()
    )


def test_headers_of_any_layout(tmp_path):
    spaced = (
        b' {\n"a" : {"shape":[ ], "data_offsets" :[1,5] ,"dtype":"F32"}\t,"b":'
        + json.dumps(entry("U8", (1,), (0, 1))).encode()
        + b', "__metadata__" : { } }\r\n'
    )
    arrays, metadata = safetensors.read(
        file_of(tmp_path / "a", spaced, b"\x07\0\0\x80\x3f", pad=False)
    )
    assert arrays["a"] == 1  # though it lies at an odd place
    assert arrays["a"].flags.aligned
    assert arrays["b"].tolist() == [7]
    assert metadata == {}


def overlapping():
    return {"a": entry("F32", (1,), (0, 4)), "b": entry("F32", (1,), (2, 6))}


FAULTS = {
    "empty": (b"", None, "0 bytes"),
    "short": (b"1234567", None, "7 bytes"),
    "long header": (
        (2**40).to_bytes(8, "little") + b"{}",
        None,
        "its header is said to have 109951",
    ),
    "largest header": (b"\xff" * 16, None, "its header is said to have"),
    "no JSON": (b"no such file", b"", "'no such file"),
    "no text": (b'{"\xff"}', b"", "no text"),
    "a list": (b"[]", b"", r"'\[\]"),
    "nothing": (b"", b"", "instead of '{'"),
    "not closed": (b'{"a":', b"", "no array"),
    "not ended": (b'{"a', b"", "no JSON"),
    "trailing": (b"{}{}", b"", "instead of its end"),
    "two commas": (b'{"__metadata__":{},,}', b"", "instead of '\"'"),
    "deep": (b"[" * 200_000, b"", "instead of '{'"),
    "deep entry": (b'{"a":' + b"[" * 200_000, b"", "'a' is no array"),
    # Past the depth of some CPythons; on others each bracket makes a list of 88 bytes.
    "deep shape": (b'{"a":{"shape":' + b"[" * 1500 + b"}}", b"", "described by"),
    "long entry": (b'{"a":{"shape":[' + b"0," * 5000 + b"0]}}", b"", "'a' is no array"),
    "control character": (b'{"a\n":{}}', b"", "no JSON"),
    "duplicate": (
        b'{"a":' + json.dumps(entry()).encode() + b',"a":' + json.dumps(entry()).encode() + b"}",
        bytes(4),
        "'a' twice",
    ),
    "duplicate key": (
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"dtype":"F32"}}',
        bytes(4),
        "twice",
    ),
    "duplicate metadata": (b'{"__metadata__":{},"__metadata__":{}}', b"", "'__metadata__' twice"),
    "duplicate text": (b'{"__metadata__":{"a":"","a":""}}', b"", "'a' twice"),
    "metadata is no text": ({"__metadata__": {"a": 1}}, b"", "instead of '\"'"),
    "metadata is a list": ({"__metadata__": []}, b"", "instead of '{'"),
    "more keys": ({"a": entry() | {"more": 1}}, bytes(4), "'more'"),
    "fewer keys": ({"a": {"dtype": "F32", "shape": [1]}}, bytes(4), "not dtype, shape and offsets"),
    "unknown dtype": ({"a": entry("F33")}, bytes(4), "unknown dtype 'F33'"),
    "dtype is no text": ({"a": entry([32])}, bytes(4), r"unknown dtype \[32\]"),
    "negative shape": ({"a": entry(shape=(-1, -1))}, bytes(4), r"shape \[-1, -1\]"),
    "fractional shape": ({"a": entry(shape=(1.0,))}, bytes(4), r"shape \[1.0\]"),
    "flag shape": ({"a": entry(shape=(True,))}, bytes(4), r"shape \[True\]"),
    "huge shape": ({"a": entry(shape=(2**62, 4))}, bytes(4), "does not have 4 bytes"),
    "huge number": ({"a": entry(shape=(10**400,))}, bytes(4), "shape"),
    "empty but huge": ({"a": entry(shape=(0, 2**62, 2**62), offsets=(0, 0))}, b"", "shape"),
    "many dimensions": ({"a": entry(shape=(1,) * 65)}, bytes(4), "shape"),
    "negative offsets": ({"a": entry(offsets=(-4, 0))}, bytes(4), r"data_offsets \[-4, 0\]"),
    "reversed offsets": ({"a": entry(offsets=(4, 0))}, bytes(4), r"data_offsets \[4, 0\]"),
    "three offsets": ({"a": entry(offsets=(0, 4, 8))}, bytes(8), "data_offsets"),
    "huge offsets": ({"a": entry(offsets=(2**62, 2**62 + 4))}, bytes(4), "begins at byte 4611"),
    "overlapping": (overlapping(), bytes(6), "'b' begins at byte 2, after 'a', which ends at 4"),
    "the same": ({"a": entry(), "b": entry()}, bytes(4), "'b' begins at byte 0"),
    "a hole": ({"a": entry(), "b": entry(offsets=(8, 12))}, bytes(12), "'b' begins at byte 8"),
    "a gap before": ({"a": entry(offsets=(4, 8))}, bytes(8), "and is the first"),
    "truncated": ({"a": entry(shape=(2,), offsets=(0, 8))}, bytes(7), "8 bytes, but 7 follow"),
    "more bytes": ({"a": entry()}, bytes(5), "4 bytes, but 5 follow"),
    "wrong size": ({"a": entry("F64")}, bytes(4), "does not have 4 bytes"),
    "no bool": ({"a": entry("BOOL", (4,))}, b"\0\1\2\0", "'a' is BOOL, but has the value 2"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_wrong_is_said(tmp_path, name):
    header, data, message = FAULTS[name]
    path = tmp_path / "file"
    if data is None:
        path.write_bytes(header)
    else:
        file_of(path, header, data)
    size = path.stat().st_size
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"file is no safetensors file: .*{message}"):
            safetensors.read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * size + 250_000


def test_a_header_of_lists_in_lists_is_not_parsed(tmp_path):
    """As any JSON it would become twenty times its size."""
    path = file_of(tmp_path / "file", b'{"a":[' + b"[]," * 1_000_000 + b"[]]}")
    tracemalloc.start()
    with pytest.raises(ValueError, match="'a' is no array"):
        safetensors.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * path.stat().st_size


@pytest.mark.parametrize("wide", ["\U0001f600".encode(), b"\\ud83d\\ude00"])
def test_characters_that_make_a_header_many_times_as_long(tmp_path, wide):
    header = b'{"__metadata__":{"a":"' + b"a" * 300_000 + wide + b'"}}'
    path = file_of(tmp_path / "file", header)
    tracemalloc.start()
    with pytest.raises(ValueError, match="many times as long"):
        safetensors.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * path.stat().st_size
    data = np.zeros(300_000, np.uint8)
    metadata = {"a": "a" * 100_000 + "\U0001f600"}
    safetensors.write(path, {"data": data}, metadata)
    assert safetensors.read(path)[1] == metadata


def test_names_and_dtypes_that_a_file_cannot_have(tmp_path):
    assert not safetensors.has_name(np.dtype("<U3"))
    assert not safetensors.has_name(np.dtype(object))
    with pytest.raises(TypeError, match="a is bfloat16"):
        safetensors.read(file_of(tmp_path / "b", {"a": entry("BF16", (2,))}, bytes(4)))
