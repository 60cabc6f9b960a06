"""Nested states of dicts, lists, numbers, texts and arrays in safetensors files.

Arrays are arrays of the file, named by where they are in the state; all else is one JSON text in its
metadata, under "dlcore". What JSON has no form for is an object with one key that begins with "$":
``{"$tuple": [1, 2]}``. No pickle, and nothing in a file is a name of code.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import struct
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from dlcore._common import safetensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dlcore._common.typing import Array

    Describe: TypeAlias = Callable[[Any], tuple[str, Any] | None]
    Make: TypeAlias = Callable[[str, Any], Any]

# The format that is written; those before it are read.
FORMAT = 1
_KEY = "dlcore"
_DEEPEST = 100
# Lists of so many numbers are arrays of the file: exact, and half as long as in JSON.
_LONG = 16
_BYTES_IN_A_LIST = 40  # of a number and its place
# Memory that reading may take whatever the size of the file.
_HARMLESS = 1 << 18
_dtype_of_text = re.compile(r"<U\d+|\|S\d+|<[mM]8(\[\d*[A-Za-z]{1,7}\])?|<c16")
# Of the dtypes that the format has no name for: those that their elements are written as.
_WRITTEN_AS = {"U": "<u4", "S": "u1", "M": "<i8", "m": "<i8", "c": "<f8"}


def write_tree(
    path: str | os.PathLike[str],
    kind: str,
    tree: Any,
    *,
    metadata: dict[str, Any] | None = None,
    describe: Describe | None = None,
) -> None:
    """Write a nested state to a safetensors file, whole or not at all.

    Parameters
    ----------
    path : str or path
        The file, which is replaced if it exists.
    kind : str
        What the state is of, such as "model", which `read_tree` asks for.
    tree : object
        Of dict, list, tuple, str, int, float, bool, None, and arrays and scalars of NumPy, all of
        which come back as what they are: NaN to the bit, integers of any size, arrays of texts and
        of objects among them. An array in a dict is named by its keys, joined by dots.
    metadata : dict, optional
        A state of its own beside it, which `read_metadata` reads alone.
    describe : callable, optional
        ``describe(value)`` returns name and state of an object of another class, which
        ``make(name, state)`` of `read_tree` makes again; None for one that it does not know.

    Raises
    ------
    TypeError
        Something in it is of another class; the message says where.
    ValueError
        It is nested more than 100 deep, as if something held itself, or has more than a header may.
    OSError
        The file cannot be written. What was there before is as it was.
    """
    arrays: dict[str, Array] = {}
    encoder = _Encoder(arrays, describe)
    document = {"format": FORMAT, "version": _version(), "kind": kind}
    document["state"] = encoder.encode(tree, ())
    document["metadata"] = encoder.encode(metadata, ("metadata",))
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    data = sum(array.nbytes for array in arrays.values())
    needed = _memory_of(text) + encoder.memory_of_lists
    least = (needed + 2 * data) // 4 + 1 if needed > _HARMLESS else 0
    safetensors.write(path, arrays, {_KEY: text}, least=least)


def read_tree(path: str | os.PathLike[str], *kinds: str, make: Make | None = None) -> Any:
    """Read a state of one of these kinds that `write_tree` has written.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It holds something else, is damaged, or is of a newer format; the message has its path.
    """
    arrays, texts = safetensors.read(path)
    with _messages(path):
        document, memory = _document(path, arrays, texts)
        if document["kind"] not in kinds:
            raise ValueError(f"it holds a {document['kind']:.30}, not a {' or '.join(kinds)}")
        decoder = _Decoder(arrays, make, memory)
        state = decoder.decode(document["state"])
        unknown = [name for name in arrays if not name.startswith("metadata.")]
        if unknown:
            raise _Damage(f"nothing refers to its array {unknown[0]!r:.100}")
        return state


def read_metadata(path: str | os.PathLike[str], make: Make | None = None) -> Any:
    """Read the metadata of such a file, without its state; errors are those of `read_tree`."""
    arrays, texts = safetensors.read(path, lambda name: name.startswith("metadata."))
    with _messages(path):
        document, memory = _document(path, arrays, texts)
        return _Decoder(arrays, make, memory).decode(document["metadata"])


@contextlib.contextmanager
def _messages(path: str | os.PathLike[str]) -> Iterator[None]:
    """Say of which file an error is."""
    try:
        yield
    except RecursionError:
        raise ValueError(f"{os.fspath(path)} is damaged: it is nested too deep") from None
    except _Damage as damage:
        raise ValueError(f"{os.fspath(path)} is damaged: {damage}") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None


def _document(
    path: str | os.PathLike[str], arrays: dict[str, Array], texts: dict[str, str]
) -> tuple[dict[str, Any], int]:
    """Return what the metadata of a file says, but for its arrays, and what memory lists may take.

    Reading takes no more than four times the size of the file. What is written has the size that it
    takes; where a file has not, its metadata was made to become very much more than it is.
    """
    if _KEY not in texts:
        raise ValueError("it was not written by dlcore: it has arrays alone")
    text = texts[_KEY]
    # The arrays are there twice while a model is made of them.
    data = sum(array.nbytes for array in arrays.values())
    memory = max(4 * os.path.getsize(path) - 2 * data, _HARMLESS) - _memory_of(text)
    if memory < 0:
        raise _Damage("its metadata has more values than a file of its size")
    try:
        document = json.loads(text, object_pairs_hook=_pairs, parse_constant=_refuse)
    except ValueError as error:
        raise _Damage(f"its metadata is no JSON: {error}") from None
    if not isinstance(document, dict) or type(document.get("format")) is not int:
        raise _Damage("its metadata has no format")
    if document["format"] > FORMAT:
        raise ValueError(
            f"it was written by dlcore {document.get('version')!s:.20} in format "
            f"{document['format']}, which is newer than format {FORMAT} of this version"
        )
    if set(document) != {"format", "version", "kind", "state", "metadata"}:
        raise _Damage(f"its metadata has {', '.join(document):.100}")
    if not isinstance(document["kind"], str):
        raise _Damage("its kind is no text")
    return document, memory


@cache
def _version() -> str:
    try:
        return metadata.version("dlcore-kernels")
    except metadata.PackageNotFoundError:  # as in a program that was frozen
        return "unknown"


class _Damage(ValueError):
    """What is wrong with a file."""


def _memory_of(text: str) -> int:
    """Return the most memory that a JSON text and what is made of it can take.

    A value is an object of Python and a place in a list, which are there twice while they are
    decoded; a dict takes most. One character beyond 16 bits makes each of its text four bytes long.
    """
    values = sum(map(text.count, ",[{"))
    return 80 * values + 250 * text.count(":") + (8 if "\\ud" in text else 2) * len(text)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Damage("its metadata has a key twice")
    return found


def _refuse(constant: str) -> Any:
    raise _Damage(f"its metadata has {constant}")


class _Encoder:
    """Makes JSON of a state and collects its arrays."""

    def __init__(self, arrays: dict[str, Array], describe: Describe | None) -> None:
        self._arrays, self._describe = arrays, describe
        self.memory_of_lists = 0

    def encode(self, value: Any, path: tuple[Any, ...]) -> Any:
        """Return the JSON of a value, which is at that place in the state."""
        if len(path) > _DEEPEST:
            raise ValueError(f"the state is nested more than {_DEEPEST} deep at {_shown(path[:9])}")
        if isinstance(value, np.ndarray | np.generic):
            return self._of_numpy(value, path)
        if value is None or type(value) in (bool, str):
            return value
        if type(value) is int:
            return value if -(2**63) <= value < 2**63 else {"$int": hex(value)}
        if type(value) is float:
            return value if value - value == 0 else {"$float": struct.pack(">d", value).hex()}
        if type(value) is list:
            return self._of_list(value, path)
        if type(value) is tuple:
            return {"$tuple": self._each(value, path)}
        if type(value) is dict:
            return self._of_dict(value, path)
        described = self._describe(value) if self._describe is not None else None
        if described is not None:
            # Deeper by one, so that objects that hold each other have an end.
            return {"$object": described[0], "state": self.encode(described[1], (*path, ""))}
        raise TypeError(
            f"{_shown(path)} is a {type(value).__name__}, for which a file has no form: it takes "
            f"dict, list, tuple, str, int, float, bool, None, and arrays and scalars of NumPy"
        )

    def _each(self, values: Any, path: tuple[Any, ...]) -> list[Any]:
        return [self.encode(value, (*path, i)) for i, value in enumerate(values)]

    def _of_list(self, values: list[Any], path: tuple[Any, ...]) -> Any:
        if len(values) >= _LONG:
            kinds = set(map(type, values))
            in_range = kinds == {int} and all(-(2**63) <= value < 2**63 for value in values)
            if in_range or kinds == {float}:
                self.memory_of_lists += _BYTES_IN_A_LIST * len(values)
                array = np.array(values, np.int64 if in_range else np.float64)
                return {"$list": self._named(array, path)}
        return self._each(values, path)

    def _of_dict(self, values: dict[Any, Any], path: tuple[Any, ...]) -> Any:
        if all(type(key) is str and key[:1] != "$" for key in values):
            return {key: self.encode(value, (*path, key)) for key, value in values.items()}
        items = values.items()
        pairs = [[self._key(key, path), self.encode(v, (*path, key))] for key, v in items]
        return {"$dict": pairs}

    def _key(self, key: Any, path: tuple[Any, ...]) -> Any:
        if isinstance(key, np.ndarray) or _has_array(key):
            raise TypeError(f"{_shown(path)} has an array in a key")
        return self.encode(key, (*path, "key"))

    def _of_numpy(self, value: Any, path: tuple[Any, ...]) -> Any:
        dtype = value.dtype
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(f"{_shown(path)} is a masked array, of which a file has no form")
        if dtype == object:
            items = self._each(value.reshape(-1).tolist(), path)
            return {"$objects": items, "shape": list(value.shape)}
        if not safetensors.has_name(dtype) and (
            dtype.kind not in _WRITTEN_AS
            or dtype.itemsize % np.dtype(_WRITTEN_AS[dtype.kind]).itemsize
            or (dtype.kind == "c" and dtype.itemsize != 16)
        ):
            raise TypeError(f"{_shown(path)} has dtype {dtype}, for which a file has no form")
        little = dtype.newbyteorder("<")
        if isinstance(value, np.generic):
            little = np.asarray(value).dtype.newbyteorder("<")  # an empty text has one character
            return {"$scalar": np.asarray(value, little).tobytes().hex(), "dtype": little.str}
        array = np.asarray(value)
        if safetensors.has_name(dtype):
            return {"$array": self._named(array, path)}
        array = np.ascontiguousarray(array, little).reshape(array.shape)
        name = self._named(_written(array), path)
        return {"$array": name, "dtype": little.str}

    def _named(self, array: Array, path: tuple[Any, ...]) -> str:
        """Keep an array under a name of its own."""
        name = first = ".".join(str(key) for key in path if key != "") or "state"
        number = 1
        while name in self._arrays or name == "__metadata__":
            number += 1
            name = f"{first}~{number}"
        self._arrays[name] = array
        return name


def _has_array(key: Any) -> bool:
    return isinstance(key, tuple) and any(isinstance(k, np.ndarray) or _has_array(k) for k in key)


def _shown(path: tuple[Any, ...]) -> str:
    return "".join(f"[{key!r:.50}]" for key in path) or "the state"


def _written(array: Array) -> Array:
    """Return an array of a dtype without a name as one of numbers, those of an element side by side."""
    element = np.dtype(_WRITTEN_AS[array.dtype.kind])
    if array.dtype.kind in "Mm":
        return array.view(element)
    shape = (*array.shape, array.dtype.itemsize // element.itemsize)
    return np.frombuffer(array.tobytes(), element).reshape(shape)


class _Decoder:
    """Makes a state of JSON and the arrays of a file, each of which it takes once."""

    def __init__(self, arrays: dict[str, Array], make: Make | None, memory: int) -> None:
        self._arrays, self._make, self._memory = arrays, make, memory

    def decode(self, value: Any, depth: int = 0) -> Any:
        """Return what a JSON value stands for."""
        if depth > _DEEPEST + 2:
            raise RecursionError
        if isinstance(value, list):
            return [self.decode(item, depth + 1) for item in value]
        if not isinstance(value, dict):
            return value
        form = next(iter(value), "")
        if form[:1] != "$":
            if any(key[:1] == "$" for key in value):
                raise _Damage("its metadata has a form among other keys")
            return {key: self.decode(item, depth + 1) for key, item in value.items()}
        decode = self._forms.get(form)
        if decode is None:
            raise _Damage(f"its metadata has the unknown form {form!r:.30}")
        return decode(self, value, depth)

    def _int(self, value: dict[str, Any], depth: int) -> int:  # noqa: ARG002
        text = _only(value, "$int", str)
        if not re.fullmatch(r"-?0x[0-9a-f]+", text):
            raise _Damage(f"{text!r:.30} is no integer")
        return int(text, 16)

    def _float(self, value: dict[str, Any], depth: int) -> float:  # noqa: ARG002
        data = _bytes(_only(value, "$float", str))
        if len(data) != 8:
            raise _Damage(f"a float has {len(data)} bytes")
        number: float = struct.unpack(">d", data)[0]
        return number

    def _tuple(self, value: dict[str, Any], depth: int) -> tuple[Any, ...]:
        return tuple(self.decode(item, depth + 1) for item in _only(value, "$tuple", list))

    def _dict(self, value: dict[str, Any], depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for pair in _only(value, "$dict", list):
            if not isinstance(pair, list) or len(pair) != 2:
                raise _Damage("a dict has an item without a key and a value")
            key = self.decode(pair[0], depth + 1)
            try:
                is_there = key in found
            except TypeError:
                raise _Damage(f"a dict has a {type(key).__name__} as its key") from None
            if is_there:
                raise _Damage("a dict has a key twice")
            found[key] = self.decode(pair[1], depth + 1)
        return found

    def _list(self, value: dict[str, Any], depth: int) -> list[Any]:  # noqa: ARG002
        array = self._take(_only(value, "$list", str))
        if array.ndim != 1 or array.dtype not in (np.float64, np.int64):
            raise _Damage(f"a list has shape {array.shape} and dtype {array.dtype}")
        self._memory -= _BYTES_IN_A_LIST * len(array)
        if self._memory < 0:
            raise _Damage("it has lists longer than a file of its size")
        numbers: list[Any] = array.tolist()
        return numbers

    def _array(self, value: dict[str, Any], depth: int) -> Array:  # noqa: ARG002
        name, dtype = _two(value, "$array", str, "dtype")
        array = self._take(name)
        return array if dtype is None else _read_as(array, _dtype(dtype), name)

    def _scalar(self, value: dict[str, Any], depth: int) -> Any:  # noqa: ARG002
        text, of = _two(value, "$scalar", str, "dtype")
        dtype, data = _dtype(of, scalar=True), _bytes(text)
        if len(data) != dtype.itemsize:
            raise _Damage(f"a scalar of {dtype} has {len(data)} bytes")
        if dtype == np.bool_ and data[0] > 1:
            raise _Damage(f"a bool has the value {data[0]}")
        if dtype.kind in _WRITTEN_AS and not safetensors.has_name(dtype):
            elements = np.frombuffer(data, _WRITTEN_AS[dtype.kind])
            if dtype.kind in "Mm":
                elements = elements.reshape(())
            return _read_as(elements, dtype, "a scalar")[()]
        return np.frombuffer(data, dtype)[0].astype(dtype.newbyteorder("="))

    def _objects(self, value: dict[str, Any], depth: int) -> Array:
        items, shape = _two(value, "$objects", list, "shape")
        is_shape = isinstance(shape, list) and all(type(n) is int and 0 <= n < 2**31 for n in shape)
        if not is_shape or len(shape) > 64 or math.prod(shape) != len(items):
            raise _Damage(f"{len(items)} objects have shape {shape!s:.50}")
        array = np.empty(len(items), object)
        for i, item in enumerate(items):
            array[i] = self.decode(item, depth + 1)
        return array.reshape(shape)

    def _object(self, value: dict[str, Any], depth: int) -> Any:
        name, state = _two(value, "$object", str, "state")
        made = self.decode(state, depth + 1)
        if self._make is None:
            raise _Damage(f"it has a {name:.30} where there is none")
        try:
            return self._make(name, made)
        except (ArithmeticError, AttributeError, LookupError) as error:
            # Of a state that is no state of such an object; what is refused by name is not one.
            raise _Damage(f"no {name:.50} can be made of its state: {error}") from None

    def _take(self, name: str) -> Array:
        if name not in self._arrays:
            raise _Damage(f"its array {name!r:.100} is missing")
        return self._arrays.pop(name)

    _forms: ClassVar[dict[str, Callable[[Any, dict[str, Any], int], Any]]] = {
        "$int": _int,
        "$float": _float,
        "$tuple": _tuple,
        "$dict": _dict,
        "$list": _list,
        "$array": _array,
        "$scalar": _scalar,
        "$objects": _objects,
        "$object": _object,
    }


def _only(value: dict[str, Any], form: str, kind: type) -> Any:
    """Return the content of a form without options."""
    content, option = _two(value, form, kind, "")
    assert option is None
    return content


def _two(value: dict[str, Any], form: str, kind: type, option: str) -> tuple[Any, Any]:
    """Return the content of a form and its option, None without one."""
    if not isinstance(value[form], kind) or not set(value) <= {form, option or form}:
        raise _Damage(f"the form {form!r} is not as it should be")
    return value[form], value.get(option) if option else None


def _bytes(text: str) -> bytes:
    if not re.fullmatch(r"([0-9a-f]{2})*", text):
        raise _Damage(f"{text!r:.30} is not hexadecimal")
    return bytes.fromhex(text)


def _dtype(text: Any, *, scalar: bool = False) -> np.dtype[Any]:
    """Return the dtype of a text that `numpy.dtype.str` gave."""
    numbers: Iterator[str] = (dtype.str for dtype in map(np.dtype, "?bBhHiIlLefdFqQ"))
    known = isinstance(text, str) and (
        _dtype_of_text.fullmatch(text) or (scalar and text in {*numbers})
    )
    if known:
        with contextlib.suppress(TypeError, ValueError):
            dtype: np.dtype[Any] = np.dtype(text)
            return dtype
    raise _Damage(f"{text!r:.50} is no dtype")


def _read_as(array: Array, dtype: np.dtype[Any], name: str) -> Array:
    """Return the array of a dtype without a name that numbers were written for."""
    element = np.dtype(_WRITTEN_AS[dtype.kind])
    count = dtype.itemsize // element.itemsize
    is_split = dtype.kind not in "Mm"
    if array.dtype != element or (is_split and (not array.ndim or array.shape[-1] != count)):
        raise _Damage(
            f"{name} has shape {array.shape} and dtype {array.dtype}, not those of {dtype}"
        )
    if dtype.kind == "U" and array.size and array.max() > 0x10FFFF:
        raise _Damage(f"{name} has a character {array.max():#x}")
    shape = array.shape[:-1] if is_split else array.shape
    if not dtype.itemsize:
        return np.zeros(shape, dtype)
    count = max(1, count) if is_split else 1
    read: Array = array.reshape(-1, count).view(dtype).reshape(shape)
    return read.astype(dtype.newbyteorder("="), copy=False)
