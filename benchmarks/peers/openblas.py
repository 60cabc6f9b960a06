"""OpenBLAS, of the package scipy-openblas32: its matrix product alone."""

import ctypes
from pathlib import Path

import numpy as np
import scipy_openblas32 as library

PLAIN, TRANSPOSED, ROW_MAJOR = 111, 112, 101

_native = ctypes.CDLL(str(next(Path(library.get_lib_dir()).glob("libscipy_openblas.*"))))
_size, _number, _array = ctypes.c_int, ctypes.c_float, ctypes.c_void_p
_native.scipy_cblas_sgemm.argtypes = [
    *[_size] * 6,
    *(_number, _array, _size, _array, _size),
    *(_number, _array, _size),
]


def multiplied(a, b, out):
    """Return a call that computes out = a @ b, where either may be a transposed array."""
    operands = []
    for array in (a, b):
        transposed = not array.flags.c_contiguous
        operands.append((TRANSPOSED if transposed else PLAIN, array.T if transposed else array))
    (of_a, a_rows), (of_b, b_rows) = operands
    arguments = [
        *(ROW_MAJOR, of_a, of_b, *out.shape, a.shape[1]),
        *(1.0, a_rows.ctypes.data, a_rows.shape[1], b_rows.ctypes.data, b_rows.shape[1]),
        *(0.0, out.ctypes.data, out.shape[1]),
    ]
    run = _native.scipy_cblas_sgemm

    def call():
        run(*arguments)
        return out

    call.kept = a, b
    return call


def product(case, x, weight, dy):
    if case.form == "forward":
        return multiplied(x, weight.T, np.empty_like(dy))
    of_x = multiplied(dy, weight, np.empty_like(x))
    of_weight = multiplied(dy.T, x, np.empty_like(weight))
    return lambda: (of_x(), of_weight())
