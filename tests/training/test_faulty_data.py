"""What is wrong with the data is said of the data: NaN, infinities, labels of another kind."""

import numpy as np
import pytest

import dlcore as dl

RNG = np.random.default_rng(0)
N = 64
X = RNG.normal(size=(N, 5)).astype(np.float32)
Y = RNG.integers(0, 3, N)
VALUES = X[:, :3].copy()


class OwnLoss(dl.CrossEntropyLoss):
    """Called in Python, as every class of the user's own is."""


def trainer(loss="cross_entropy", **options):
    model = dl.Sequential(dl.Linear(5, 8), dl.ReLU(), dl.Linear(8, 3), seed=0)
    return dl.Trainer(model, loss=loss, seed=0, **options)


def doubled(x, rng):
    return x * np.float32(2)


def cut(x, y):
    return [(x[i : i + 16], y[i : i + 16]) for i in range(0, N, 16)]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("loss", "options", "of_fit"),
    [
        ("cross_entropy", {}, {}),
        (OwnLoss(), {}, {}),
        ("cross_entropy", {"accumulate": 2}, {}),
        ("cross_entropy", {"clip_grad_norm": 1.0}, {}),
        ("cross_entropy", {"metrics": ["accuracy"]}, {}),
        ("cross_entropy", {}, {"transform": doubled}),
    ],
)
def test_a_row_that_is_not_finite_is_named(value, loss, options, of_fit):
    x = X.copy()
    x[37, 2] = value
    t = trainer(loss, **options)
    with pytest.raises(FloatingPointError, match=rf"^x\[37, 2\] is {value} in epoch 1, step "):
        t.fit(x, Y, epochs=2, batch_size=8, verbose=0, **of_fit)
    assert np.isfinite(t.model.flat).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_target_that_is_not_finite_is_named(value):
    y = VALUES.copy()
    y[7, 1] = value
    for loss in ("mse", "l1", "bce_with_logits"):
        with pytest.raises(FloatingPointError, match=rf"^y\[7, 1\] is {value}"):
            trainer(loss).fit(X, y, epochs=2, verbose=0)
    with pytest.raises(FloatingPointError, match=rf"^batch 2: y\[4, 1\] is {value}"):
        trainer("mse").fit(cut(X, np.roll(y, 13, axis=0)), epochs=2, verbose=0)


def test_what_a_transform_makes_is_named():
    with pytest.raises(FloatingPointError, match=r"^x\[\d+, 0\], made by transform or mix, is nan"):
        trainer().fit(X, Y, epochs=1, transform=lambda x, rng: x * np.float32(np.nan), verbose=0)  # noqa: ARG005


def test_finite_data_that_diverge():
    sgd = lambda p: dl.SGD(p, lr=1e30)
    model = dl.Sequential(dl.Linear(5, 3), seed=0)
    t = dl.Trainer(model, loss="mse", optimizer=sgd(model.parameters()))
    with pytest.raises(FloatingPointError, match=r"^the training diverged in epoch 1, step 2: "):
        t.fit(X, VALUES, epochs=3, verbose=0)


def test_missing_targets_of_several_are_no_fault():
    loss = dl.MultiTargetLoss(["mse", "mse"], [1, 2])
    y = VALUES.copy()
    y[3] = np.nan
    x = X.copy()
    x[9, 4] = np.nan
    with pytest.raises(FloatingPointError, match=r"^x\[9, 4\] is nan"):
        trainer(loss).fit(x, y, epochs=1, batch_size=N, verbose=0)


# ---- labels

INTEGERS = "class indices of an integer dtype"


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (
            Y.astype(np.float64),
            TypeError,
            rf"y is float64; .*{INTEGERS}.*: pass y\.astype\(np.int64",
        ),
        (Y.astype(np.float32), ValueError, r"\(N, 3\).*class indices.*y\.astype\(np\.int64\)"),
        (Y.astype(bool), TypeError, r"y is bool; .*pass y\.astype\(np\.int64\)"),
        (Y + 1, IndexError, "classes 0 to 2; pass y - 1 for classes that are counted from 1"),
        (Y * 2, IndexError, r"classes 0 to 2$"),
        (Y[:, np.newaxis], ValueError, r"class indices of shape \(N,\), not \(64, 1\)"),
        (np.eye(3, dtype=np.int8)[Y], ValueError, r"y\.astype\(np\.float32\), or y\.argmax"),
        (np.array(["a", "b", "c"])[Y], TypeError, rf"y holds text; .*{INTEGERS}"),
        (Y.astype(object), TypeError, rf"y holds objects; .*{INTEGERS}"),
        (Y.tolist(), TypeError, rf"got list; .*{INTEGERS}"),
        (Y * 1j, TypeError, rf"y is complex128; .*{INTEGERS}"),
        (np.ma.masked_equal(Y, 2), TypeError, "must not be a masked array"),
    ],
)
@pytest.mark.parametrize("loss", ["cross_entropy", dl.FocalLoss()])
def test_labels_of_another_kind_say_what_to_write(labels, error, message, loss):
    for call in (
        lambda t: t.fit(X, labels, epochs=1, verbose=0),
        lambda t: t.evaluate(X, labels),
        lambda t: t.fit([(X, labels)], epochs=1, verbose=0),
    ):
        with pytest.raises(error, match=message):
            call(trainer(loss))


def test_columns_of_pandas():
    pandas = pytest.importorskip("pandas")
    expected = trainer().fit(X, Y, epochs=1, verbose=0)
    column = pandas.Series(Y)
    kinds = ["int64", "Int64", "category"]
    if pytest.importorskip("pyarrow"):
        kinds.append("int64[pyarrow]")
    for kind in kinds:
        assert trainer().fit(X, column.astype(kind), epochs=1, verbose=0) == expected, kind
    for kind in ("Float32", "Float64", "str"):
        with pytest.raises((TypeError, ValueError), match="class indices"):
            trainer().fit(X, column.astype(kind), epochs=1, verbose=0)
    missing = column.astype("Int64")
    missing[3] = None
    with pytest.raises(TypeError, match="missing values"):
        trainer().fit(X, missing, epochs=1, verbose=0)
    for kind in ("float32", "Float32", "float[pyarrow]"):
        frame = pandas.DataFrame(X).astype(kind)
        assert trainer().fit(frame, Y, epochs=1, verbose=0) == expected, kind
    with pytest.raises(TypeError, match="x is a DataFrame with columns of several dtypes"):
        trainer().fit(pandas.DataFrame(X).astype({0: "int64"}), Y, epochs=1, verbose=0)


# ---- classes as rows of probabilities, with weights


@pytest.mark.parametrize("weights", [{0: 2.0, 1: 0.5}, [2.0, 0.5, 1.0], "balanced"])
def test_class_weights_of_one_hot_rows(weights):
    hot = np.eye(3, dtype=np.float32)[Y]
    labels, rows = trainer(), trainer()
    expected = labels.fit(X, Y, epochs=2, class_weight=weights, verbose=0)
    actual = rows.fit(X, hot, epochs=2, class_weight=weights, verbose=0)
    assert actual["loss"] == pytest.approx(expected["loss"], rel=1e-6)
    np.testing.assert_allclose(rows.model.flat, labels.model.flat, rtol=1e-5, atol=1e-7)


def test_class_weights_that_do_not_fit():
    with pytest.raises(ValueError, match="one class a row"):
        trainer("bce_with_logits").fit(X, VALUES, epochs=1, class_weight={0: 2.0}, verbose=0)
    for weights in (np.ones(2), np.ones((3, 1)), np.float64(1)):
        with pytest.raises(ValueError, match="a weight for each of 3 classes"):
            trainer().fit(X, Y, epochs=1, class_weight=weights, verbose=0)
    for weights in (["a", "b", "c"], np.ma.masked_equal([1.0, 2.0, 3.0], 2)):
        with pytest.raises(TypeError, match="class_weight must"):
            trainer().fit(X, Y, epochs=1, class_weight=weights, verbose=0)
