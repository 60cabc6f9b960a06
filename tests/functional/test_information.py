"""Entropy, cross-entropy and relative entropy of distributions, of labels, and as a loss."""

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import dlcore as dl
from dlcore import information

F32, F64 = np.float32, np.float64
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
        (lambda: information.cross_entropy(np.ones(1), np.ones(2)), ValueError, "shape of p"),
        (lambda: information.cross_entropy(np.ones(1, "f"), np.ones(1)), TypeError, "like p"),
        (lambda: information.cross_entropy(np.ones(1), np.ones(1) * 2), ValueError, "q must be"),
        (lambda: information.cross_entropy(np.ones(1), np.ones(1), base=0), ValueError, "base"),
        (lambda: information.cross_entropy([1.0], np.ones(1)), TypeError, "p must be an array"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---- cross-entropy of distributions


@DTYPES
def test_cross_entropy_is_entropy_and_relative_entropy(dtype):
    rng = np.random.default_rng(0)
    p, q = (rng.dirichlet(np.ones(5), (3, 4)).astype(dtype) for _ in range(2))
    p[0, 0] = [0, 1, 0, 0, 0]
    for axis in (-1, 1):
        a, b = np.moveaxis(p, -1, axis), np.moveaxis(q, -1, axis)
        for base in (None, 2, 10):
            both = dl.entropy(a, base=base, axis=axis) + dl.relative_entropy(
                a, b, base=base, axis=axis
            )
            found = information.cross_entropy(a, b, base=base, axis=axis)
            assert found.shape == (3, 4)
            assert found.dtype == dtype
            np.testing.assert_allclose(found, both, rtol=20 * np.finfo(dtype).eps)


@DTYPES
def test_cross_entropy_by_hand(dtype):
    half, q = np.array([0.5, 0.5, 0], dtype), np.array([0.25, 0.5, 0.25], dtype)
    assert information.cross_entropy(half, q, base=2) == 1.5
    assert information.cross_entropy(half, half, base=2) == dl.entropy(half, base=2) == 1
    assert information.cross_entropy(q, half) == np.inf  # the third never comes, by half
    certain = np.array([0, 1, 0], dtype)
    assert information.cross_entropy(certain, certain) == 0
    assert not np.signbit(information.cross_entropy(certain, certain))
    assert np.isnan(information.cross_entropy(half, np.array([np.nan, 0.5, 0.5], dtype)))


def distributions(size):
    """Draw weights, some 0, that add up to 1."""
    weights = arrays(F64, size, elements=st.one_of(st.just(0.0), st.floats(1e-3, 1)))
    return weights.filter(lambda w: w.sum() > 0).map(lambda w: np.minimum(w / w.sum(), 1))


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(distributions(n), distributions(n))))
def test_gibbs_inequality(pair):
    """No other distribution codes p better than p itself; and no entropy is above log n."""
    p, q = pair
    h = dl.entropy(p)
    assert 0 <= h <= np.log(len(p)) + 1e-12
    assert information.cross_entropy(p, q) >= h - 1e-12
    assert dl.relative_entropy(p, q) >= -1e-12
    assert dl.relative_entropy(p, p) == 0
    assert (dl.relative_entropy(p, q) == np.inf) == bool(((p > 0) & (q == 0)).any())


@given(
    st.integers(1, 9).flatmap(
        lambda n: st.tuples(distributions(n), distributions(n), st.permutations(range(n)))
    )
)
def test_the_order_does_not_matter(drawn):
    p, q, order = drawn
    for base in (None, 2):
        for measure in (dl.relative_entropy, information.cross_entropy):
            np.testing.assert_allclose(
                measure(p[order], q[order], base=base), measure(p, q, base=base), atol=1e-12
            )
        np.testing.assert_allclose(
            dl.entropy(p[order], base=base), dl.entropy(p, base=base), atol=1e-12
        )


@given(distributions(4), distributions(3))
def test_the_entropy_of_independent_parts_adds_up(p, q):
    both = np.outer(p, q).ravel()
    np.testing.assert_allclose(dl.entropy(both), dl.entropy(p) + dl.entropy(q), atol=1e-12)


# ---- labels


@pytest.mark.parametrize(
    ("labels", "bits"),
    [
        ([], 0),
        ([7], 0),
        ([3] * 1000, 0),
        ([0, 1], 1),
        ([0, 1] * 500, 1),
        (["no", "yes", "no", "yes"], 1),
        ([True, False], 1),
        ([0.5, -1.0, 0.5, -1.0], 1),
        ([0, 1, 2, 3], 2),
        ([5, 5, 6, 9], 1.5),
        (list("aabbcccc"), 1.5),
    ],
)
def test_entropy_of_labels(labels, bits):
    for given_labels in (labels, np.array(labels)):
        found = dl.label_entropy(given_labels, base=2)
        assert type(found) is float
        assert found == bits
        assert not np.signbit(found)


def test_the_group_of_the_decision_trees():
    """Nine days to play and five not to: 0.940 bits (Quinlan 1986)."""
    labels = ["P"] * 9 + ["N"] * 5
    assert round(dl.label_entropy(labels, base=2), 3) == 0.940
    assert dl.label_entropy(labels) == pytest.approx(0.940286 * np.log(2), rel=1e-6)


def test_weighted_labels():
    labels = np.array(["a", "b", "b", "c"])
    assert dl.label_entropy(labels, base=2, weight=[2, 1, 1, 0]) == 1
    assert dl.label_entropy(labels, base=2, weight=np.array([2, 3, 1, 2], np.int8)) == 1.5
    assert dl.label_entropy(labels, weight=[0, 0, 0, 0]) == 0
    # Alike, but for labels that weigh nothing: exactly 0, however the weights are rounded.
    assert dl.label_entropy(labels, weight=[0, 0.1, 0.2, 0]) == 0
    rng = np.random.default_rng(0)
    drawn, weight = rng.integers(0, 5, 100), rng.integers(0, 4, 100)
    repeated = np.repeat(drawn, weight)
    assert dl.label_entropy(drawn, weight=weight) == pytest.approx(dl.label_entropy(repeated))


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=30).flatmap(
        lambda labels: st.tuples(st.just(labels), st.permutations(labels))
    )
)
def test_labels_in_any_order_by_any_name(drawn):
    labels, permuted = drawn
    h = dl.label_entropy(labels)
    assert dl.label_entropy(permuted) == h
    assert dl.label_entropy([f"class {5 - k}" for k in labels]) == pytest.approx(h, abs=1e-15)
    assert 0 <= h <= np.log(len(set(labels))) + 1e-15
    assert (h == 0) == (len(set(labels)) == 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": 3}, r"labels must have shape \(N,\), got \(\)"),
        ({"labels": [[1, 2]]}, r"labels must have shape \(N,\), got \(1, 2\)"),
        ({"labels": [1, 2], "base": 1}, "base must be greater than 0 and not 1, got 1"),
        ({"labels": [1, 2], "weight": [1]}, r"weight must have the shape of labels, \(2,\)"),
        ({"labels": [1, 2], "weight": [1, -1]}, "weight must be finite and at least 0"),
        ({"labels": [1, 2], "weight": [1, np.nan]}, "weight must be finite and at least 0"),
        ({"labels": [1, 2], "weight": [1, np.inf]}, "weight must be finite and at least 0"),
    ],
)
def test_errors_of_label_entropy(options, message):
    with pytest.raises(ValueError, match=message):
        dl.label_entropy(**options)


# ---- the loss of probabilities


@DTYPES
@pytest.mark.parametrize("base", [None, 2, 10, np.e])
def test_worked_figures_of_categorical_cross_entropy(base, dtype):
    p = np.array([0.775, 0.116, 0.039, 0.070], dtype)
    one_hot = np.array([1, 0, 0, 0], dtype)
    expected = -np.log(0.775) / (1 if base is None else np.log(base))
    for target in (0, np.array(0), np.uint8(0), one_hot):
        target = np.asarray(target)
        loss = dl.categorical_cross_entropy(p, target, base=base)
        assert loss == pytest.approx(expected, rel=4 * float(np.finfo(dtype).eps))
        assert (loss.dtype, loss.shape) == (dtype, ())
    if base == 2:
        assert round(float(loss), 4) == 0.3677
    assert float(loss) == pytest.approx(float(dl.relative_entropy(one_hot, p, base=base)))
    # Of two rows, the mean and the sum.
    rows, labels = np.stack([p, p]), np.array([0, 3])
    both = -np.log([0.775, 0.070]) / (1 if base is None else np.log(base))
    options = {"base": base}
    for reduction, value in (("none", both), ("mean", both.mean()), ("sum", both.sum())):
        for target in (labels, np.eye(4, dtype=dtype)[labels]):
            found = dl.categorical_cross_entropy(rows, target, **options, reduction=reduction)
            np.testing.assert_allclose(found, value, rtol=4 * np.finfo(dtype).eps)
            assert found.dtype == dtype


def problem(dtype=F64, n=12, classes=5, seed=0):
    """Draw logits, class indices, class probabilities and class weights."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, classes))
    shares = rng.dirichlet(np.ones(classes), n)
    shares[0] = np.eye(classes)[1]
    weight = rng.uniform(0.5, 2, classes)
    return (
        logits.astype(dtype),
        rng.integers(0, classes, n),
        shares.astype(dtype),
        weight.astype(dtype),
    )


LOSS_OPTIONS = pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
WEIGHTED = pytest.mark.parametrize("weighted", [False, True])


@DTYPES
@LOSS_OPTIONS
@WEIGHTED
def test_it_is_the_cross_entropy_of_logits(weighted, reduction, dtype):
    logits, labels, shares, weight = problem(dtype)
    p = dl.softmax(logits)
    options = {"reduction": reduction, "weight": weight if weighted else None}
    near = {"rtol": 1e-5 if dtype == F32 else 1e-13}
    for target in (labels, labels.astype(np.uint8), shares):
        found = dl.categorical_cross_entropy(p, target, **options)
        np.testing.assert_allclose(found, dl.cross_entropy(logits, target, **options), **near)
        assert found.dtype == dtype
    found = dl.categorical_cross_entropy(p, labels, **options)
    np.testing.assert_allclose(found, dl.nll_loss(np.log(p), labels, **options), **near)


@LOSS_OPTIONS
@WEIGHTED
@pytest.mark.parametrize("base", [None, 2])
@pytest.mark.parametrize("kind", ["labels", "shares"])
def test_the_gradient_equals_central_differences(kind, base, weighted, reduction):
    logits, labels, shares, weight = problem(n=4)
    p, target = dl.softmax(logits), labels[:4] if kind == "labels" else shares
    options = {"base": base, "weight": weight if weighted else None, "reduction": reduction}
    loss, grad = dl.categorical_cross_entropy_and_grad(p, target, **options)
    np.testing.assert_array_equal(loss, dl.categorical_cross_entropy(p, target, **options))
    assert grad.shape == p.shape
    for i in np.ndindex(p.shape):
        ends = []
        for step in (1e-6, -1e-6):
            moved = p.copy()
            moved[i] += step
            ends.append(np.sum(dl.categorical_cross_entropy(moved, target, **options)))
        assert grad[i] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6, abs=1e-7)


def test_the_gradient_through_softmax_is_that_of_logits():
    logits, labels, shares, _ = problem()
    p = dl.softmax(logits)
    for target in (labels, shares):
        _, grad = dl.categorical_cross_entropy_and_grad(p, target)
        _, expected = dl.cross_entropy_and_grad(logits, target)
        np.testing.assert_allclose(dl.softmax_backward(grad, p), expected, atol=1e-14)


@DTYPES
def test_probabilities_of_0_and_1(dtype):
    p = np.array([[1, 0, 0], [0, 1, 0]], dtype)
    right, wrong = np.array([0, 1]), np.array([1, 0])
    loss, grad = dl.categorical_cross_entropy_and_grad(p, right)
    assert loss == 0
    assert not np.signbit(loss)
    np.testing.assert_array_equal(grad, [[-0.5, 0, 0], [0, -0.5, 0]])
    # The logarithm is not let below -100, nor the divisor of the gradient below 1e-12.
    loss, grad = dl.categorical_cross_entropy_and_grad(p, wrong, reduction="sum")
    assert loss == 200
    np.testing.assert_allclose(grad, [[0, -1e12, 0], [-1e12, 0, 0]], rtol=1e-6)
    assert dl.categorical_cross_entropy(p, wrong, base=2) == pytest.approx(100 / np.log(2))
    shares = np.array([[0.5, 0.5, 0], [0, 0.5, 0.5]], dtype)
    assert dl.categorical_cross_entropy(p, shares) == 50
    assert np.isnan(dl.categorical_cross_entropy(np.full_like(p, np.nan), right))


def test_the_mean_of_labels_is_weighted_and_that_of_probabilities_is_not():
    p = np.full((2, 2), 0.5)
    weight = np.array([1.0, 3.0])
    options = {"weight": weight, "base": 2}
    assert dl.categorical_cross_entropy(p, np.array([0, 1]), **options) == 1
    assert dl.categorical_cross_entropy(p, np.eye(2), **options) == 2
    assert dl.categorical_cross_entropy(p, np.eye(2), **options, reduction="sum") == 4


@DTYPES
def test_no_rows(dtype):
    p = np.empty((0, 3), dtype)
    for target in (np.empty(0, np.int64), p):
        assert dl.categorical_cross_entropy(p, target, reduction="sum") == 0
        assert dl.categorical_cross_entropy(p, target, reduction="none").shape == (0,)
        assert np.isnan(dl.categorical_cross_entropy(p, target))
        assert dl.categorical_cross_entropy_and_grad(p, target)[1].shape == (0, 3)


def test_any_layout_and_no_argument_changes():
    logits, labels, shares, _ = problem()
    p = dl.softmax(logits)
    expected = dl.categorical_cross_entropy_and_grad(p, shares)
    for change in (np.asfortranarray, lambda a: np.repeat(a, 2, axis=1)[:, ::2]):
        odd = change(p), change(shares)
        for a in odd:
            a.flags.writeable = False
        for own, other in zip(dl.categorical_cross_entropy_and_grad(*odd), expected, strict=True):
            np.testing.assert_array_equal(own, other)
    np.testing.assert_array_equal(
        dl.categorical_cross_entropy(p[::-1], labels[::-1], reduction="none"),
        dl.categorical_cross_entropy(p, labels, reduction="none")[::-1],
    )


P, LABELS = np.full((3, 4), 0.25), np.array([0, 1, 3])


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((P, np.array([0, 4, 0])), {}, IndexError, r"target\[1\] is 4, but there are 4 classes"),
        ((P, np.array([0, 0, -1])), {}, IndexError, r"target\[2\] is -1, but there are 4 classes"),
        ((P, LABELS[:2]), {}, ValueError, r"target must have shape \(3,\), got \(2,\)"),
        ((P[0], LABELS), {}, ValueError, r"target must have shape \(\), got \(3,\)"),
        ((P, LABELS.astype(F64)), {}, TypeError, r"class indices, or be float64 of shape \(3, 4\)"),
        ((P, P.astype(F32)), {}, TypeError, "or be float64 .*, got float32"),
        ((P, P[:2]), {}, TypeError, r"got float64 of shape \(2, 4\)"),
        ((P, LABELS > 0), {}, TypeError, "got bool"),
        ((P, 2 * P - 0.75), {}, ValueError, "target must be between 0 and 1"),
        ((P, [0, 1, 2]), {}, TypeError, "target must be an array"),
        ((4 * P + 0.1, LABELS), {}, ValueError, "input must be between 0 and 1"),
        ((P.astype(np.float16), LABELS), {}, TypeError, "input must be float32 or float64"),
        ((P[None], LABELS), {}, ValueError, r"input must have shape \(C,\) or \(N, C\)"),
        ((np.array(0.5), np.array(0)), {}, ValueError, "at least one dimension"),
        ((P, LABELS), {"weight": np.ones(3)}, ValueError, r"weight must have shape \(4,\)"),
        ((P, LABELS), {"weight": [1, 1, 1, 1]}, TypeError, "weight must be an array"),
        ((P, LABELS), {"base": 1}, ValueError, "base must be greater than 0 and not 1, got 1"),
        ((P, LABELS), {"base": np.nan}, ValueError, "base must be greater than 0"),
        ((P, LABELS), {"reduction": "batchmean"}, ValueError, "reduction must be 'none', 'mean'"),
    ],
)
def test_errors_of_categorical_cross_entropy(arguments, options, error, message):
    for function in (dl.categorical_cross_entropy, dl.categorical_cross_entropy_and_grad):
        with pytest.raises(error, match=f"{function.__name__}: .*{message}"):
            function(*arguments, **options)


def test_categorical_cross_entropy_of_very_many_classes():
    """Labels take no more memory than the probabilities do: not a square of the classes."""
    p = np.full((2, 200_000), 1 / 200_000)
    loss, grad = dl.categorical_cross_entropy_and_grad(p, np.array([0, 199_999]), base=2)
    assert loss == pytest.approx(np.log2(200_000), rel=1e-12)
    assert np.flatnonzero(grad).tolist() == [0, 399_999]


def peak(call, size):
    """Return the most memory that a call took at once, over a size in bytes."""
    tracemalloc.start()
    call()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / size


@DTYPES
def test_memory_is_a_part_of_the_input(dtype):
    """A one-hot matrix for the labels would be several times as large (keras#20005)."""
    rng = np.random.default_rng(0)
    p = dl.softmax(rng.normal(size=(600, 2500)).astype(dtype))
    q, labels = p[::-1].copy(), rng.integers(0, 2500, 600)
    for call in (
        lambda: dl.entropy(p),
        lambda: dl.entropy(p, axis=0),
        lambda: dl.relative_entropy(p, q),
        lambda: dl.information.cross_entropy(p.T, q.T, axis=0),
        lambda: dl.categorical_cross_entropy(p, labels),
        lambda: dl.categorical_cross_entropy(p, q, weight=np.ones(2500, dtype)),
    ):
        assert peak(call, p.nbytes) < 0.6
    assert peak(lambda: dl.categorical_cross_entropy_and_grad(p, labels), p.nbytes) < 1.2
    assert peak(lambda: dl.entropy(p.reshape(-1)), p.nbytes) < 0.6


@pytest.mark.parametrize(
    "shape", [(70_001,), (3, 40_000), (40_000, 3), (50, 60, 70), (2, 0), (0, 2)]
)
def test_blocks_add_up(shape):
    p = np.random.default_rng(1).uniform(size=shape)
    for axis in range(-len(shape), len(shape)):
        np.testing.assert_allclose(dl.entropy(p, axis=axis), -(p * np.log(p)).sum(axis), rtol=1e-12)


@pytest.mark.parametrize("k", [6, 10, 20, 26, 30, 40, 48])
def test_nearly_equal_distributions_are_not_less_than_0_apart(k):
    """pytorch#80488: log p - log q cancels. The distributions add up to 1 exactly."""
    e = 2.0**-k
    p = np.array([0.125, 0.25, 0.625, 0.0])
    q = np.array([0.125 - e, 0.25 + 2 * e, 0.625 - e, 0.0])
    assert p.sum() == q.sum() == 1
    exact = Fraction(0)
    for a, b in zip(p[:3], q[:3], strict=True):
        d = (Fraction(a) - Fraction(b)) / Fraction(b)
        # log(1 + d) by its series, of which the terms of order 60 are nothing.
        log = sum(Fraction((-1) ** (i + 1), i) * d**i for i in range(1, 60 if k < 10 else 8))
        exact += Fraction(a) * log
    for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
        assert dl.relative_entropy(p[order], q[order]) == pytest.approx(float(exact), rel=1e-6)
    assert dl.relative_entropy(p, p) == 0


def test_a_class_of_weight_0_hides_its_probability():
    p = np.array([[np.nan, 0.5, 0.5], [0.0, 0.25, 0.75]])
    weight = np.array([0.0, 1.0, 2.0])
    options = {"weight": weight, "reduction": "none"}
    loss, grad = dl.categorical_cross_entropy_and_grad(p, np.array([0, 1]), **options)
    np.testing.assert_allclose(loss, [0, np.log(4)])
    np.testing.assert_allclose(grad, [[0, 0, 0], [0, -4, 0]])
    target = np.array([[0.5, 0.5, 0], [np.nan, 0, 1]])
    loss, grad = dl.categorical_cross_entropy_and_grad(p, target, **options)
    np.testing.assert_allclose(loss, [0.5 * np.log(2), 2 * np.log(4 / 3)])
    np.testing.assert_allclose(grad, [[0, -1, 0], [0, 0, -8 / 3]])
    loss, grad = dl.categorical_cross_entropy_and_grad(p, np.array([0, 0]), weight=weight)
    assert np.isnan(loss)
    assert not grad.any()
