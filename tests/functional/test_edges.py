"""Values at the edges: NaN, infinities, zeros, denormals, huge logits, masked classes, long means."""

import numpy as np
import pytest

import dlcore as dl
from dlcore import reference
from dlcore.reference._activations import SELU_ALPHA, SELU_SCALE
from support.cases import CASES, DTYPES, results, statistics
from support.ulp import ulp_distance

pytestmark = pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)

INDEX_LOSSES = ["cross_entropy", "nll_loss"]
inf, nan = np.inf, np.nan


def function(name):
    return getattr(dl, name), getattr(reference, name)


def assert_same(actual, expected, dtype, ulp=8):
    """NaN, infinities and the signs of zeros are the same, and the rest is close."""
    for a, e in zip(results(actual), results(expected), strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a, e, rtol=ulp * np.finfo(dtype).eps, atol=np.finfo(dtype).tiny)
        zeros = (e == 0) & (a == 0)
        np.testing.assert_array_equal(np.signbit(a[zeros]), np.signbit(e[zeros]))


# Activations


def specials(dtype):
    info = np.finfo(dtype)
    tiny = [info.smallest_subnormal, info.tiny / 3, info.tiny]
    middle = [1e-30, 1e-8, 0.5, 1, 3, 20, 20.5, 88, 90, 104, 710, 746]
    positive = np.array([0.0, *tiny, *middle, info.max, inf, nan], dtype)
    return np.concatenate([positive, -positive])


ACTIVATIONS = [case for case in CASES if case.kind == "activation"]


@pytest.mark.parametrize("case", ACTIVATIONS, ids=str)
def test_activation_of_special_values(case, dtype, isa):
    x = specials(dtype)
    inputs = {"dy": np.full_like(x, 0.75), "x": x} if "_backward" in case.name else {"x": x}
    (truth,), (actual,) = case.truth(inputs), case.run(inputs)
    assert case.error((actual,), inputs, (truth,)) <= case.max_ulp(dtype)
    zero = (x == 0) & (truth == 0)
    np.testing.assert_array_equal(np.signbit(actual[zero]), np.signbit(truth[zero]))


# The name, its options, its values and its slopes at minus and plus infinity.
LIMITS = [
    ("relu", {}, (0, inf), (0, 1)),
    ("leaky_relu", {}, (-inf, inf), (0.01, 1)),
    ("leaky_relu", {"negative_slope": 0.0}, (0, inf), (0, 1)),
    ("elu", {}, (-1, inf), (0, 1)),
    ("elu", {"alpha": 0.0}, (0, inf), (0, 1)),
    ("gelu", {}, (0, inf), (0, 1)),
    ("gelu", {"approximate": "tanh"}, (0, inf), (0, 1)),
    ("silu", {}, (0, inf), (0, 1)),
    ("mish", {}, (0, inf), (0, 1)),
    ("selu", {}, (-SELU_SCALE * SELU_ALPHA, inf), (0, SELU_SCALE)),
    ("sigmoid", {}, (0, 1), (0, 0)),
    ("log_sigmoid", {}, (-inf, 0), (1, 0)),
    ("tanh", {}, (-1, 1), (0, 0)),
    ("softplus", {}, (0, inf), (0, 1)),
    ("softplus", {"beta": 0.3, "threshold": inf}, (0, inf), (0, 1)),
]


@pytest.mark.parametrize(("name", "options", "values", "slopes"), LIMITS, ids=str)
@pytest.mark.parametrize("library", [dl, reference], ids=["kernel", "reference"])
def test_limits_at_infinity(library, name, options, values, slopes, dtype, isa):
    """PyTorch's gelu, silu and mish are NaN there (pytorch#185770, #187293)."""
    function, backward = getattr(library, name), getattr(library, f"{name}_backward")
    for n in (1, 33):  # beside ordinary elements and NaN, and alone
        x = np.linspace(-3, 3, n + 3).astype(dtype)
        x[:3] = -inf, inf, nan
        y, dx = function(x, **options), backward(np.ones_like(x), x, **options)
        np.testing.assert_array_equal(y[:2], np.array(values, dtype))
        np.testing.assert_array_equal(dx[:2], np.array(slopes, dtype))
        assert np.isnan(y[2])
        np.testing.assert_array_equal(y[3:], function(x[3:], **options))
        np.testing.assert_array_equal(dx[3:], backward(np.ones_like(x[3:]), x[3:], **options))


@pytest.mark.parametrize(
    ("name", "options", "most"),
    [
        ("silu", {}, (4, 4)),
        ("mish", {}, (4, 4)),
        ("gelu", {}, (8, 12)),
        ("sigmoid", {}, (4, 4)),
        ("log_sigmoid", {}, (4, 4)),
        ("softplus", {"beta": 2.3}, (4, 4)),
    ],
    ids=str,
)
def test_the_tail_keeps_its_digits(name, options, most, dtype, isa):
    """Where the exponential is subnormal, its product with x is not, or has more digits than it."""
    info = np.finfo(dtype)
    width = {"gelu": 1.03 * np.sqrt(-2 * np.log(info.tiny))}.get(name, -1.06 * np.log(info.tiny))
    x = np.linspace(-1.05 * width, width / 8, 20_011).astype(dtype) / dtype(options.get("beta", 1))
    wide = x.astype(np.float64 if dtype == np.float32 else np.longdouble)
    limit = most[DTYPES.index(dtype)]
    actual = getattr(dl, name)(x, **options)
    assert ulp_distance(actual, getattr(reference, name)(wide, **options)).max() <= limit
    backward = f"{name}_backward"
    actual = getattr(dl, backward)(np.ones_like(x), x, **options)
    truth = getattr(reference, backward)(np.ones_like(wide), wide, **options)
    # Near its zero the slope is a difference of terms of size 1.
    size = np.where(x > -3, 1.0, 0.0) if name in ("silu", "mish", "gelu") else 0.0
    assert ulp_distance(actual, truth, size).max() <= limit


def test_relu_keeps_nan_and_minus_zero(dtype, isa):
    y = dl.relu(np.array([nan, -0.0, 0.0, -1.0], dtype))
    assert np.isnan(y[0])
    assert list(np.signbit(y[1:])) == [True, False, False]
    dx = dl.relu_backward(np.full(4, 2, dtype), np.array([nan, 0, -0.0, 1], dtype))
    assert dx.tolist() == [2, 0, 0, 2]


# Softmax


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize(
    "row",
    [
        [1e30, -1e30, 1e30, 0],
        [-1e30, -1e30, -1e30],
        [-inf, 0, 1, -inf],
        [-inf, -inf, -inf],
        [inf, 0, 1],
        [inf, -inf],
        [nan, 0, 1],
        [5],
        [0, -50, -60],
        [-inf],
        [],
    ],
    ids=str,
)
def test_softmax_of_special_rows(name, row, dtype, isa):
    public, spec = function(name)
    for repeat in (1, 20, 100):
        x = np.array([row * repeat, (row * repeat)[::-1]], dtype)
        assert_same(public(x), spec(x), dtype)


def test_confident_rows_keep_their_digits(dtype, isa):
    x = np.array([[30.0, 0.0, 0.0], [0.0, -80.0, -inf]], dtype)
    target = np.array([0, 0])
    losses, grads = dl.cross_entropy_and_grad(x, target, reduction="none")
    expected = np.log1p([2 * np.exp(-30.0), np.exp(-80.0)])
    np.testing.assert_allclose(losses, expected, rtol=8 * np.finfo(dtype).eps)
    np.testing.assert_allclose(grads[:, 0], np.expm1(-expected), rtol=8 * np.finfo(dtype).eps)
    np.testing.assert_allclose(dl.log_softmax(x)[:, 0], -expected, rtol=8 * np.finfo(dtype).eps)


def test_50_000_classes(dtype, isa):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3, 50_000)).astype(dtype)
    target = np.array([0, 49_999, 777])
    expected = reference.cross_entropy_and_grad(x.astype(np.longdouble), target)
    loss, grad = dl.cross_entropy_and_grad(x, target)
    np.testing.assert_allclose(loss, expected[0].astype(dtype), rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(grad, expected[1].astype(dtype), rtol=30 * np.finfo(dtype).eps)


# Cross-entropy


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize(
    ("rows", "target"),
    [
        ([[1e30, -1e30], [-1e30, 1e30]], [0, 0]),
        ([[1e30, 1e30], [-1e30, -1e30]], [0, 1]),
        ([[-inf, 0, 1], [2, -inf, -inf]], [1, 0]),
        ([[-inf, 0, 1], [2, 1, 0]], [0, 0]),
        ([[-inf, -inf], [0, 0]], [0, 0]),
        ([[inf, 0], [0, 0]], [0, 0]),
        ([[nan, 0], [0, 0]], [0, 0]),
        ([[nan, inf], [0, 1]], [-100, 0]),
        ([[5], [-3]], [0, 0]),
        ([[1, 2], [3, 4]], [-100, -100]),
        (np.zeros((0, 3)), []),
    ],
    ids=str,
)
def test_cross_entropy_of_special_rows(rows, target, reduction, dtype, isa):
    x, y = np.array(rows, dtype), np.array(target, np.int64)
    actual = dl.cross_entropy_and_grad(x, y, reduction=reduction)
    loss, grad = reference.cross_entropy_and_grad(x, y, reduction=reduction)
    np.testing.assert_allclose(actual[0], loss, rtol=1e-6)
    np.testing.assert_allclose(actual[1], grad, rtol=1e-6, atol=1e-7)
    assert np.array_equal(dl.cross_entropy(x, y, reduction=reduction), actual[0], equal_nan=True)


def test_probability_zero_contributes_zero(dtype, isa):
    x = np.array([[0, 1, -inf], [-inf, 2, 3]], dtype)
    t = np.array([[0.25, 0.75, 0], [0, 0, 1]], dtype)
    loss, grad = dl.cross_entropy_and_grad(x, t)
    expected = reference.cross_entropy_and_grad(x, t)
    assert np.isfinite(loss)
    np.testing.assert_allclose(loss, expected[0], rtol=1e-6)
    np.testing.assert_allclose(grad, expected[1], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_of_weight_zero_contributes_zero(smoothing, dtype, isa):
    x = np.array([[0, 1, -inf]], dtype)
    weight = np.array([1, 1, 0], dtype)
    options = {"weight": weight, "label_smoothing": smoothing, "reduction": "sum"}
    for target in (np.array([0]), np.array([[1, 0, 0]], dtype)):
        loss, grad = dl.cross_entropy_and_grad(x, target, **options)
        expected = reference.cross_entropy_and_grad(x, target, **options)
        np.testing.assert_allclose(loss, expected[0], rtol=1e-6)
        np.testing.assert_allclose(grad, expected[1], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", INDEX_LOSSES)
def test_all_ignored(name, dtype, isa):
    x = np.full((4, 3), -1, dtype)
    y = np.full(4, 7)
    loss, grad = getattr(dl, f"{name}_and_grad")(x, y, ignore_index=7)
    assert np.isnan(loss)
    assert not grad.any()
    assert getattr(dl, name)(x, y, ignore_index=7, reduction="sum") == 0


@pytest.mark.parametrize("name", INDEX_LOSSES)
@pytest.mark.parametrize("labels", "bhilqBHILQ")
def test_labels_of_any_integer_dtype(name, labels, dtype, isa):
    rng = np.random.default_rng(2)
    x = reference.log_softmax(rng.normal(size=(101, 12)).astype(dtype))
    y = rng.integers(0, 12, 101)
    twin = getattr(dl, f"{name}_and_grad")
    loss, grad = twin(x, y)
    same_loss, same_grad = twin(x, y.astype(labels))
    assert loss == same_loss
    assert np.array_equal(grad, same_grad)


# Elementwise losses


def test_binary_cross_entropy_at_certainty(dtype, isa):
    p, t = np.array([0, 0, 1, 1], dtype), np.array([0, 1, 0, 1], dtype)
    actual = dl.binary_cross_entropy_and_grad(p, t, reduction="none")
    assert actual[0].tolist() == [0, 100, 100, 0]
    assert_same(actual, reference.binary_cross_entropy_and_grad(p, t, reduction="none"), dtype)


def test_binary_cross_entropy_of_huge_logits(dtype, isa):
    x = np.array([1e30, -1e30, 1e30, -1e30, 500, -500, 0], dtype)
    t = np.array([1, 0, 0, 1, 1, 0, 0.5], dtype)
    weight = np.linspace(0.5, 2, 7).astype(dtype)
    pos_weight = np.linspace(3, 1, 7).astype(dtype)
    for options in ({}, {"weight": weight}, {"pos_weight": pos_weight}):
        actual = dl.binary_cross_entropy_with_logits_and_grad(x, t, reduction="none", **options)
        expected = reference.binary_cross_entropy_with_logits_and_grad(
            *(a.astype(np.longdouble) for a in (x, t)), reduction="none", **options
        )
        for a, e in zip(actual, expected, strict=True):
            np.testing.assert_allclose(a, e.astype(dtype), rtol=1e-5, atol=np.finfo(dtype).tiny)


def test_kl_div_of_probability_zero(dtype, isa):
    log_p = np.array([-1, -inf, -2], dtype)
    assert dl.kl_div(log_p, np.array([0.5, 0, 0], dtype), reduction="none")[1:].tolist() == [0, 0]
    log_t = np.array([-0.5, -inf, -inf], dtype)
    loss = dl.kl_div(log_p, log_t, log_target=True, reduction="none")
    assert loss[1:].tolist() == [0, 0]


def test_smooth_l1_with_beta_zero_is_l1(dtype, isa):
    rng = np.random.default_rng(3)
    x, t = rng.normal(size=(2, 100)).astype(dtype)
    x[0] = t[0]
    for a, b in zip(
        dl.smooth_l1_loss_and_grad(x, t, beta=0.0), dl.l1_loss_and_grad(x, t), strict=True
    ):
        assert np.array_equal(a, b)


DIFFERENCE_LOSSES = ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"]


@pytest.mark.parametrize("name", DIFFERENCE_LOSSES)
def test_nan_reaches_the_loss(name, dtype, isa):
    x = np.array([nan, 1, 2], dtype)
    t = np.zeros(3, dtype)
    assert np.isnan(getattr(dl, name)(x, t))
    losses = getattr(dl, name)(x, t, reduction="none")
    assert np.isnan(losses[0])
    assert not np.isnan(losses[1:]).any()


@pytest.mark.parametrize("name", DIFFERENCE_LOSSES)
def test_mean_of_nothing_is_nan(name, dtype, isa):
    empty = np.zeros((0, 3), dtype)
    loss, grad = getattr(dl, f"{name}_and_grad")(empty, empty)
    assert np.isnan(loss)
    assert grad.shape == (0, 3)
    assert getattr(dl, name)(empty, empty, reduction="sum") == 0


def test_denormals_are_not_flushed(dtype, isa):
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.full(33, 5 * tiny, dtype)
    for f in (dl.relu, dl.tanh, dl.elu):
        assert np.array_equal(f(x), x)


def test_mean_over_ten_million_rows_keeps_its_digits(dtype):
    n = 10_000_000
    x = np.broadcast_to(np.array(0.1, dtype), n)
    zeros = np.broadcast_to(np.zeros((), dtype), n)
    rtol = 1e-7 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(dl.mse_loss(x, zeros), np.float64(x[0]) ** 2, rtol=rtol)
    logits = np.broadcast_to(np.array([0.3, 0.1], dtype), (n, 2))
    target = np.broadcast_to(np.zeros((), np.int8), n)
    loss = dl.cross_entropy(logits, target)
    np.testing.assert_allclose(loss, dl.cross_entropy(logits[:1], target[:1]), rtol=rtol)


# Normalization


def test_variance_of_large_offset(dtype, isa):
    if dtype == np.float32:
        pytest.skip("1e8 + 1 is not a float32")
    rng = np.random.default_rng(4)
    x = 1e8 + rng.choice([-1.0, 1.0], (10_001, 3))
    stats = dl.column_stats(x)
    exact = np.var(x - 1e8, axis=0)
    np.testing.assert_allclose(stats.var, exact, rtol=1e-12)
    for parts in (2, 7, 100):
        merged = merge(x, parts)
        np.testing.assert_allclose(merged.var, exact, rtol=1e-12)


def merge(x, parts):
    first, *rest = map(dl.column_stats, np.array_split(x, parts))
    for part in rest:
        first = first.merge(part)
    return first


def test_merged_parts_equal_the_whole(dtype, isa):
    rng = np.random.default_rng(5)
    x = rng.normal(3, 2, (1003, 5)).astype(dtype)
    x[rng.random(x.shape) < 0.2] = nan
    x[:, 4] = nan
    x[:600, 3] = nan
    whole = dl.column_stats(x)
    for parts in (2, 9, 2000):
        merged = merge(x, parts)
        assert np.array_equal(merged.count, whole.count)
        for a, b in zip(statistics(merged), statistics(whole), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-13)


def test_columns_without_numbers(dtype, isa):
    x = np.array([[nan, 1, nan], [nan, nan, 2]], dtype)
    stats = dl.column_stats(x)
    assert stats.count.dtype == np.int64
    assert stats.count.tolist() == [0, 1, 1]
    expected_values = [[1, 2], [0, 0], [1, 2], [1, 2], [0, 0]]
    for values, expected in zip(statistics(stats)[1:], expected_values, strict=True):
        assert values.dtype == np.float64
        assert np.isnan(values[0])
        assert values[1:].tolist() == expected
    empty = dl.column_stats(np.zeros((0, 2), dtype))
    assert empty.count.tolist() == [0, 0]
    assert all(np.isnan(v).all() for v in statistics(empty)[1:])


@pytest.mark.parametrize("name", ["MinMaxNormalizer", "ZScoreNormalizer"])
def test_constant_columns_and_nan(name, dtype, isa):
    x = np.array([[7, 1, nan], [7, nan, nan], [7, 3, nan]], dtype)
    normalizer = getattr(dl, name)()
    y = normalizer.fit(x).transform(x)
    assert y.dtype == dtype
    assert y[:, 0].tolist() == [0, 0, 0]
    assert np.array_equal(np.isnan(y), np.isnan(x))
    assert normalizer.scale_[0] == 1
    back = normalizer.inverse_transform(y)
    np.testing.assert_allclose(back, x, rtol=1e-6)


@pytest.mark.parametrize("name", ["MinMaxNormalizer", "ZScoreNormalizer"])
def test_column_of_denormals(name, dtype, isa):
    """The reciprocal of its range is infinite."""
    x = np.array([[0], [np.finfo(dtype).smallest_subnormal]], dtype)
    normalizer = getattr(dl, name)().fit(x)
    y = normalizer.transform(x)
    assert np.isfinite(y).all()
    np.testing.assert_allclose(normalizer.inverse_transform(y), x, atol=np.finfo(dtype).tiny)


@pytest.mark.parametrize("name", ["MinMaxNormalizer", "ZScoreNormalizer"])
def test_partial_fit_equals_fit(name, dtype, isa):
    x = np.random.default_rng(6).normal(5, 2, (1001, 4)).astype(dtype)
    whole, parts = getattr(dl, name)().fit(x), getattr(dl, name)()
    for part in np.array_split(x, 10):
        parts.partial_fit(part)
    np.testing.assert_allclose(parts.transform(x), whole.transform(x), rtol=1e-5, atol=1e-6)
    assert np.array_equal(parts.n_samples_seen_, whole.n_samples_seen_)


# Optimizers

OPTIMIZERS = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "dampening": 0.2, "weight_decay": 1e-2}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "maximize": True}),
    ("SGD", {"momentum": 0.9, "l1": 1e-3}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True, "weight_decay": 1e-2}),
    ("Adam", {"weight_decay": 1e-2, "decoupled_weight_decay": True, "maximize": True}),
    ("AdamW", {"betas": (0.8, 0.99), "eps": 1e-6}),
    ("AdamW", {"amsgrad": True, "l1": 1e-3}),
]


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=str)
def test_a_thousand_steps(name, options, dtype, isa):
    """Against the reference in float64: 1e-13 in float64 and 1e-5 in float32."""
    rng = np.random.default_rng(7)
    shapes = [(5, 7), (33,), (), (0,), (2, 3, 4)]
    params = [np.array(rng.normal(size=s), dtype) for s in shapes]
    params.append(np.asfortranarray(rng.normal(size=(6, 5)).astype(dtype))[::2])
    truths = [p.astype(np.float64) for p in params]
    public, spec = function(name)
    public, spec = public(params, 1e-2, **options), spec(truths, 1e-2, **options)
    targets = [rng.normal(size=p.shape) for p in params]
    for step in range(1000):
        public.lr = spec.lr = 1e-2 * 0.999**step
        noise = rng.normal(size=len(params))
        grads = [
            np.asarray(0.1 * (t - goal) + n, dtype)
            for t, goal, n in zip(truths, targets, noise, strict=True)
        ]
        public.step(grads)
        spec.step([g.astype(np.float64) for g in grads])
    rtol = 1e-13 if dtype == np.float64 else 1e-5
    for p, truth in zip(params, truths, strict=True):
        np.testing.assert_allclose(p, truth, rtol=rtol, atol=rtol)


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=str)
def test_step_leaves_the_gradients_alone(name, options, dtype, isa):
    rng = np.random.default_rng(8)
    params = [rng.normal(size=17).astype(dtype), rng.normal(size=(3, 4)).astype(dtype)]
    grads = [rng.normal(size=p.shape).astype(dtype) for p in params]
    before = [g.copy() for g in grads]
    for g in grads:
        g.flags.writeable = False
    optimizer = getattr(dl, name)(params, **options)
    for _ in range(3):
        optimizer.step(grads)
    assert all(np.array_equal(g, b) for g, b in zip(grads, before, strict=True))


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=str)
def test_state_travels(name, options, dtype, isa):
    """An optimizer that loads another's state goes on as that one would have."""
    rng = np.random.default_rng(9)
    grads = [[rng.normal(size=17).astype(dtype)] for _ in range(6)]
    start = rng.normal(size=17).astype(dtype)
    through, first = start.copy(), start.copy()
    a, b = getattr(dl, name)([through], **options), getattr(dl, name)([first], **options)
    for g in grads:
        a.step(g)
    for g in grads[:3]:
        b.step(g)
    second = first.copy()
    c = getattr(dl, name)([second], **options)
    c.load_state_dict(b.state_dict())
    for g in grads[3:]:
        c.step(g)
    assert np.array_equal(through, second)


def test_clip_grad_norm(dtype, isa):
    small = [np.array([0.3, 0.4], dtype)]
    assert dl.clip_grad_norm(small, 1.0) == pytest.approx(0.5)
    assert small[0].tolist() == np.array([0.3, 0.4], dtype).tolist()
    large = [np.array([3.0], dtype), np.array([[4.0]], dtype)]
    assert dl.clip_grad_norm(large, 1.0) == pytest.approx(5.0)
    np.testing.assert_allclose(
        [large[0][0], large[1][0, 0]], np.array([0.6, 0.8]) * 5 / (5 + 1e-6), rtol=1e-6
    )
