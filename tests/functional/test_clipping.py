"""Clipping of gradients: norms of any size and order, ties, what is refused."""

import numpy as np
import pytest

import dlcore as dl
from dlcore import reference

RNG = np.random.default_rng(0)
BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


class Tensor:
    """What NumPy reads without a copy."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


def test_all_arrays_are_scaled_by_one_factor():
    grads = [np.array([3.0, 0.0]), np.array([[4.0]], np.float32)]
    assert dl.clip_grad_norm(grads, 10) == 5
    assert grads[0].tolist() == [3, 0]
    assert dl.clip_grad_norm(grads, 1) == 5
    np.testing.assert_allclose(grads[0], [0.6, 0], rtol=1e-6)
    np.testing.assert_allclose(grads[1], [[0.8]], rtol=1e-6)


@BOTH
@pytest.mark.parametrize("norm_type", [0.5, 1, 2, 3, 7.5, 100, 1e6, np.inf, "inf"])
@pytest.mark.parametrize("threads", [1, 2])
def test_norms_of_any_order(norm_type, dtype, threads):
    shapes = (3,), (7, 5), (20_001,), (0,), ()
    grads = [np.asarray(RNG.standard_normal(shape), dtype) for shape in shapes]
    twins = [g.copy() for g in grads]
    with dl.num_threads(threads):
        norm = dl.clip_grad_norm(grads, 0.5, norm_type)
    p = np.inf if norm_type == "inf" else norm_type
    assert norm == pytest.approx(reference.clip_grad_norm(twins, 0.5, p), rel=1e-12)
    for g, twin in zip(grads, twins, strict=True):
        np.testing.assert_allclose(g, twin, rtol=1e-6 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("norm_type", [0.7, 1, 2, 3, np.inf])
@pytest.mark.parametrize(
    ("dtype", "size", "limit"),
    [
        (np.float64, 3e200, 1.0),
        (np.float64, 1.7e308, 1.0),  # but for p = inf the norm itself is beyond the range
        (np.float64, 3e-200, 1e-3),
        (np.float64, 5e-324, 1.0),
        (np.float64, 1e300, 1e-10),
        (np.float32, 3e38, 1.0),
        (np.float32, 3e38, 1e-6),
        (np.float32, 1e-45, 1.0),
    ],
)
def test_finite_gradients_of_any_size_are_clipped_to_the_norm(dtype, size, limit, norm_type):
    g = np.full(8, size, dtype)
    wide = np.longdouble(g[0])
    norm = (
        wide if norm_type == np.inf else wide * np.longdouble(8) ** (np.longdouble(1) / norm_type)
    )
    got = dl.clip_grad_norm([g[:3], g[3:]], limit, norm_type)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(got, float(norm), rtol=1e-12)
    wanted = wide * limit / norm if norm > limit else wide
    np.testing.assert_allclose(g, float(wanted), rtol=1e-5)


@BOTH
def test_zero_and_nothing_have_the_norm_zero(dtype):
    assert dl.clip_grad_norm([np.zeros(3, dtype)], 1.0) == 0
    assert dl.clip_grad_norm([], 1.0) == 0
    assert dl.clip_grad_norm([None, np.zeros((0, 2), dtype)], 1.0, 3) == 0


def test_gradients_that_are_none_are_passed_over():
    g = np.array([3.0, -4.0])
    assert dl.clip_grad_norm([None, g], 1.0) == 5
    dl.clip_grad_value([g, None], 0.5)
    assert g.tolist() == [0.5, -0.5]


@pytest.mark.parametrize("norm_type", [1, 2, 3, np.inf])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_norm_that_is_not_finite(bad, norm_type):
    g = np.array([bad, 1.0])
    with pytest.raises(RuntimeError, match="clip_grad_norm: the norm of the gradients is"):
        dl.clip_grad_norm([g], 1.0, norm_type, error_if_nonfinite=True)
    np.testing.assert_array_equal(g, [bad, 1.0])
    # As in PyTorch, otherwise.
    norm = dl.clip_grad_norm([g], 1.0, norm_type)
    assert np.isnan(norm) == np.isnan(bad)
    assert np.isnan(g[0])
    assert np.isnan(g[1]) == np.isnan(bad)


def test_an_infinite_limit_only_measures():
    g = np.array([np.inf, 1.0])
    assert dl.clip_grad_norm([g], np.inf) == np.inf
    assert g.tolist() == [np.inf, 1.0]
    dl.clip_grad_value([g], np.inf)
    assert g.tolist() == [np.inf, 1.0]


@pytest.mark.parametrize("tied", [lambda g: g, lambda g: g.T, lambda g: g[:], lambda g: g.ravel()])
def test_a_tied_gradient_counts_once(tied):
    g = np.array([[3.0, 0.0], [0.0, 4.0]])
    assert dl.clip_grad_norm([g, np.zeros(3), tied(g)], 1.0) == 5
    np.testing.assert_allclose(g, [[0.6, 0], [0, 0.8]], rtol=1e-6)


def test_gradients_that_share_a_part_are_refused():
    block = np.ones(6)
    with pytest.raises(ValueError, match=r"grads\[1\] shares a part of its memory with grads\[0\]"):
        dl.clip_grad_norm([block[:4], block[2:]], 0.1)
    assert np.all(block == 1)
    assert dl.clip_grad_norm([block[::2], block[1::2]], 0.1) == pytest.approx(6**0.5)


@BOTH
def test_memory_of_other_layouts_and_libraries(dtype):
    block = RNG.standard_normal((6, 8)).astype(dtype)
    for clip in (
        lambda grads: dl.clip_grad_norm(grads, 0.1),
        lambda g: dl.clip_grad_value(g, 0.01),
    ):
        clip([Tensor(block[:, ::2]), block[::-1, 1::2]])
    norm = np.linalg.norm(block)
    assert np.abs(block).max() <= dtype(0.01)
    assert norm <= 0.1 * (1 + 1e-6)
    one = RNG.standard_normal((3, 4)).astype(dtype)
    assert dl.clip_grad_norm(one, 1.0) > 1
    assert np.linalg.norm(one) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda g: dl.clip_grad_norm(g, -1), ValueError, "max_norm must be at least 0, got -1"),
        (
            lambda g: dl.clip_grad_norm(g, np.nan),
            ValueError,
            "max_norm must be at least 0, got nan",
        ),
        (lambda g: dl.clip_grad_norm(g, "1"), TypeError, "max_norm must be a number, got str"),
        (
            lambda g: dl.clip_grad_norm(g, 1, 0),
            ValueError,
            "norm_type must be greater than 0, got 0",
        ),
        (lambda g: dl.clip_grad_norm(g, 1, np.nan), ValueError, "norm_type must be greater than 0"),
        (
            lambda g: dl.clip_grad_norm(g, 1, "fro"),
            TypeError,
            "norm_type must be a number, got str",
        ),
        (lambda g: dl.clip_grad_norm([*g, [1.0]], 1), TypeError, r"grads\[1\] must be an array"),
        (lambda g: dl.clip_grad_norm([*g, np.ones(2, int)], 1), TypeError, r"grads\[1\] must be"),
        (lambda g: dl.clip_grad_value(g, -1), ValueError, "clip_value must be at least 0"),
        (lambda g: dl.clip_grad_value(g, np.nan), ValueError, "clip_value must be at least 0"),
        (lambda g: dl.clip_grad_value(g, None), TypeError, "clip_value must be a number"),
        (
            lambda g: dl.clip_grad_value([*g, np.ones(2, int)], 0),
            TypeError,
            r"grads\[1\] must be a",
        ),
    ],
)
def test_what_is_refused_changes_nothing(call, error, message):
    g = np.full(3, 5.0)
    with pytest.raises(error, match=message):
        call([g])
    assert g.tolist() == [5, 5, 5]


@pytest.mark.parametrize("clip", [dl.clip_grad_norm, dl.clip_grad_value])
def test_a_read_only_gradient_changes_nothing(clip):
    first, read_only = np.ones(3), np.ones(2)
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match=r"grads\[1\] is read-only"):
        clip([first, read_only], 0.1)
    assert first.tolist() == [1, 1, 1]


def test_values_of_float32_keep_to_a_limit_beyond_its_range():
    g = np.array([3e38, -1.0, np.nan], np.float32)
    dl.clip_grad_value([g], 1e300)
    np.testing.assert_array_equal(g, np.array([3e38, -1.0, np.nan], np.float32))


@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_a_fit_clips_gradients_whose_squares_leave_the_range(size):
    x = np.full((8, 2), 1.0)
    model = dl.Sequential(dl.Linear(2, 1, bias=False), dtype=np.float64, seed=0)
    before = model.flat.copy()
    sgd = dl.SGD(model.parameters(), lr=1.0)
    loss = dl.L1Loss()
    limit = 1.0 if size > 1 else 1e-3
    trainer = dl.Trainer(model, loss=loss, optimizer=sgd, clip_grad_norm=limit, seed=0)
    trainer.fit(x * size, np.full((8, 1), -1e3 * size), epochs=1, batch_size=8, verbose=0)
    moved = np.linalg.norm(model.flat - before)
    wanted = min(limit, np.sqrt(2) * size)
    np.testing.assert_allclose(moved, wanted, rtol=1e-5, atol=1e-16)
