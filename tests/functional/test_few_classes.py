"""Cross-entropy of up to 16 classes: rows that are runs of elements go through registers, others
through tiles, with the same bits."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dlcore as dl
from dlcore import reference
from support.layouts import offset, strided

DTYPES = (np.float32, np.float64)
CLASSES = range(1, 19)  # and those around
ROWS = (1, 3, 4, 7, 8, 9, 16, 17, 63, 64, 65, 200)
INFINITY = np.inf


def draw(rng, rows, classes, dtype):
    """Logits, some rows of which have what is seldom: ties, subnormal exponentials, infinities."""
    x = (3 * rng.standard_normal((rows, classes))).astype(dtype)
    x[::5] = np.round(x[::5])
    x[1::7, 0] -= 95 if dtype == np.float32 else 720
    x[2::9, -1] = -INFINITY
    x[3::11] = 0.5
    x[4::23, 0] = INFINITY
    x[5::29, -1] = np.nan
    x[6::31] = -INFINITY
    return x


def same_bits(a, b):
    """Whether all elements are equal, signs of zeros too; a NaN equals any NaN."""
    a, b = np.asarray(a), np.asarray(b)
    signs = np.signbit(a) == np.signbit(b)
    return np.array_equal(a, b, equal_nan=True) and (signs | np.isnan(a)).all()


def both(x, y, out=None, **options):
    with np.errstate(invalid="ignore"):
        loss, grad = dl.cross_entropy_and_grad(x, y, out=out, **options)
    return np.asarray(loss), grad


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", CLASSES)
def test_bits_of_other_layouts(classes, dtype):
    rng = np.random.default_rng(classes)
    for rows, reduction in itertools.product(ROWS, ("none", "mean", "sum")):
        x = draw(rng, rows, classes, dtype)
        y = rng.integers(classes, size=rows)
        y[::6] = -100
        expected = both(strided(x), y, reduction=reduction)
        for other in (x, offset(x), np.hstack([x, x])[:, :classes]):
            assert all(map(same_bits, both(other, y, reduction=reduction), expected))
        in_place = x.copy()
        loss, grad = both(in_place, y, out=in_place, reduction=reduction)
        assert grad is in_place
        assert same_bits(loss, expected[0])
        assert same_bits(in_place, expected[1])
        alone = np.asarray(dl.cross_entropy(x, y, reduction=reduction))
        assert same_bits(alone, expected[0])


@given(
    classes=st.integers(2, 16),
    rows=st.integers(1, 40),
    seed=st.integers(0, 2**16),
    dtype=st.sampled_from(DTYPES),
    ignore_index=st.sampled_from((-100, 0, 1, 2**40)),
)
def test_parity(classes, rows, seed, dtype, ignore_index):
    rng = np.random.default_rng(seed)
    x = (4 * rng.standard_normal((rows, classes))).astype(dtype)
    y = rng.integers(classes, size=rows)
    y[rng.random(rows) < 0.2] = ignore_index
    options = {"ignore_index": ignore_index, "reduction": "none"}
    loss, grad = dl.cross_entropy_and_grad(x, y, **options)
    true_loss, true_grad = reference.cross_entropy_and_grad(x.astype(np.float64), y, **options)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(loss, true_loss, rtol=20 * eps, atol=2 * eps)
    np.testing.assert_allclose(grad, true_grad, rtol=0, atol=4 * eps)


@pytest.mark.parametrize("label", [np.int8, np.uint8, np.int32, np.uint64, np.int64])
def test_labels_of_any_type(label):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((77, 10), dtype=np.float32)
    y = rng.integers(10, size=77)
    expected = both(x, y)
    for given_labels in (y.astype(label), np.repeat(y.astype(label), 2)[::2]):
        assert all(map(same_bits, both(x, given_labels), expected))


def test_threads():
    rng = np.random.default_rng(0)
    x = draw(rng, 20_000, 10, np.float32)
    y = rng.integers(10, size=20_000)
    with dl.num_threads(1):
        expected = both(x, y)
    for threads in (2, 3, 4, 8):
        with dl.num_threads(threads):
            assert all(map(same_bits, both(x, y), expected))


def test_nothing_is_written_for_a_label_out_of_range():
    x = np.ones((20, 4), np.float32)
    y = np.zeros(20, np.int64)
    y[17] = 4
    out = np.full_like(x, 7)
    with pytest.raises(IndexError, match=r"target\[17\] = 4 is out of range for 4 classes"):
        dl.cross_entropy_and_grad(x, y, out=out)
    assert (out == 7).all()
