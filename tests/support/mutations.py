"""Files that were damaged, or made to do harm: what a reader must refuse without harm."""

import json
import re
import tracemalloc

# Numbers that headers may be given.
_NUMBERS = (
    b"0",
    b"-1",
    b"1",
    b"2",
    b"3",
    b"7",
    b"255",
    b"65536",
    b"4294967296",
    b"1e9",
    b"1.5",
    b"9223372036854775807",
    b"18446744073709551616",
    b"1" * 400,
    b"NaN",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'""',
)
_TEXTS = (
    b"dtype",
    b"shape",
    b"data_offsets",
    b"F32",
    b"F64",
    b"I64",
    b"U8",
    b"BOOL",
    b"BF16",
    b"0.weight",
    b"__metadata__",
    b"dlcore",
    b"Linear",
    b"ReLU",
    b"float32",
    b"float64",
    b"$array",
    b"$tuple",
    b"$dict",
    b"$float",
    b"$int",
    b"$list",
    b"$scalar",
    b"$objects",
    b"$object",
    b"state",
    b"key",
    b"layers",
    b"Sequential",
    b"MLPClassifier",
    b"RandomState",
    b"a\\u0000",
    b"\\ud800",
    b"\xf0\x9f\x98\x80",
    b"metadata",
    b"classes",
)
_number = re.compile(rb"-?\d+(\.\d+)?")
_text = re.compile(rb'(?<=")[\w$.]+(?=\\*")')
_part = re.compile(rb"\{[^{}]*\}|\[[^\[\]]*\]")


def mutated(data, rng):
    """Return a file changed in one to four places: bytes, numbers, names or parts of its header."""
    for _ in range(rng.integers(1, 5)):
        data = _KINDS[rng.integers(len(_KINDS))](data, rng)
    return data


def _header_of(data):
    length = min(int.from_bytes(data[:8], "little"), len(data) - 8)
    return data[8 : 8 + length], data[8 + length :]


def _with_header(header, rest):
    return len(header).to_bytes(8, "little") + header + rest


def _bytes(data, rng):
    """Change some bytes, anywhere or in the header."""
    data = bytearray(data)
    if not data:
        return bytes(data)
    end = len(data) if rng.random() < 0.3 else min(len(data), 8 + len(_header_of(data)[0]))
    for _ in range(rng.integers(1, 9)):
        data[rng.integers(end)] = rng.integers(256)
    return bytes(data)


def _length(data, rng):
    """Give the header another length."""
    length = int.from_bytes(data[:8], "little")
    values = (
        0,
        1,
        length - 1,
        length + 1,
        length + 8,
        len(data),
        len(data) - 8,
        2**31,
        2**63,
        2**64 - 1,
    )
    value = values[rng.integers(len(values))] % 2**64
    return int(value).to_bytes(8, "little") + data[8:]


def _cut(data, rng):
    """Leave some out, or repeat it."""
    a, b = sorted(rng.integers(len(data) + 1, size=2))
    return data[:a] + data[b:] if rng.random() < 0.6 else data[:b] + data[a:]


def _replaced(pattern, values):
    def change(data, rng):
        header, rest = _header_of(data)
        found = list(pattern.finditer(header))
        if not found:
            return data
        match = found[rng.integers(len(found))]
        value = values[rng.integers(len(values))]
        return _with_header(header[: match.start()] + value + header[match.end() :], rest)

    return change


def _exchanged(data, rng):
    """Put an object or a list of the header in the place of another, beside it or into it."""
    header, rest = _header_of(data)
    found = list(_part.finditer(header))
    if len(found) < 2:
        return data
    a, b = (found[i] for i in rng.integers(len(found), size=2))
    new = (b[0], a[0] + b"," + b[0], b"[" * 200 + b[0] + b"]" * 200, b"")[rng.integers(4)]
    return _with_header(header[: a.start()] + new + header[a.end() :], rest)


def _repeated(data, rng):
    """Make a part of the header many."""
    header, rest = _header_of(data)
    found = list(_part.finditer(header))
    if not found:
        return data
    match = found[rng.integers(len(found))]
    many = b",".join([match[0]] * int(rng.integers(2, 300)))
    return _with_header(header[: match.start()] + many + header[match.end() :], rest)


def _metadata(data, rng):
    """Change what the metadata says, as JSON that is well formed."""
    header, rest = _header_of(data)
    try:
        parsed = json.loads(header)
        inner = json.loads(parsed["__metadata__"]["dlcore"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return data
    place, key, node = None, None, inner
    while isinstance(node, dict | list) and node and (place is None or rng.random() < 0.85):
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        place, key = node, keys[rng.integers(len(keys))]
        node = place[key]
    values = (
        None,
        True,
        0,
        -1,
        3,
        2**63,
        1.5,
        "",
        "x",
        "0.weight",
        [],
        {},
        [[]],
        {"$array": "0.bias"},
        {"$int": "0x10"},
        {"$float": "7ff0000000000000"},
        {"$tuple": [1]},
        {"$dict": [[1, 2]]},
        {"$scalar": "00", "dtype": "|b1"},
        {"$object": "ReLU", "state": {}},
        [1] * 50,
    )
    if place is not None:
        choice = rng.integers(4)
        if choice == 0 and isinstance(place, dict):
            del place[key]
        elif choice == 1 and isinstance(place, dict):
            place["more"] = values[rng.integers(len(values))]
        else:
            place[key] = values[rng.integers(len(values))]
    parsed["__metadata__"]["dlcore"] = json.dumps(inner)
    return _with_header(json.dumps(parsed).encode(), rest)


_KINDS = (
    _bytes,
    _length,
    _cut,
    _replaced(_number, _NUMBERS),
    _replaced(_number, _NUMBERS),
    _replaced(_text, _TEXTS),
    _replaced(_text, _TEXTS),
    _exchanged,
    _repeated,
    _metadata,
    _metadata,
    _metadata,
)

# What reading a small file takes at most: its values, the text of an error, frames, buffers.
SLACK = 300_000


def peak_of(function, *args):
    """Return the result of a call and the most memory that it held at once."""
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    result = function(*args)
    return result, tracemalloc.get_traced_memory()[1] - before
