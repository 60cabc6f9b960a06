"""Batch and layer normalization as functions, beyond what test_parity compares with the reference."""

import numpy as np
import pytest

import dlcore as dl
from dlcore import reference
from support.layouts import LAYOUTS

F32, F64 = np.float32, np.float64
DTYPES = pytest.mark.parametrize("dtype", [F32, F64], ids=["float32", "float64"])
LIBRARIES = pytest.mark.parametrize("library", [dl, reference], ids=["dlcore", "reference"])
SHAPES = [(6, 3), (1, 3), (2, 1), (17, 5), (4, 3, 5), (1, 2, 4), (3, 2, 2, 3)]


def draw(shape, features, dtype=F64, seed=0):
    """Draw x, dy, weight, bias, and a running mean and variance."""
    rng = np.random.default_rng(seed)
    x = 2 * rng.normal(size=shape) + 1
    vectors = rng.normal(size=(3, features))
    arrays = [x, rng.normal(size=shape), *vectors, rng.uniform(0.5, 2, features)]
    return [np.ascontiguousarray(a, dtype) for a in arrays]


def slope(f, x):
    """Central differences of a function of an array."""
    found = np.empty_like(x)
    for i in np.ndindex(x.shape):
        ends = []
        for step in (1e-5, -1e-5):
            moved = x.copy()
            moved[i] += step
            ends.append(f(moved))
        found[i] = (ends[0] - ends[1]) / 2e-5
    return found


def assert_gradients(grads, potential, *at):
    for i, (grad, x) in enumerate(zip(grads, at, strict=True)):
        numeric = slope(lambda v, i=i: potential(*at[:i], v, *at[i + 1 :]), x)
        np.testing.assert_allclose(grad, numeric, rtol=1e-6, atol=1e-7)


# ---- gradients


@LIBRARIES
@pytest.mark.parametrize("shape", [(5,), *SHAPES], ids=str)
def test_gradients_of_layer_norm_equal_central_differences(shape, library):
    x, dy, weight, bias, *_ = draw(shape, shape[-1])
    eps = 1e-2  # one feature alone has no variance
    grads = library.layer_norm_backward(dy, x, weight, eps=eps)
    assert_gradients(
        grads, lambda *a: np.sum(dy * library.layer_norm(*a, eps=eps)), x, weight, bias
    )
    # Without a weight those of weight and bias are there as well, as of 1 and 0.
    ones, zeros = np.ones_like(weight), np.zeros_like(bias)
    assert_gradients(
        library.layer_norm_backward(dy, x, eps=eps),
        lambda *a: np.sum(dy * library.layer_norm(*a, eps=eps)),
        x,
        ones,
        zeros,
    )


@LIBRARIES
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_of_batch_norm_equal_central_differences(shape, weighted, training, library):
    x, dy, weight, bias, mean, var = draw(shape, shape[1])
    if not weighted:
        weight, bias = np.ones_like(weight), np.zeros_like(bias)
    options = {"training": training, "eps": 1e-2}

    def potential(x, weight, bias):
        running = mean.copy(), var.copy()
        return np.sum(dy * library.batch_norm(x, *running, weight, bias, **options))

    given = (weight,) if weighted else ()
    grads = library.batch_norm_backward(dy, x, mean, var, *given, **options)
    assert_gradients(grads, potential, x, weight, bias)


def test_the_gradient_in_training_adds_up_to_0_in_each_feature():
    """Neither a shift of a feature nor a new scale changes what comes out."""
    x, dy, weight, *_ = draw((50, 4), 4)
    dx, _, _ = dl.batch_norm_backward(dy, x, weight=weight, training=True, eps=0.0)
    np.testing.assert_allclose(dx.sum(0), 0, atol=1e-13)
    np.testing.assert_allclose((dx * x).sum(0), 0, atol=1e-12)
    dx, _, _ = dl.layer_norm_backward(dy, x, weight, eps=0.0)
    np.testing.assert_allclose(dx.sum(1), 0, atol=1e-13)
    np.testing.assert_allclose((dx * x).sum(1), 0, atol=1e-12)


# ---- values


@DTYPES
def test_by_hand(dtype):
    x = np.array([[1, 10], [3, 30], [5, 50]], dtype)  # variances 8 / 3 and 800 / 3
    up = np.sqrt(1.5)
    near = {"rtol": 0, "atol": 2 * np.finfo(dtype).eps}
    np.testing.assert_allclose(
        dl.batch_norm(x, training=True, eps=0), [[-up] * 2, [0] * 2, [up] * 2], **near
    )
    np.testing.assert_allclose(dl.layer_norm(x, eps=0), [[-1, 1]] * 3, **near)
    weight, bias = np.array([2, -1], dtype), np.array([0, 3], dtype)
    np.testing.assert_allclose(dl.layer_norm(x, weight, bias, eps=0), [[-2, 2]] * 3, **near)
    mean, var = np.array([3, 0], dtype), np.array([4, 100], dtype)
    expected = [[-1, 1], [0, 3], [1, 5]]
    np.testing.assert_allclose(dl.batch_norm(x, mean, var, eps=0), expected, **near)
    assert dl.batch_norm(x, mean, var).dtype == dl.layer_norm(x).dtype == dtype


@DTYPES
def test_rms_norm_by_hand(dtype):
    x = np.array([[3, 4], [0, 2]], dtype)  # mean squares 12.5 and 2
    expected = x / np.sqrt([[12.5], [2]])
    near = {"rtol": 4 * np.finfo(dtype).eps}
    np.testing.assert_allclose(dl.rms_norm(x, eps=0.0), expected, **near)
    weight = np.array([2, -1], dtype)
    np.testing.assert_allclose(dl.rms_norm(x, weight, eps=0.0), expected * weight, **near)
    np.testing.assert_allclose(dl.rms_norm(x, eps=0.5), x / np.sqrt([[13], [2.5]]), **near)
    # PyTorch's default.
    epsilon = float(np.finfo(dtype).eps)
    tiny = np.full((1, 3), np.sqrt(epsilon), dtype)
    np.testing.assert_allclose(dl.rms_norm(tiny), np.full((1, 3), np.sqrt(0.5)), rtol=1e-6)
    np.testing.assert_array_equal(dl.rms_norm(tiny), dl.rms_norm(tiny, eps=epsilon))
    np.testing.assert_allclose(reference.rms_norm(tiny), dl.rms_norm(tiny), rtol=1e-6)
    model = dl.Sequential(
        dl.RMSNorm(2), dl.RMSNorm(2, eps=0.25, elementwise_affine=False), dtype=dtype
    )
    model[0].weight[...] = weight
    np.testing.assert_array_equal(model(x), dl.rms_norm(dl.rms_norm(x, weight), eps=0.25))
    assert list(model.state_dict()) == ["0.weight"]
    assert repr(model[0]) == "RMSNorm(2, eps=None)"
    assert repr(model[1]) == "RMSNorm(2, eps=0.25, elementwise_affine=False)"


@LIBRARIES
@pytest.mark.parametrize("shape", [(5,), *SHAPES], ids=str)
def test_gradients_of_rms_norm_equal_central_differences(shape, library):
    x, dy, weight, *_ = draw(shape, shape[-1])
    grads = library.rms_norm_backward(dy, x, weight, eps=1e-2)
    assert_gradients(grads, lambda *a: np.sum(dy * library.rms_norm(*a, eps=1e-2)), x, weight)
    assert_gradients(
        library.rms_norm_backward(dy, x, eps=1e-2)[:1],
        lambda a: np.sum(dy * library.rms_norm(a, eps=1e-2)),
        x,
    )


@LIBRARIES
@DTYPES
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_several_axes_are_normalized_together(axes, dtype, library):
    x, dy, *_ = draw((4, 2, 5, 3), 3, dtype)
    shape = x.shape[-axes:]
    weight, bias = np.random.default_rng(1).normal(size=(2, *shape)).astype(dtype)
    rows = (x.size // weight.size, weight.size)
    flat, flat_dy = x.reshape(rows), dy.reshape(rows)
    near = {"rtol": 1e-4, "atol": 1e-5} if dtype == F32 else {"rtol": 1e-12, "atol": 1e-13}
    expected = dl.layer_norm(flat, weight.ravel(), bias.ravel()).reshape(x.shape)
    np.testing.assert_allclose(library.layer_norm(x, weight, bias), expected, **near)
    np.testing.assert_allclose(
        library.layer_norm(x, normalized_shape=shape), dl.layer_norm(flat).reshape(x.shape), **near
    )
    for name in ("layer_norm_backward", "rms_norm_backward"):
        own = getattr(library, name)(dy, x, weight)
        other = getattr(dl, name)(flat_dy, flat, weight.ravel())
        assert [g.shape for g in own[1:]] == [shape] * (len(own) - 1)
        for a, b in zip(own, other, strict=True):
            np.testing.assert_allclose(a.ravel(), b.ravel(), **near)
    expected = dl.rms_norm(flat, weight.ravel()).reshape(x.shape)
    np.testing.assert_allclose(library.rms_norm(x, weight), expected, **near)


@DTYPES
def test_eps_is_added_to_the_variance(dtype):
    x = np.array([[1], [3]], dtype)  # variance 1
    np.testing.assert_allclose(
        dl.batch_norm(x, training=True, eps=3.0)[:, 0], [-0.5, 0.5], rtol=1e-6
    )
    np.testing.assert_allclose(dl.layer_norm(x.T.copy(), eps=3.0)[0], [-0.5, 0.5], rtol=1e-6)


@DTYPES
@pytest.mark.parametrize("momentum", [0.0, 0.1, 0.3, 1.0])
def test_running_statistics(momentum, dtype):
    mean, var = np.zeros(3, dtype), np.ones(3, dtype)
    expected = [np.zeros(3), np.ones(3)]
    for seed in range(4):
        x = draw((7, 3), 3, dtype, seed)[0]
        dl.batch_norm(x, mean, var, training=True, momentum=momentum)
        now = x.astype(F64).mean(0), x.astype(F64).var(0, ddof=1)  # unbiased
        expected = [(1 - momentum) * e + momentum * n for e, n in zip(expected, now, strict=True)]
    near = {"rtol": 1e-5 if dtype == F32 else 1e-13, "atol": 1e-6 if dtype == F32 else 1e-14}
    np.testing.assert_allclose(mean, expected[0], **near)
    np.testing.assert_allclose(var, expected[1], **near)


@DTYPES
def test_running_statistics_do_not_change_the_outputs_of_training(dtype):
    x, _, weight, bias, mean, var = draw((9, 4), 4, dtype)
    running = dl.batch_norm(x, mean, var, weight, bias, training=True)
    none = dl.batch_norm(x, weight=weight, bias=bias, training=True)
    np.testing.assert_array_equal(running, none)
    kept = mean.copy(), var.copy()
    dl.batch_norm(x, mean, var, weight, bias)
    np.testing.assert_array_equal((mean, var), kept)


@DTYPES
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("shape", [(4, 3, 5), (3, 2, 2, 3), (1, 33, 7)], ids=str)
def test_further_dimensions_are_more_rows(shape, training, dtype):
    x, dy, weight, bias, mean, var = draw(shape, shape[1], dtype)

    def flat(a):
        return np.moveaxis(a, 1, -1).reshape(-1, shape[1]).copy()

    ways = []
    for change in (lambda a: a, flat):
        running = mean.copy(), var.copy()
        y = dl.batch_norm(change(x), *running, weight, bias, training=training)
        grads = dl.batch_norm_backward(change(dy), change(x), *running, weight, training=training)
        ways.append((y, *grads, *running))
    (y, dx, *vectors), (flat_y, flat_dx, *flat_vectors) = ways
    assert y.shape == dx.shape == shape
    np.testing.assert_array_equal(flat(y), flat_y)
    np.testing.assert_array_equal(flat(dx), flat_dx)
    for own, other in zip(vectors, flat_vectors, strict=True):
        np.testing.assert_array_equal(own, other)


@pytest.mark.parametrize(("dtype", "offset"), [(F64, 1e8), (F32, 1e4), (F32, 1e6)])
def test_values_far_from_0_keep_their_digits(dtype, offset):
    """All that is lost is what the dtype cannot tell of the mean."""
    signs = np.where(np.random.default_rng(0).random((1000, 3)) < 0.5, -1.0, 1.0)
    x = (offset + signs).astype(dtype)
    expected = (signs - signs.mean(0)) / signs.std(0)
    near = {"rtol": 0, "atol": 0.6 * np.spacing(dtype(offset))}
    mean, var = np.zeros(3, dtype), np.zeros(3, dtype)
    y = dl.batch_norm(x, mean, var, training=True, eps=0.0, momentum=1.0)
    np.testing.assert_allclose(y, expected, **near)
    np.testing.assert_allclose(mean.astype(F64) - offset, signs.mean(0), **near)
    np.testing.assert_allclose(var, signs.var(0, ddof=1), **near)
    np.testing.assert_allclose(dl.layer_norm(x.T.copy(), eps=0.0), expected.T, **near)


@DTYPES
def test_it_does_not_matter_how_far_from_0_the_values_are(dtype):
    """1e6 and a mean of 16 integers are exact in both dtypes."""
    rng = np.random.default_rng(0)
    x = rng.integers(-4, 5, (16, 16)).astype(dtype)
    dy = rng.normal(size=(16, 16)).astype(dtype)
    ways = [
        [
            dl.batch_norm(values, training=True),
            *dl.batch_norm_backward(dy, values, training=True),
            dl.layer_norm(values),
            *dl.layer_norm_backward(dy, values),
        ]
        for values in (x, x + 1_000_000)
    ]
    for near, far in zip(*ways, strict=True):
        scale = 16 * np.finfo(dtype).eps
        np.testing.assert_allclose(near, far, rtol=scale, atol=scale)


def test_constant_rows_and_columns_give_the_bias():
    x = np.full((5, 4), 7.0, F32)
    bias = np.arange(4, dtype=F32)
    np.testing.assert_array_equal(dl.layer_norm(x, np.ones(4, F32), bias), [bias] * 5)
    np.testing.assert_array_equal(
        dl.batch_norm(x, weight=np.ones(4, F32), bias=bias, training=True), [bias] * 5
    )


def test_nan_stays_in_its_row_or_column():
    x = draw((6, 4), 4)[0]
    x[2, 1] = np.nan
    rows = np.isnan(dl.layer_norm(x)).any(1)
    assert rows.tolist() == [False, False, True, False, False, False]
    columns = np.isnan(dl.batch_norm(x, training=True)).any(0)
    assert columns.tolist() == [False, True, False, False]


# ---- few rows, none, and one


@DTYPES
def test_one_row_has_no_variance(dtype):
    x, dy, weight, bias, mean, var = draw((1, 3), 3, dtype)
    kept = mean.copy(), var.copy()
    y = dl.batch_norm(x, mean, var, weight, bias, training=True)
    np.testing.assert_array_equal(y[0], bias)
    np.testing.assert_array_equal((mean, var), kept)
    dx, dweight, dbias = dl.batch_norm_backward(dy, x, weight=weight, training=True)
    assert not dx.any()
    assert not dweight.any()
    np.testing.assert_array_equal(dbias, dy[0])


def test_one_row_of_several_values_has_one():
    x = np.array([[[1.0, 3.0], [2.0, 2.0]]])
    mean, var = np.zeros(2), np.ones(2)
    y = dl.batch_norm(x, mean, var, training=True, eps=0.25, momentum=1.0)
    np.testing.assert_allclose(y, [[[-1 / np.sqrt(1.25), 1 / np.sqrt(1.25)], [0, 0]]])
    np.testing.assert_array_equal(mean, [2, 2])
    np.testing.assert_array_equal(var, [2, 0])


@DTYPES
@pytest.mark.parametrize("shape", [(0, 3), (4, 0), (0, 0), (2, 3, 0), (0, 3, 5)], ids=str)
def test_nothing_to_normalize(shape, dtype):
    x, dy, weight, bias, mean, var = draw(shape, shape[1], dtype)
    kept = mean.copy(), var.copy()
    for training in (True, False):
        y = dl.batch_norm(x, mean, var, weight, bias, training=training)
        dx, dweight, dbias = dl.batch_norm_backward(dy, x, mean, var, weight, training=training)
        assert y.shape == dx.shape == shape
        assert dweight.shape == dbias.shape == (shape[1],)
        assert not dweight.any()
        assert not dbias.any()
    np.testing.assert_array_equal((mean, var), kept)
    y = dl.layer_norm(x)
    dx, dweight, dbias = dl.layer_norm_backward(dy, x)
    assert y.shape == dx.shape == shape
    assert dweight.shape == dbias.shape == (shape[-1],)
    assert not dweight.any()
    assert {a.dtype for a in (y, dx, dweight, dbias)} == {np.dtype(dtype)}


# ---- layouts and threads


def everything(x, dy, weight, bias, mean, var):
    """Call all functions; all results."""
    running = mean.copy(), var.copy()
    return [
        dl.layer_norm(x, weight, bias),
        *dl.layer_norm_backward(dy, x, weight),
        dl.rms_norm(x, weight),
        *dl.rms_norm_backward(dy, x, weight),
        dl.batch_norm(x, mean, var, weight, bias),
        *dl.batch_norm_backward(dy, x, mean, var, weight),
        dl.batch_norm(x, *running, weight, bias, training=True),
        *dl.batch_norm_backward(dy, x, weight=weight, training=True),
        *running,
    ]


@DTYPES
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_does_not_change_the_bits(layout, dtype, isa):
    arrays = draw((13, 17), 17, dtype)
    odd = [LAYOUTS[layout](a) for a in arrays]
    for a in odd:
        a.flags.writeable = False
    for own, other in zip(everything(*odd), everything(*arrays), strict=True):
        np.testing.assert_array_equal(own, other)
        assert own.flags.c_contiguous


@DTYPES
@pytest.mark.parametrize("layout", LAYOUTS)
def test_running_statistics_of_any_layout_are_updated(layout, dtype):
    x, *_, mean, var = draw((13, 17), 17, dtype)
    odd = [LAYOUTS[layout](a) for a in (mean, var)]
    if any(not a.flags.writeable for a in odd):
        with pytest.raises(ValueError, match="running_mean must be a writeable array"):
            dl.batch_norm(x, *odd, training=True)
        return
    dl.batch_norm(x, mean, var, training=True)
    dl.batch_norm(x, *odd, training=True)
    for own, other in zip(odd, (mean, var), strict=True):
        np.testing.assert_array_equal(own, other)


@DTYPES
@pytest.mark.parametrize("shape", [(2000, 65), (100_000, 3), (40, 20_000)], ids=str)
def test_any_number_of_threads_gives_the_same_bits(shape, dtype):
    arrays = draw(shape, shape[1], dtype)
    found = []
    for threads in (1, 2):
        with dl.num_threads(threads):
            found.append(everything(*arrays))
    for own, other in zip(*found, strict=True):
        np.testing.assert_array_equal(own, other)


# ---- the layers


@DTYPES
def test_a_layer_of_batch_normalization_gives_what_the_function_gives(dtype):
    x, dy, weight, bias, *_ = draw((24, 3), 3, dtype)
    model = dl.Sequential(dl.BatchNorm1d(3, eps=1e-3, momentum=0.3), dtype=dtype)
    model[0].weight[...], model[0].bias[...] = weight, bias
    target = dl.batch_norm(x, weight=weight, bias=bias, training=True, eps=1e-3) + dy
    trainer = dl.Trainer(model, loss="mse", optimizer=dl.SGD(model.parameters(), lr=1.0))
    history = trainer.fit(x, target, epochs=1, batch_size=24, shuffle=False, verbose=0)
    near = {"rtol": 1e-4, "atol": 1e-5} if dtype == F32 else {"rtol": 1e-11, "atol": 1e-13}
    assert history["loss"][0] == pytest.approx(np.mean(dy.astype(F64) ** 2), rel=1e-5)
    # The step is the gradient of the mean of squares, -2 dy / size.
    slopes = -2 * dy / dy.size
    _, dweight, dbias = dl.batch_norm_backward(slopes, x, weight=weight, training=True, eps=1e-3)
    np.testing.assert_allclose(weight - model[0].weight, dweight, **near)
    np.testing.assert_allclose(bias - model[0].bias, dbias, **near)
    mean, var = np.zeros(3, dtype), np.ones(3, dtype)
    dl.batch_norm(x, mean, var, training=True, momentum=0.3)
    np.testing.assert_array_equal(model[0].running_mean, mean)
    np.testing.assert_array_equal(model[0].running_var, var)
    outputs = dl.batch_norm(x, mean, var, model[0].weight, model[0].bias, eps=1e-3)
    np.testing.assert_allclose(model(x), outputs, **near)


@DTYPES
def test_layers_below_get_the_gradient_of_the_function(dtype):
    """One step of SGD with lr 1 on a linear layer below each of the normalizations."""
    x, dy, weight, bias, *_ = draw((24, 3), 3, dtype)
    for layer, name in ((dl.BatchNorm1d(3), "batch"), (dl.LayerNorm(3), "layer")):
        model = dl.Sequential(dl.Linear(3, 3), layer, dtype=dtype, seed=0)
        layer.weight[...], layer.bias[...] = weight, bias
        w = model[0].weight.copy()
        z = x @ w.T + model[0].bias
        if name == "batch":
            y = dl.batch_norm(z, weight=weight, bias=bias, training=True)
            dz, _, _ = dl.batch_norm_backward(-2 * dy / dy.size, z, weight=weight, training=True)
        else:
            y = dl.layer_norm(z, weight, bias)
            dz, _, _ = dl.layer_norm_backward(-2 * dy / dy.size, z, weight)
        trainer = dl.Trainer(model, loss="mse", optimizer=dl.SGD(model.parameters(), lr=1.0))
        trainer.fit(x, y + dy, epochs=1, batch_size=24, shuffle=False, verbose=0)
        near = {"atol": 1e-5 if dtype == F32 else 1e-13}
        np.testing.assert_allclose(w - model[0].weight, dz.T @ x, **near)


# ---- errors

X, MEAN, VAR = np.arange(18.0).reshape(6, 3), np.zeros(3), np.ones(3)
BYTES = np.dtype(F64).newbyteorder()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: dl.layer_norm(X.astype(int)), TypeError, "x must be float32 or float64, got int"),
        (lambda: dl.layer_norm(X.astype(np.float16)), TypeError, "or float64, got float16"),
        (lambda: dl.layer_norm(X.astype(BYTES)), TypeError, "x must be float32 or float64"),
        (lambda: dl.layer_norm(X.tolist()), TypeError, "layer_norm: x must be an array"),
        (lambda: dl.layer_norm(X[0, 0]), ValueError, "at least 1 dimensions"),
        (lambda: dl.layer_norm(X, VAR[:2]), ValueError, r"weight must have the shape \(3,\)"),
        (lambda: dl.layer_norm(X, VAR, X[0:1]), ValueError, r"bias .* \(3,\), got \(1, 3\)"),
        (lambda: dl.layer_norm(X, VAR.astype(F32)), TypeError, "weight must be float64, like x"),
        (lambda: dl.layer_norm(X, eps=-1e-9), ValueError, "eps must be finite and at least 0"),
        (lambda: dl.layer_norm(X, eps=np.nan), ValueError, "eps must be finite and at least 0"),
        (lambda: dl.layer_norm(X, eps="0"), TypeError, "eps must be a number, got str"),
        (
            lambda: dl.layer_norm(X, normalized_shape=(2, 3)),
            ValueError,
            r"normalized_shape must be the shape of the last axes of x, \(6, 3\), got \(2, 3\)",
        ),
        (lambda: dl.layer_norm(X, normalized_shape=2.5), ValueError, "normalized_shape must be an"),
        (lambda: dl.layer_norm(X, normalized_shape=()), ValueError, "normalized_shape must be the"),
        (
            lambda: dl.layer_norm(X, VAR, normalized_shape=(6, 3)),
            ValueError,
            r"\(6, 3\), got \(3,\)",
        ),
        (
            lambda: dl.layer_norm(X, np.ones((5, 3))),
            ValueError,
            r"weight .* \(6, 3\), got \(5, 3\)",
        ),
        (lambda: dl.layer_norm(X, eps=None), TypeError, "eps must be a number, got NoneType"),
        (lambda: dl.rms_norm(X, eps=-1.0), ValueError, "rms_norm: eps must be finite and at least"),
        (lambda: dl.rms_norm(X, VAR[:2]), ValueError, r"weight must have the shape \(3,\)"),
        (lambda: dl.rms_norm_backward(X[1:], X), ValueError, r"dy must have the shape \(6, 3\)"),
        (lambda: dl.layer_norm_backward(X[1:], X), ValueError, r"dy must have the shape \(6, 3\)"),
        (lambda: dl.layer_norm_backward(X.astype(F32), X), TypeError, "dy must be float64, like x"),
        (lambda: dl.batch_norm(X[0], training=True), ValueError, "at least 2 dimensions"),
        (lambda: dl.batch_norm(X), ValueError, "running_mean and running_var are needed unless"),
        (lambda: dl.batch_norm(X, MEAN), ValueError, "running_mean and running_var go together"),
        (lambda: dl.batch_norm(X, None, VAR, training=True), ValueError, "go together"),
        (lambda: dl.batch_norm(X, MEAN, VAR[:2]), ValueError, r"running_var must have the shape"),
        (
            lambda: dl.batch_norm(X, MEAN.astype(F32), VAR),
            TypeError,
            "running_mean must be float64",
        ),
        (lambda: dl.batch_norm(X, [0, 0, 0], VAR), TypeError, "running_mean must be an array"),
        (lambda: dl.batch_norm(X, MEAN, VAR, X[0, :2]), ValueError, "weight must have the shape"),
        (lambda: dl.batch_norm(X, MEAN, VAR, eps=np.inf), ValueError, "eps must be finite"),
        (lambda: dl.batch_norm(X, MEAN, VAR, momentum=1.1), ValueError, r"in \[0, 1\], got 1.1"),
        (lambda: dl.batch_norm(X, MEAN, VAR, momentum=-1), ValueError, r"in \[0, 1\], got -1"),
        (
            lambda: dl.batch_norm(X, MEAN, VAR, momentum=None),
            TypeError,
            "momentum must be a number",
        ),
        (lambda: dl.batch_norm_backward(X, X), ValueError, "are needed unless training"),
        (lambda: dl.batch_norm_backward(X[:, :2], X, training=True), ValueError, "dy must have"),
        (lambda: dl.batch_norm_backward(X, X, MEAN[:1], VAR), ValueError, "running_mean must have"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    "wrong",
    [{"momentum": 2.0}, {"eps": -1.0}, {"weight": np.ones(2)}, {"bias": np.ones(3, F32)}],
    ids=lambda options: next(iter(options)),
)
def test_an_error_leaves_the_running_statistics(wrong):
    mean, var = MEAN.copy(), VAR.copy()
    with pytest.raises((TypeError, ValueError), match=f"{next(iter(wrong))} must"):
        dl.batch_norm(X, mean, var, **wrong, training=True)
    np.testing.assert_array_equal((mean, var), (MEAN, VAR))


@pytest.mark.parametrize("which", [0, 1])
def test_running_statistics_that_are_read_only(which):
    running = MEAN.copy(), VAR.copy()
    running[which].flags.writeable = False
    name = ("running_mean", "running_var")[which]
    with pytest.raises(ValueError, match=f"{name} must be a writeable array in training"):
        dl.batch_norm(X, *running, training=True)
    np.testing.assert_array_equal(running, (MEAN, VAR))


def test_running_statistics_need_not_be_writeable_in_inference():
    mean, var = MEAN.copy(), VAR.copy()
    mean.flags.writeable = var.flags.writeable = False
    np.testing.assert_allclose(dl.batch_norm(X, mean, var, eps=0.0), X)
