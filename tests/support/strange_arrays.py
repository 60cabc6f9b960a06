"""Arrays, and what is none, as no function expects them."""

import numpy as np

from support.layouts import LAYOUTS, broadcast

_DTYPES = (*"?bhilqBHILQefdgFDGOSUVMm", ">f4", ">f8", ">i4", "<f4", "<i2", "f4,i4", "(2,)f4")
_SPECIAL = (np.nan, np.inf, -np.inf, -0.0, 0.0, -1.0, 1e-310, 1e-42, 3e38, 1.7e308, 2.0**63, 1e9)


class Own(np.ndarray):
    """A subclass."""


class Failing:
    """Says that it is an array and cannot be read."""

    dtype = np.dtype(np.float32)
    shape = (6, 4)

    def __array__(self, *arguments, **options):
        raise RuntimeError("this array cannot be read")


class Lying:
    """Gives something else than it says."""

    dtype = np.dtype(np.float32)
    shape = (1000, 1000)

    def __init__(self, array):
        self._array = array

    def __array__(self, *arguments, **options):
        return self._array


def _of_another_dtype(choices, x):
    with np.errstate(all="ignore"):
        try:
            return x.astype(choices.pick(_DTYPES))
        except (TypeError, ValueError, OverflowError):
            return x


def _of_another_layout(choices, x):
    try:
        return choices.pick((*LAYOUTS.values(), broadcast))(x)
    except MemoryError:  # twice as much along each of many axes
        return x


def _of_another_shape(choices, x):
    shapes = (
        lambda: x[None],
        lambda: x[..., None],
        lambda: x.ravel(),
        lambda: x.reshape(-1, 1),
        lambda: x[:0],
        lambda: x[..., :0],
        lambda: x[1:],
        lambda: x.T,
        lambda: x[..., ::-1][..., : max(1, x.shape[-1] // 2)],
        lambda: np.zeros((), x.dtype),
        lambda: np.zeros((0,) * x.ndim, x.dtype),
        lambda: np.zeros((0, 2**40), x.dtype),
        lambda: np.broadcast_to(np.ones((), x.dtype), x.shape),
        lambda: np.lib.stride_tricks.as_strided(x, (2, *x.shape), (0, *x.strides)),
        lambda: x.reshape((1,) * (30 - x.ndim) + x.shape),
    )
    return choices.pick(shapes)() if x.ndim else x[None]


def _with_special_values(choices, x):
    x = x.copy()
    if x.dtype.kind not in "fiu" or x.size == 0:
        return x
    for _ in range(1 + choices.below(3)):
        with np.errstate(all="ignore"):
            value = np.float64(choices.pick(_SPECIAL))
            if x.dtype.kind != "f":
                value = choices.pick((-1, -100, 0, 4, 99, 127))
            x.flat[choices.below(x.size)] = np.asarray(value).astype(x.dtype)
    return x


def _of_a_subclass(choices, x):
    kinds = (
        lambda: x.view(Own),
        lambda: np.ma.masked_array(x),
        lambda: np.ma.masked_array(x, mask=np.ones(x.shape, bool)),
        lambda: np.matrix(x) if x.ndim == 2 else x,
        lambda: x.view(np.recarray),
        lambda: np.array(x.tolist(), object),
        lambda: np.array([{}, None, x], object),
    )
    return choices.pick(kinds)()


def _no_array(choices, x):
    return choices.pick(
        (
            x.tolist,
            lambda: tuple(x.ravel()),
            lambda: None,
            lambda: "x",
            lambda: b"abcd",
            lambda: 1.5,
            lambda: True,
            lambda: np.float32(2),
            lambda: {"a": x},
            object,
            lambda: x.data if x.dtype.kind in "fiu" else memoryview(b"x"),
            Failing,
            lambda: Lying(x),
            lambda: Lying("text"),
            lambda: Lying(np.array([None])),
            lambda: np.ndarray,
            lambda: (v for v in x.ravel()),
            lambda: [[1.0], [1.0, 2.0]],
        )
    )()


_WAYS = (
    _of_another_dtype,
    _of_another_layout,
    _of_another_layout,
    _of_another_shape,
    _with_special_values,
    _of_a_subclass,
    _no_array,
)


def strange(choices, x):
    """Return something else than the array x, or x in another way."""
    for _ in range(1 + choices.seldom()):
        if not isinstance(x, np.ndarray):
            break
        x = choices.pick(_WAYS)(choices, x)
    return x


def arrays_of(*things):
    """Return the arrays among things and within them, whose contents can be compared."""
    arrays = [x._array if isinstance(x, Lying) else x for x in things]
    arrays = [np.asarray(x) if isinstance(x, memoryview) else x for x in arrays]
    return [x for x in arrays if isinstance(x, np.ndarray) and x.dtype.kind != "O"]
