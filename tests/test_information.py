"""Entropy and relative entropy of distributions."""

import numpy as np
import pytest

import dlcore as dl

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@DTYPES
def test_worked_figures(dtype):
    uniform, certain = np.full(8, 1 / 8, dtype), np.array([0, 1, 0], dtype)
    assert dl.entropy(uniform, base=2) == 3
    assert dl.entropy(certain) == 0
    assert not np.signbit(dl.entropy(certain))
    assert dl.entropy(uniform).dtype == dtype
    q = np.array([0.775, 0.116, 0.039, 0.070], dtype)
    p = np.array([1, 0, 0, 0], dtype)
    assert round(float(dl.relative_entropy(p, q, base=2)), 4) == 0.3677
    assert dl.relative_entropy(q, q) == 0


@DTYPES
def test_against_the_definition_along_each_axis(dtype):
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(5), (3, 4)), rng.dirichlet(np.ones(5), (3, 4))
    for axis in (0, 1, 2, -1):
        a, b = (np.moveaxis(x, -1, axis).astype(dtype) for x in (p, q))
        wide, other = a.astype(np.longdouble), b.astype(np.longdouble)
        rtol = 4 * np.finfo(dtype).eps
        np.testing.assert_allclose(
            dl.entropy(a, axis=axis), -(wide * np.log(wide)).sum(axis).astype(float), rtol=rtol
        )
        np.testing.assert_allclose(
            dl.relative_entropy(a, b, axis=axis, base=10),
            (wide * np.log10(wide / other)).sum(axis).astype(float),
            rtol=8 * rtol,
        )


def test_zeros_and_nan():
    p, q = np.array([0.5, 0.5, 0.0]), np.array([1.0, 0.0, 0.0])
    assert dl.relative_entropy(p, q) == np.inf
    assert dl.relative_entropy(q, p) == np.log(2)
    assert np.isnan(dl.entropy(np.array([np.nan, 0.5])))
    assert dl.entropy(np.empty((3, 0))).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: dl.entropy(np.array([1, 0])), TypeError, "p must be float32 or float64"),
        (lambda: dl.entropy(np.array(0.5)), ValueError, "at least one dimension"),
        (lambda: dl.entropy(np.array([-0.1, 1.1])), ValueError, "between 0 and 1"),
        (lambda: dl.entropy(np.ones(1), base=1), ValueError, "base must be"),
        (lambda: dl.entropy(np.ones(1), base=-2), ValueError, "base must be"),
        (lambda: dl.relative_entropy(np.ones(1), np.ones(2)), ValueError, "shape of p"),
        (lambda: dl.relative_entropy(np.ones(1), np.ones(1, "f")), TypeError, "like p"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
