"""Checks of arguments: what they accept is worded once, here.

Each takes the argument's name as the message should say it, such as ``"Linear: in_features"``, and
returns the value as what it is from then on. What has the wrong type and what is out of range are
both a ValueError, as in scikit-learn, but for `check_real`. Functions of arrays say what they "got",
as their kernels do, all others what a value is "not".

A number is what has a float value: those of Python and NumPy, fractions, decimals and arrays without
dimensions, but no text. True and False are none where an interval is named.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

T = TypeVar("T")
_MOST = 2**63 - 1  # that native code takes


def check_positive_int(name: str, value: object) -> int:
    """Return a positive integer."""
    if type(value) is int and 0 < value <= _MOST:
        return value
    if not is_int(value) or value < 1:  # type: ignore[operator]
        raise ValueError(f"{name} must be a positive integer, not {_shown(value)}")
    return int(value)  # type: ignore[call-overload, no-any-return]


def check_int(name: str, value: object, least: int) -> int:
    """Return an integer that is not less than ``least``."""
    if type(value) is int and least <= value <= _MOST:
        return value
    if not is_int(value) or value < least:  # type: ignore[operator]
        raise ValueError(f"{name} must be an integer and at least {least}, not {_shown(value)}")
    return int(value)  # type: ignore[call-overload, no-any-return]


def check_number(name: str, value: object, interval: str) -> float:
    """Return a number in an interval such as "(0, 1]", as float."""
    if not _is_within(value, interval):
        raise ValueError(f"{name} must be a number in {interval}, not {_shown(value)}")
    return _as_float(value)


def check_in(
    name: str, value: object, interval: str, *, otherwise: str = "", word: str = "not"
) -> float:
    """Return what is in an interval such as "[0, 1)", as float; ``otherwise`` ends the message."""
    if not _is_within(value, interval):
        raise ValueError(f"{name} must be in {interval}{otherwise}, {word} {_shown(value)}")
    return _as_float(value)


def check_positive(name: str, value: Any) -> float:
    """Return a number that is positive and finite, as float."""
    if not _is_within(value, "(0, inf)"):
        raise ValueError(f"{name} must be positive and finite, not {_shown(value)}")
    return _as_float(value)


def check_not_negative(name: str, value: Any, *, word: str = "not") -> float:
    """Return a number that is finite and at least 0, as float."""
    if not _is_within(value, "[0, inf)"):
        raise ValueError(f"{name} must be finite and at least 0, {word} {_shown(value)}")
    return _as_float(value)


def check_finite(
    name: str,
    value: object,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    positive: bool = False,
) -> float:
    """Return a finite number from low to high, as float."""
    number = _number_of(value)
    number = math.nan if number is None else number
    if math.isfinite(number) and low <= number <= high and (number > 0 or not positive):
        return number
    kind = "positive" if positive else "finite"
    limits = "" if low == -math.inf == -high else f" in [{low:g}, {high:g}]"
    raise ValueError(f"{name} must be a {kind} number{limits}, not {_shown(value)}")


def check_real(name: str, value: object) -> float:
    """Return anything with a float value as float, else raise a TypeError; strings have none."""
    number = _number_of(value)
    if number is None:
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    return number


def check_index(name: str, value: object) -> None:
    """Raise a TypeError for what is no integer, or a ValueError for one beyond 64 bits."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(
            f"{name} must be an integer of 64 bits, got {type(value).__name__}"
        ) from None
    if not -_MOST <= number <= _MOST:
        raise ValueError(f"{name} must be an integer of 64 bits, got {number}")


def check_seed(name: str, seed: Any) -> np.random.SeedSequence:
    """Return what an integer of at least 0, several, or None for chance begin."""
    return _begun_by(name, seed, np.random.SeedSequence)


def generator_of(name: str, seed: Any) -> np.random.Generator:
    """Return the generator of random numbers that a seed begins, or that is given."""
    return _begun_by(name, seed, np.random.default_rng)


def check_call(name: str, function: Any, *arguments: str) -> None:
    """Raise a TypeError for what cannot be called with such arguments, as far as it tells."""
    given = ", ".join(arguments)
    if isinstance(function, type) or not callable(function):
        raise TypeError(f"{name} must be a function of ({given}), not {function!r}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some that are not written in Python do not
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise TypeError(f"{name} must be a function of ({given}), but {error}") from None


def check_defines(name: str, value: object, base: type, call: str) -> None:
    """Raise a TypeError for an object whose class leaves a method as it is in the base class."""
    method = call.partition("(")[0]
    if getattr(type(value), method) is getattr(base, method) and method not in vars(value):
        raise TypeError(f"{name} must define {call}, which {type(value).__name__} does not")


def check_flag(name: str, value: object) -> bool:
    """Return what is on or off as bool, else raise a TypeError."""
    if value is True or value is False:
        return value
    if not isinstance(value, bool | np.bool_ | int) or value not in (0, 1):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def check_choice(name: str, value: object, choices: Sequence[str]) -> str:
    """Return one of a few strings."""
    if not isinstance(value, str) or value not in choices:
        *others, last = map(repr, choices)
        raise ValueError(f"{name} must be {', '.join(others)} or {last}, not {_shown(value)}")
    return value


def check_name(
    name: str,
    value: object,
    names: Collection[str],
    *,
    otherwise: str = "",
    quoted: bool = False,
) -> str:
    """Return one of many names; ``otherwise`` says what else is accepted."""
    if not isinstance(value, str) or value not in names:
        known = ", ".join(map(repr, names) if quoted else names)
        raise ValueError(f"{name} must be one of {known}{otherwise}, not {_shown(value)}")
    return value


def check_floating(name: str, dtype: object, *, word: str = "not") -> np.dtype[Any]:
    """Return float32 or float64 as a dtype, else raise a TypeError."""
    try:
        given = np.dtype(dtype)  # type: ignore[call-overload]
    except (TypeError, ValueError, SyntaxError):
        raise TypeError(f"{name} must be float32 or float64, {word} {_shown(dtype)}") from None
    if given not in (np.float32, np.float64) or not given.isnative:
        raise TypeError(f"{name} must be float32 or float64, {word} {given}")
    return given  # type: ignore[no-any-return]


def check_rng(name: str, rng: object) -> np.random.Generator:
    """Return a generator of random numbers, else raise a TypeError."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"{name} must be a numpy.random.Generator, not {type(rng).__name__}")
    return rng


def check_several(name: str, value: object, what: str) -> list[Any]:
    """Return the items of what has several in an order, else raise a TypeError."""
    if not is_several(value):
        raise TypeError(f"{name} must be {what}, not {_shown(value)}")
    return list(value)


def check_instance(name: str, value: object, kind: type) -> None:
    """Raise a TypeError for what is not of a class."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, not {type(value).__name__}")


def is_int(value: object) -> bool:
    """Whether a value is an integer that native code takes."""
    is_one = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return is_one and -_MOST <= value <= _MOST  # type: ignore[operator]


def is_several(value: object) -> TypeGuard[Sequence[Any]]:
    """Whether a value has items in an order: no text and no array without dimensions."""
    is_ordered = not isinstance(value, str | bytes | bytearray | Mapping)
    return is_ordered and isinstance(value, Iterable) and getattr(value, "ndim", 1) > 0


def _begun_by(name: str, seed: Any, begin: Callable[[Any], T]) -> T:
    try:
        return begin(seed)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"{name} must be an integer of at least 0, or None, not {_shown(seed)}"
        ) from None


def _shown(value: object) -> str:
    return repr(value.item() if isinstance(value, np.generic) else value)


def _is_within(value: object, interval: str) -> bool:
    number = None if _is_truth(value) else _number_of(value)
    if number is None:
        return False
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    above = low <= number if interval[0] == "[" else low < number
    below = number <= high if interval[-1] == "]" else number < high
    return bool(above and below)


def _is_truth(value: object) -> bool:
    return isinstance(value, bool) or getattr(value, "dtype", None) == np.bool_


def _number_of(value: Any) -> float | None:
    """Return a number as float; None for what is none."""
    if type(value) is float:
        return value
    if isinstance(value, str | type) or not hasattr(value, "__float__"):
        return None
    if isinstance(value, np.ndarray | np.generic) and (value.ndim or value.dtype.kind in "cSUmM"):
        return None
    try:
        return _as_float(value)
    except (TypeError, ValueError, RuntimeError):  # as of an array of an object, or of no number
        return None


def _as_float(value: Any) -> float:
    """Return a number as float, infinite where it is beyond all of these."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
