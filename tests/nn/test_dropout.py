"""Which elements dropout keeps: those of its reference bit by bit, and as good as drawn by lot."""

import numpy as np
import pytest

import dlcore as dl
from dlcore._native import dispatch
from dlcore._native.specs import DropoutSpec
from dlcore.nn._inference import describe
from dlcore.reference import _dropout
from support.networks import DTYPES, F32, F64

KEYS = [0, 1, 2**64 - 1, 0x0123456789ABCDEF]
GOLDEN = 0x9E3779B97F4A7C15  # from the key of a batch to that of the next


def native_step(layers, dtype, rows):
    return dispatch.core.TrainingStep(dtype == F64, tuple(layers), rows, None, False)


def outputs_of(step, x, width, key):
    y = np.empty((len(x), width), x.dtype)
    step.forward(x, np.arange(len(x)), y, key)
    return y


def with_nan(rows, features, dtype):
    x = np.random.default_rng(0).normal(size=(rows, features)).astype(dtype)
    x[::7] = np.nan
    x[1::7] = np.inf
    return x


@DTYPES
@pytest.mark.parametrize("features", [1, 3, 8, 15, 31, 32, 33, 64, 100, 257])
@pytest.mark.parametrize("p", [0.0, 1e-9, 0.1, 0.5, 1 - 2**-33, 1.0])
def test_it_keeps_what_the_reference_keeps(features, p, dtype, isa):
    x = with_nan(70, features, dtype)
    for stream, key in enumerate(KEYS):
        step = native_step([DropoutSpec(features, p, stream)], dtype, len(x))
        y = outputs_of(step, x, features, key)
        factor = dtype(1 / (1 - p)) if p < 1 else dtype(0)
        kept = _dropout.kept(key, stream, len(x), features, p)
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(y, np.where(kept, x * factor, 0))


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 8])
def test_it_keeps_the_same_for_any_number_of_threads(threads):
    x = np.ones((1000, 300), F32)
    with dl.num_threads(threads):
        y = outputs_of(native_step([DropoutSpec(300, 0.3, 2)], F32, 1000), x, 300, 5)
    np.testing.assert_array_equal(y != 0, _dropout.kept(5, 2, 1000, 300, 0.3))


@DTYPES
@pytest.mark.parametrize("after_relu", [True, False])
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_the_gradient_goes_through_what_was_kept(p, after_relu, dtype, isa):
    """After a ReLU both ways back are a part of the product above."""
    hidden, outputs, rows = 45, 3, 50
    between = dl.ReLU() if after_relu else dl.Tanh()
    layers = dl.Linear(6, hidden), between, dl.Dropout(p), dl.Linear(hidden, outputs)
    model = dl.Sequential(*layers, dtype=dtype, seed=0)
    grads = model._split(np.zeros_like(model.flat))
    step = native_step(describe(model.layers, 6, (), grads), dtype, rows)
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(rows, 6)).astype(dtype), rng.normal(size=(rows, outputs)).astype(dtype)
    y = outputs_of(step, x, outputs, 9)
    step.backward(dy)

    kept = _dropout.kept(9, 2, rows, hidden, p) * (1 / (1 - p) if p < 1 else 0)
    w1, b1, w2, b2 = (a.astype(F64) for a in model.named_parameters().values())
    z = x @ w1.T + b1
    h = np.maximum(z, 0) if after_relu else np.tanh(z)
    dz = dy @ w2 * kept * ((z > 0) if after_relu else 1 - h**2)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == F32 else {"rtol": 1e-11, "atol": 1e-12}
    np.testing.assert_allclose(y, (h * kept) @ w2.T + b2, **tolerance)
    expected = {"0.weight": dz.T @ x, "0.bias": dz.sum(0)}
    expected |= {"3.weight": dy.T @ (h * kept), "3.bias": dy.sum(0)}
    for name, value in expected.items():
        np.testing.assert_allclose(grads[name], value, err_msg=name, **tolerance)


# ---- as if drawn by lot: each number is some 1 in size, and 6 is once in 5e8


@pytest.fixture(scope="module", params=[0.01, 0.1, 0.25, 0.5, 0.9])
def drawn(request):
    """Elements kept less their share, of steps, layers, rows and features, and their variance."""
    p = request.param
    masks = [
        [_dropout.kept(77 + i * GOLDEN & (2**64 - 1), stream, 128, 256, p) for stream in (2, 5)]
        for i in range(16)
    ]
    return np.array(masks) - (1 - p), p * (1 - p)


def correlation(a, b, variance):
    """Return the correlation in units of its standard deviation."""
    return (a * b).sum() / variance / np.sqrt(a.size)


@pytest.mark.parametrize("over", [(0, 1, 2, 3), (0, 2, 3), (3,), (0, 1, 2)], ids=str)
def test_the_share_is_kept(drawn, over):
    """Of all elements, of each layer, in each row, at each feature."""
    mask, variance = drawn
    n = np.prod([mask.shape[axis] for axis in over])
    z = mask.sum(axis=over) / np.sqrt(n * variance)
    assert np.abs(z).max() < 6 + 2 * (variance < 0.02)  # of a few rare ones the tail is longer
    assert abs((z**2).mean() - 1) < 6 * np.sqrt(2 / z.size) or z.size < 10


@pytest.mark.parametrize("axis", range(4), ids=["steps", "layers", "rows", "neighbours"])
def test_elements_are_independent(drawn, axis):
    mask, variance = drawn
    found = []
    for lag in range(1, min(mask.shape[axis], 64)):
        a, b = np.split(np.moveaxis(mask, axis, 0), [lag])[1], np.moveaxis(mask, axis, 0)[:-lag]
        found.append(correlation(a, b, variance))
    assert np.abs(found).max() < 5
    assert np.square(found).mean() < 1 + 6 * np.sqrt(2 / len(found))


def test_three_neighbours_are_independent(drawn):
    mask, variance = drawn
    for i in (1, 2, 3):
        for j in (1, 2, 3):
            triple = mask[..., : -i - j] * mask[..., i:-j] * mask[..., i + j :]
            assert abs(triple.sum() / variance**1.5 / np.sqrt(triple.size)) < 5
