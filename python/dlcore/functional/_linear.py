"""The linear layer and its gradients: register-tiled matrix products, without a BLAS.

x may have any number of leading dimensions, weight has the shape (out, in) as in PyTorch. Every
element of a result is summed in one order, which neither the number of rows nor the number of
threads changes: a row of a batch has the bits that it has alone.

Both raise

- TypeError if an array is not float32 or float64, cannot be read without a copy, or has another
  dtype than x;
- ValueError if shapes do not fit, the activation is unknown, or `out` has another shape, is
  read-only, has elements that share memory, or overlaps an argument.

Arrays that are not contiguous are copied first.

Largest errors in units in the last place of the sum of the terms' sizes, against a wider reference;
the tests hold them.

===============  =======  =======
kernel           float32  float64
===============  =======  =======
linear                 6        6
linear_backward        6        6
===============  =======  =======
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dlcore._native import dispatch
from dlcore.functional import _activations as activations

if TYPE_CHECKING:
    from dlcore._common.typing import Array

__all__ = ["linear", "linear_backward"]


def linear(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    activation: str | None = None,
    *,
    out: Array | None = None,
) -> Array:
    """Apply a linear layer, ``activation(x @ weight.T + bias)``.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (..., in)
    weight : ndarray, shape (out, in)
        Of the dtype of `x`, as `bias`.
    bias : ndarray, shape (out,), optional
    activation : str, optional
        Name of an elementwise activation, such as "relu", which is applied with its default options
        while the result is in the cache.
    out : ndarray, optional
        Where the result goes, of its shape and dtype; it must not overlap an argument.

    Returns
    -------
    ndarray, shape (..., out)
        `out` where it was given.
    """
    return dispatch.core.linear(x, weight, bias, activation, out)


def linear_backward(
    dy: Array,
    x: Array,
    weight: Array,
    bias: Array | None = None,
    activation: str | None = None,
) -> tuple[Array, Array, Array]:
    """Gradients of `linear`.

    Parameters
    ----------
    dy : ndarray, shape (..., out)
        The upstream gradient.
    x, weight, bias, activation
        What `linear` was given. With an activation its argument is computed again.

    Returns
    -------
    dx : ndarray, shape (..., in)
    dweight : ndarray, shape (out, in)
    dbias : ndarray, shape (out,)
        Summed over the leading dimensions.
    """
    if activation is not None:
        before = linear(x, weight, bias)
        if not hasattr(activations, f"{activation}_backward"):
            linear(x, weight, bias, activation)  # says what is accepted
        dy = getattr(activations, f"{activation}_backward")(dy, before)
    return dispatch.core.linear_backward(dy, x, weight)
