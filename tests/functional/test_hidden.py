"""A weight of 0 hides an element or a row: it adds exactly 0, whatever stands there."""

import numpy as np
import pytest

import dlcore as dl
from dlcore import reference
from support.cases import DTYPES

nan, inf = np.nan, np.inf

# The options of each elementwise loss, and what its mean divides by: the weights or their number.
ELEMENTWISE = [
    ("mse_loss", {}, "weights"),
    ("l1_loss", {}, "weights"),
    ("smooth_l1_loss", {"beta": 0.5}, "weights"),
    ("smooth_l1_loss", {"beta": 0.0}, "weights"),
    ("huber_loss", {"delta": 0.5}, "number"),
    ("poisson_nll_loss", {}, "weights"),
    ("quantile_loss", {"quantile": 0.25}, "weights"),
    ("kl_div", {}, "weights"),
    ("kl_div", {"log_target": True}, "weights"),
    ("binary_cross_entropy", {}, "number"),
    ("binary_cross_entropy_with_logits", {}, "number"),
    ("binary_cross_entropy_with_logits", {"pos_weight": True}, "number"),
]
BAD = (nan, inf, -inf, 1e38, -7.0)

each_elementwise = pytest.mark.parametrize(("name", "options", "mean"), ELEMENTWISE, ids=str)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
each_library = pytest.mark.parametrize("library", [dl, reference], ids=["kernel", "reference"])


def drawn(n, dtype, options):
    """Probabilities, targets and weights of which some are 0, and the options as arrays."""
    rng = np.random.default_rng(n)
    x, t, weight = rng.uniform(0.1, 0.9, (3, n)).astype(dtype)
    weight[rng.random(n) < 0.4] = 0
    options = dict(options)
    if "pos_weight" in options:
        options["pos_weight"] = rng.uniform(0.5, 2, n).astype(dtype)
    return x, t, weight, options


@each_library
@each_elementwise
@each_dtype
def test_an_element_of_weight_0_adds_nothing(library, name, options, mean, dtype, isa):
    """PyTorch's weights give NaN (pytorch#64305, #121416)."""
    function = getattr(library, f"{name}_and_grad")
    for n in (1, 5, 8, 17, 700, 20_001):
        x, t, weight, arrays = drawn(n, dtype, options)
        hidden = weight == 0
        plain = {
            how: function(x, t, weight=weight, reduction=how, **arrays)
            for how in ("none", "sum", "mean")
        }
        losses, grad = plain["none"]
        assert not losses[hidden].any()
        assert not grad[hidden].any()
        wide = losses.sum(dtype=np.float64)
        total = weight.sum(dtype=np.float64) if mean == "weights" else n
        np.testing.assert_allclose(plain["sum"][0], wide, rtol=1e-5)
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(plain["mean"][0], np.float64(wide) / total, rtol=1e-5)
        for bad in BAD:
            worse = np.where(hidden, dtype(bad), x), np.where(hidden, dtype(bad), t)
            for a, b in ((worse[0], t), (x, worse[1]), worse):
                for how, expected in plain.items():
                    value, slope = function(a, b, weight=weight, reduction=how, **arrays)
                    np.testing.assert_array_equal(value, expected[0])
                    np.testing.assert_array_equal(slope, expected[1])
                    alone = getattr(library, name)(a, b, weight=weight, reduction=how, **arrays)
                    np.testing.assert_allclose(alone, value, rtol=1e-5)


@each_library
@each_elementwise
@each_dtype
def test_where_all_weights_are_0_so_is_the_gradient(library, name, options, mean, dtype, isa):
    x, t = np.full((2, 3, 4), nan, dtype)
    options = {
        n: np.ones_like(x) if v is True and n == "pos_weight" else v for n, v in options.items()
    }
    for how in ("none", "sum", "mean"):
        loss, grad = getattr(library, f"{name}_and_grad")(
            x, t, weight=np.zeros_like(x), reduction=how, **options
        )
        assert not grad.any()
        undefined = how == "mean" and mean == "weights"
        assert np.isnan(loss) if undefined else not np.any(loss)


def test_weights_are_those_of_pytorch():
    """Its mse_loss and l1_loss divide by the weights, its huber_loss by their number."""
    x, t, w = np.array([1.0, 2.0, 3.0]), np.zeros(3), np.array([1.0, 0.0, 2.0])
    assert dl.mse_loss(x, t, weight=w, reduction="sum") == 19
    assert dl.mse_loss(x, t, weight=w) == pytest.approx(19 / 3)
    assert dl.l1_loss(x, t, weight=w) == pytest.approx(7 / 3)
    assert dl.huber_loss(x, t, weight=w) == pytest.approx((0.5 + 2 * 2.5) / 3)
    loss, grad = dl.mse_loss_and_grad(x, t, weight=w)
    assert loss == dl.mse_loss(x, t, weight=w)
    assert grad == pytest.approx(2 * w * x / 3)


@each_dtype
def test_weights_broadcast(dtype):
    x, t = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(dtype)
    for weight in (np.array([1, 0, 2], dtype), np.arange(5, dtype=dtype)[:, None], dtype(2)):
        weight = np.asarray(weight)
        full = np.ascontiguousarray(np.broadcast_to(weight, x.shape))
        for how in ("none", "sum", "mean"):
            expected = dl.huber_loss_and_grad(x, t, weight=full, reduction=how)
            given = dl.huber_loss_and_grad(x, t, weight=weight, reduction=how)
            for a, b in zip(given, expected, strict=True):
                assert np.array_equal(a, b)


# ---- classes


@each_library
@each_dtype
@pytest.mark.parametrize("classes", [3, 64, 65, 200])
def test_a_row_whose_class_weighs_0_adds_nothing(library, classes, dtype, isa):
    """optax#896: a label at a class of -inf that counts 0."""
    rng = np.random.default_rng(classes)
    rows = 41
    labels = rng.integers(0, classes, rows)
    weight = rng.uniform(0.5, 2, classes).astype(dtype)
    weight[[0, labels[3], labels[7]]] = 0
    hidden = weight[labels] == 0
    logits = rng.normal(size=(rows, classes)).astype(dtype)
    hot = np.eye(classes, dtype=dtype)[labels]
    for bad in BAD:
        x = np.where(hidden[:, None] & (rng.random(logits.shape) < 0.5), dtype(bad), logits)
        x[hidden, labels[hidden]] = bad
        for target in (labels, hot):
            for how in ("none", "sum", "mean"):
                expected = library.cross_entropy_and_grad(
                    logits, target, weight=weight, reduction=how
                )
                actual = library.cross_entropy_and_grad(x, target, weight=weight, reduction=how)
                for a, b in zip(actual, expected, strict=True):
                    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
                assert not actual[1][hidden].any()
        losses, grad = library.nll_loss_and_grad(x, labels, weight=weight, reduction="none")
        assert not losses[hidden].any()
        assert not grad[hidden].any()
        assert np.isfinite(library.nll_loss(x, labels, weight=weight))
    unlikely = np.where(weight == 0, dtype(nan), hot)
    for a, b in zip(
        library.cross_entropy_and_grad(logits, unlikely, weight=weight),
        library.cross_entropy_and_grad(logits, hot, weight=weight),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


@each_library
@each_dtype
def test_where_all_classes_weigh_0(library, dtype, isa):
    x, labels = np.full((5, 3), nan, dtype), np.array([0, 1, 2, 0, -100])
    weight = np.zeros(3, dtype)
    hot = np.full_like(x, 1 / 3)
    for smoothing in (0.0, 0.1):
        for target in (labels, hot):
            for how in ("none", "sum"):
                loss, grad = library.cross_entropy_and_grad(
                    x, target, weight=weight, label_smoothing=smoothing, reduction=how
                )
                assert not np.any(loss)
                assert not grad.any()
        loss, grad = library.cross_entropy_and_grad(
            x, labels, weight=weight, label_smoothing=smoothing
        )
        assert np.isnan(loss)
        assert not grad.any()
    loss, grad = library.nll_loss_and_grad(x, labels, weight=weight)
    assert np.isnan(loss)
    assert not grad.any()


# ---- certainty


@each_library
@each_dtype
def test_an_infinite_logit_that_is_right_costs_nothing(library, dtype, isa):
    """pytorch#49844, #102894: NaN instead of 0."""
    for n in (1, 7, 40):
        x = np.repeat(np.array([inf, -inf, inf, -inf], dtype), n)
        t = np.repeat(np.array([1, 0, 0, 1], dtype), n)
        for p in (1, 2):
            weights = {} if p == 1 else {"pos_weight": np.full_like(x, p)}
            loss, grad = library.binary_cross_entropy_with_logits_and_grad(
                x, t, reduction="none", **weights
            )
            assert loss.tolist() == np.repeat([0, 0, inf, inf], n).tolist()
            assert grad.tolist() == np.repeat([0, 0, 1, -p], n).tolist()
        nothing = np.zeros_like(x)
        loss, grad = library.binary_cross_entropy_with_logits_and_grad(
            np.full_like(x, nan), np.ones_like(x), pos_weight=nothing, reduction="sum"
        )
        assert loss == 0
        assert not grad.any()
