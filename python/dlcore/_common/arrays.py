"""Objects that NumPy reads without a copy, as arrays.

The kernels call `as_array` for what is no ndarray.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from dlcore._common.typing import Array

# NumPy would make arrays of these, by copying.
_COPIED = (str, bytes, list, tuple, int, float, complex, type(None))
# Names of the dtypes of other libraries, such as "Float32" and "torch.float32", that NumPy has.
_NAMES = {"boolean": "bool"} | {
    name: name
    for name in (
        *("float16", "float32", "float64", "bool"),
        *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    )
}


def as_array(obj: Any, name: str) -> Array:
    """Return an ndarray that shares the memory of `obj`, or is read-only.

    Parameters
    ----------
    obj : object
        An ndarray of a subclass, or anything with a buffer, ``__array__`` or ``__dlpack__``. Of a
        data frame the columns may lie apart, but must have one dtype.
    name : str
        The function and argument, for the message.

    Raises
    ------
    TypeError
        If `obj` cannot be read as it is: without a copy of what is no array, in its own dtype, and
        with a mask where it has one.
    """
    if isinstance(obj, np.ndarray):
        plain: Array = without_mask(obj, name).view(np.ndarray)
        return plain
    if isinstance(obj, np.generic):
        # A NumPy scalar, such as an element of an array: its one value.
        return _read_only(np.asarray(obj))
    cause: Exception | None = None
    if not isinstance(obj, _COPIED):
        declared = _declared_dtype(obj, name)
        is_lazy, obj = _resolved(obj)
        for read in (_by_numpy, _by_dlpack, _by_old_array, partial(_by_array_of, declared)):
            try:
                array = read(obj)
            except (AttributeError, BufferError, RuntimeError, TypeError, ValueError) as error:
                cause = cause if isinstance(error, AttributeError) else error
                continue
            array = without_mask(array, name).view(np.ndarray)
            if array.dtype == object:
                continue
            if declared is not None and declared != array.dtype:
                raise TypeError(
                    f"{name} is a {type(obj).__name__} of {declared}, but NumPy reads it as "
                    f"{array.dtype}, perhaps for missing values: make it an array first"
                )
            return _read_only(array) if is_lazy else array
    raise TypeError(
        f"{name} must be an array that NumPy reads without a copy, got {_described(obj)}"
    ) from cause


def as_numbers(obj: Any, name: str) -> Array:
    """Return a number, a list or a tuple of numbers as an array, or what `as_array` reads."""
    plain = isinstance(obj, int | float | list | tuple)
    try:
        array = np.asarray(obj) if plain else as_array(obj, name)
    except ValueError as error:  # lists of several lengths
        raise ValueError(f"{name}: {error}") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold numbers, not {array.dtype}")
    return array


def is_array_like(obj: object) -> bool:
    """Whether `as_array` reads an object: it is an array, of whatever library, and no list of some."""
    if isinstance(obj, np.ndarray | np.generic):
        return True
    if isinstance(obj, (*_COPIED, Mapping)):
        return False
    if any(hasattr(obj, name) for name in ("__array__", "__dlpack__", "__array_interface__")):
        return True
    try:
        memoryview(obj)  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


def as_matrix(x: Any, name: str, dtype: np.dtype[Any], features: int | None) -> Array:
    """Make sure that x has shape (N, features) and the model's dtype."""
    array = as_array(x, name)
    check_rows(x, array, name, dtype, features)
    return array


def check_rows(obj: Any, rows: Any, name: str, dtype: np.dtype[Any], features: int | None) -> None:
    """Raise a TypeError or a ValueError for rows that are not of the model's dtype and width.

    Rows are an array or a sparse matrix, and what `obj` was read as.
    """
    check_dtype(
        obj, rows, name, dtype, otherwise=", or make the model with Sequential(..., dtype=...)"
    )
    check_matrix_shape(tuple(rows.shape), name, features)


def check_dtype(
    obj: Any, array: Any, name: str, dtype: np.dtype[Any], *, otherwise: str = ""
) -> None:
    """Raise a TypeError, which says what to write, for an array of another dtype than the model's."""
    if array.dtype != dtype:
        raise TypeError(
            f"{name} is {array.dtype}, the model {dtype}: pass {cast_of(obj, name, dtype)}{otherwise}"
        )


def cast_of(obj: Any, name: str, dtype: np.dtype[Any]) -> str:
    """Say what to write for an array of another dtype."""
    own = name.rpartition(": ")[2]  # without the batch that it is of
    has_cast = hasattr(obj, "astype")
    return f"{own}.astype(np.{dtype})" if has_cast else f"np.asarray({own}, np.{dtype})"


def check_matrix_shape(shape: tuple[int, ...], name: str, features: int | None) -> None:
    """Raise a ValueError for another shape than (N, features)."""
    if len(shape) != 2 or features not in (None, shape[1]):
        wanted = "features" if features is None else features
        raise ValueError(f"{name} must have shape (N, {wanted}), not {shape}")


def without_mask(array: Any, name: str) -> Any:
    """Return anything but a masked array, for which there is a TypeError."""
    # NumPy imports numpy.ma when it is first asked for: nobody has a masked array before.
    ma = sys.modules.get("numpy.ma")
    if ma is not None and isinstance(array, ma.MaskedArray):
        raise TypeError(f"{name} must not be a masked array: its mask would be ignored")
    return array


def first_true(array: Array) -> tuple[int, ...] | None:
    """Return the place of the first element that is true, row by row; None if there is none."""
    if not array.any():
        return None
    return tuple(int(i) for i in np.unravel_index(int(array.argmax()), array.shape))


def as_writeable(array: Array) -> Array:
    """Return the array, or a copy of one that cannot be written, such as a read-only map of a file."""
    return array if array.flags.writeable else np.array(array, subok=False)


def is_column_major(array: Array) -> bool:
    """Whether the columns of an array, and not its rows, lie one after the other."""
    return bool(array.flags.f_contiguous and not array.flags.c_contiguous)


def as_stored(array: Array) -> Array:
    """Return an array, or the transpose of a column-major one: elements in the order of memory."""
    return array.T if is_column_major(array) else array


def _by_numpy(obj: Any) -> Array:
    with warnings.catch_warnings():
        # An __array__ from before NumPy 2; _by_old_array deals with it.
        warnings.simplefilter("ignore", DeprecationWarning)
        return _shared(partial(np.asanyarray, obj, copy=False))


def _by_dlpack(obj: Any) -> Array:
    return _shared(partial(np.from_dlpack, obj))


def _by_old_array(obj: Any) -> Array:
    # Nothing promises that this is no copy: not to be written to.
    return _read_only(np.asanyarray(obj.__array__()).view())


def _by_array_of(dtype: np.dtype[Any] | None, obj: Any) -> Array:
    # Columns of pandas' own dtypes are objects unless asked for numbers.
    return _read_only(np.asanyarray(obj.__array__(dtype)).view())


def _read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


def _resolved(obj: Any) -> tuple[bool, Any]:
    """Return whether a tensor was still to be negated or conjugated, and itself with that done.

    Tensors of PyTorch may be views of others with a bit that says so, which DLPack does not know.
    """
    is_lazy = False
    for kind in ("conj", "neg"):
        if hasattr(obj, f"resolve_{kind}") and getattr(obj, f"is_{kind}")():
            obj, is_lazy = getattr(obj, f"resolve_{kind}")(), True
    return is_lazy, obj


def _shared(read: Callable[[], Array]) -> Array:
    """Read an object, and make read-only what is no memory of its own.

    One that makes a copy when it was asked for none makes another one each time.
    """
    array = read()
    if not array.flags.writeable or array.size == 0:
        return array
    again = read()
    return array if _address(again) == _address(array) else _read_only(array.view())


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _declared_dtype(obj: Any, name: str) -> np.dtype[Any] | None:
    """Return the dtype that an object says it has, if it is one of NumPy's.

    Raises a TypeError for a data frame of several dtypes, of which NumPy would make one.
    """
    if getattr(obj, "columns", None) is None:
        return _as_numpy(getattr(obj, "dtype", getattr(obj, "type", None)))
    dtypes = getattr(obj, "dtypes", getattr(getattr(obj, "schema", None), "types", ()))
    several = {str(dtype): dtype for dtype in dtypes}
    if len(several) > 1:
        raise TypeError(
            f"{name} is a {type(obj).__name__} with columns of several dtypes, "
            f"{', '.join(several)}: make them one, such as by np.asarray(..., np.float32)"
        )
    for text, dtype in several.items():
        declared = _as_numpy(dtype)
        if declared is None:
            raise TypeError(
                f"{name} must be an array of numbers, got {type(obj).__name__} of {text}"
            )
        return declared
    return None


def _as_numpy(dtype: Any) -> np.dtype[Any] | None:
    """Return the dtype of another library's object as NumPy's; None if it is unknown."""
    if dtype is None or isinstance(dtype, np.dtype):
        return dtype
    own: object = getattr(dtype, "numpy_dtype", None)  # of pandas
    if isinstance(own, np.dtype):
        return np.dtype(own)
    if hasattr(dtype, "to_pandas_dtype"):  # of pyarrow
        of_pandas: np.dtype[Any] = np.dtype(dtype.to_pandas_dtype())
        return None if of_pandas == object else of_pandas
    name = str(dtype).rpartition(".")[2].lower()
    return np.dtype(_NAMES[name]) if name in _NAMES else None


def _described(obj: object) -> str:
    """Name the type of an object and the dtype that it says it has."""
    dtype = getattr(obj, "dtype", None)
    return type(obj).__name__ + ("" if dtype is None else f" of dtype {dtype}")
