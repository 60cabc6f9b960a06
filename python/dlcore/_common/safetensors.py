"""The safetensors format: named arrays and texts in a file that runs no code when it is read.

Eight bytes with the length of the header, the header in JSON, and the bytes of the arrays, one after
the other. A header has for each array its dtype, shape and place, and under "__metadata__" texts by
name: https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
import math
import os
import re
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dlcore._common.atomic import replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dlcore._common.typing import Array

# What the format calls the dtypes that NumPy has,
_DTYPES = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "C64": np.dtype("<c8"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
# and the bits and other names of those that it has not.
_OTHERS = {
    "BF16": (16, "bfloat16"),
    "F8_E4M3": (8, "float8_e4m3fn"),
    "F8_E5M2": (8, "float8_e5m2"),
    "F8_E8M0": (8, "float8_e8m0fnu"),
    "F6_E2M3": (6, "float6_e2m3fn"),
    "F6_E3M2": (6, "float6_e3m2fn"),
    "F4": (4, "float4_e2m1fn"),
}
# The longest header that the safetensors library reads.
_LONGEST_HEADER = 100_000_000
_MOST_DIMENSIONS = 64  # of an array of NumPy

# A character of four bytes, as it is or escaped, which makes all others of its text as long.
_wide = re.compile(rb"[\xf0-\xff]|(?<!\\)(?:\\\\)*+\\u[dD][89abAB]")
_HARMLESS_HEADER = 1 << 16

_METADATA = "__metadata__"
_space = re.compile(r"[ \t\n\r]*")
# An array's dtype, shape and place: no longer than that, and without objects in it.
_description = re.compile(r"\{[^{}]{0,4000}\}")


def has_name(dtype: np.dtype[Any]) -> bool:
    """Whether the format has a name for a dtype."""
    return dtype.newbyteorder("<") in _NAMES


def write(
    path: str | os.PathLike[str],
    arrays: Mapping[str, Array],
    metadata: Mapping[str, str],
    *,
    least: int = 0,
) -> None:
    """Write arrays and texts to a file, whole or not at all.

    Parameters
    ----------
    path : str or path
        The file, which is replaced if it exists.
    arrays : mapping of str to ndarray
        Of any layout, of dtypes that `has_name` has a name for.
    metadata : mapping of str to str
    least : int
        Bytes that the file is to have at least: spaces end its header.

    Raises
    ------
    OSError
        The file cannot be written: the message has its path. What was there before is as it was.
    ValueError
        The header would be longer than the format allows.
    """
    header: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    # Wide elements come first, so that the bytes of all arrays are aligned.
    order = sorted(arrays, key=lambda name: -arrays[name].dtype.itemsize)
    places, end = {}, 0
    for name in order:
        places[name] = [end, end + arrays[name].nbytes]
        end += arrays[name].nbytes
    for name, array in arrays.items():
        dtype = _NAMES[array.dtype.newbyteorder("<")]
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": places[name]}
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    text += b" " * max(0, least - end - len(text) - 8)
    text += b" " * (-len(text) % 8)
    if len(text) > _LONGEST_HEADER:
        raise ValueError(
            f"{os.fspath(path)}: names, shapes and metadata take {len(text)} bytes, "
            f"of which the format allows {_LONGEST_HEADER}"
        )
    with replacing(path) as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name in order:
            array = arrays[name].astype(arrays[name].dtype.newbyteorder("<"), copy=False)
            file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def read(
    path: str | os.PathLike[str], wanted: Callable[[str], bool] | None = None
) -> tuple[dict[str, Array], dict[str, str]]:
    """Read the arrays and texts of a file.

    Nothing is taken for granted: the header is checked against the size of the file before memory is
    asked for, which is little more than the file has.

    Parameters
    ----------
    path : str or path
    wanted : callable, optional
        Whether to read the array of a name; all by default.

    Returns
    -------
    arrays : dict of str to ndarray
        In the order of the header, each with memory of its own.
    metadata : dict of str to str

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is no safetensors file; the message has its path and what is wrong.
    TypeError
        NumPy does not have the dtype of an array that is wanted.
    """
    with open(path, "rb") as file:
        try:
            return _read(file, wanted)
        except _Fault as fault:
            raise ValueError(f"{os.fspath(path)} is no safetensors file: {fault}") from None


class _Fault(Exception):
    """What is wrong with a file."""


class _Entry(NamedTuple):
    """An array as the header describes it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def _read(
    file: IO[bytes], wanted: Callable[[str], bool] | None
) -> tuple[dict[str, Array], dict[str, str]]:
    size = os.fstat(file.fileno()).st_size
    if size < 8:
        raise _Fault(f"it has {size} bytes, less than the length of a header")
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, _LONGEST_HEADER):
        raise _Fault(f"its header is said to have {length} bytes, the file has {size}")
    header = file.read(length)
    if length > max(_HARMLESS_HEADER, size // 2) and _wide.search(header):
        raise _Fault("its header, most of it, has characters that make it many times as long")
    try:
        text = str(header, "utf-8")
    except UnicodeDecodeError as error:
        raise _Fault(f"its header is no text: {error}") from None
    del header
    entries, metadata = _Header(text).read()
    del text
    _check_places(entries, size - 8 - length)
    arrays = {}
    for entry in entries:
        if wanted is None or wanted(entry.name):
            if entry.dtype in _OTHERS:
                raise TypeError(
                    f"{entry.name} is {_OTHERS[entry.dtype][1]}, which NumPy does not have: save "
                    f"it as float32, in PyTorch with tensor.float()"
                )
            file.seek(8 + length + entry.start)
            arrays[entry.name] = _read_array(file, entry)
    return arrays, metadata


def _read_array(file: IO[bytes], entry: _Entry) -> Array:
    dtype = _DTYPES[entry.dtype]
    try:
        array = np.empty(entry.shape, dtype)
    except ValueError:  # no elements, but more of them in a row than NumPy counts
        raise _Fault(f"{entry.name!r} has shape {entry.shape}") from None
    data = array.reshape(-1).view(np.uint8)
    if file.readinto(data) != data.size:  # type: ignore[attr-defined]
        raise _Fault(f"it ended within {entry.name!r} while it was read")
    if dtype.kind == "b" and data.size and data.max() > 1:
        raise _Fault(f"{entry.name!r} is BOOL, but has the value {data.max()}")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _check_places(entries: list[_Entry], size: int) -> None:
    """Make sure that the arrays lie one after the other and fill the file."""
    stop, before = 0, ""
    for entry in sorted(entries, key=lambda entry: (entry.start, entry.stop)):
        if entry.start != stop:
            where = f"after {before!r}, which ends at {stop}" if before else "and is the first"
            raise _Fault(f"{entry.name!r} begins at byte {entry.start}, {where}")
        stop, before = entry.stop, entry.name
    if stop != size:
        raise _Fault(f"its arrays have {stop} bytes, but {size} follow the header")


class _Header:
    """Reads a header from left to right.

    Parsed as any JSON it could become lists in lists of many times its length.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def read(self) -> tuple[list[_Entry], dict[str, str]]:
        """Return the arrays and the texts that the header has."""
        entries: list[_Entry] = []
        metadata: dict[str, str] | None = None
        names: set[str] = set()
        for name in self._keys(names):
            if name == _METADATA:
                metadata = {}
                for key in self._keys(metadata):
                    metadata[key] = self._string()
            else:
                names.add(name)
                entries.append(_entry(name, self._described(name)))
        self._skip()
        if self._at < len(self._text):
            raise self._unexpected("its end")
        return entries, metadata or {}

    def _keys(self, seen: Any) -> Any:
        """Give the keys of an object; the caller reads the value of each."""
        self._expect("{")
        if self._next() == "}":
            self._expect("}")
            return
        has_metadata = False
        while True:
            key = self._string()
            if key in seen or (has_metadata and key == _METADATA):
                raise _Fault(f"its header has {key!r} twice")
            has_metadata |= key == _METADATA
            self._expect(":")
            yield key
            if self._next() != ",":
                break
            self._expect(",")
        self._expect("}")

    def _described(self, name: str) -> Any:
        """Return what is said of an array."""
        self._skip()
        found = _description.match(self._text, self._at)
        if found is None:
            raise _Fault(f"{name!r} is no array with a dtype, a shape and data_offsets")
        self._at = found.end()
        try:
            return json.loads(found[0], object_pairs_hook=_without_duplicates)
        except (ValueError, RecursionError) as error:
            raise _Fault(f"{name!r} is described by {found[0][:100]!r}: {error}") from None

    def _string(self) -> str:
        self._expect('"')
        try:
            string, self._at = scanstring(self._text, self._at, True)
        except ValueError as error:
            raise _Fault(f"its header is no JSON: {error}") from None
        text: str = string
        return text

    def _skip(self) -> None:
        found = _space.match(self._text, self._at)
        assert found is not None
        self._at = found.end()

    def _next(self) -> str:
        self._skip()
        return self._text[self._at : self._at + 1]

    def _expect(self, character: str) -> None:
        if self._next() != character:
            raise self._unexpected(repr(character))
        self._at += 1

    def _unexpected(self, wanted: str) -> _Fault:
        found = self._text[self._at : self._at + 20]
        return _Fault(f"its header has {found!r} at {self._at} instead of {wanted}")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _entry(name: str, described: Any) -> _Entry:
    """Check what is said of an array."""
    if set(described) != {"dtype", "shape", "data_offsets"}:
        raise _Fault(
            f"{name!r} has {', '.join(map(repr, described))}, not dtype, shape and offsets"
        )
    dtype, shape, offsets = described["dtype"], described["shape"], described["data_offsets"]
    if not isinstance(dtype, str) or dtype not in {*_DTYPES, *_OTHERS}:
        raise _Fault(f"{name!r} has the unknown dtype {dtype!r}")
    if not _are_sizes(shape) or len(shape) > _MOST_DIMENSIONS:
        raise _Fault(f"{name!r} has shape {str(shape)[:100]}")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _Fault(f"{name!r} has data_offsets {str(offsets)[:100]}")
    bits = _DTYPES[dtype].itemsize * 8 if dtype in _DTYPES else _OTHERS[dtype][0]
    if math.prod(shape) * bits != 8 * (offsets[1] - offsets[0]):
        raise _Fault(
            f"{name!r} of shape {tuple(shape)} and dtype {dtype} does not have "
            f"{offsets[1] - offsets[0]} bytes"
        )
    return _Entry(name, dtype, tuple(shape), *offsets)


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 2**63 for v in values)
