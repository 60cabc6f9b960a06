"""Metrics: equal to scikit-learn's and to values by hand, for every kind of loss."""

import math
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dlcore as dl
from dlcore.metrics._named import as_metrics, metric_named

F64 = np.float64
CROSS_ENTROPY, BCE, MSE = dl.CrossEntropyLoss(), dl.BCEWithLogitsLoss(), dl.MSELoss()


def score(name, loss, y, outputs, weight=None):
    value = metric_named(name, loss)(np.asarray(y), np.asarray(outputs), weight)
    assert type(value) is float
    return value


def draw(classes, rows=40, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, classes))
    return rng.integers(0, classes, rows), logits, rng.uniform(0.1, 3, rows)


# ---- by hand

# Of class 1 three rows, two of them found, and one row of class 0 taken for it.
TRUE = np.array([1, 1, 1, 0, 0, 0, 0])
LOGITS = np.array([[0, 1], [0, 1], [1, 0], [0, 1], [1, 0], [1, 0], [1, 0]], F64)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", 5 / 7),
        ("precision", 2 / 3),
        ("recall", 2 / 3),
        ("f1", 2 / 3),
        ("balanced_accuracy", (2 / 3 + 3 / 4) / 2),
        ("top_1_accuracy", 5 / 7),
        ("top_2_accuracy", 1.0),
    ],
)
def test_two_classes_by_hand(name, expected):
    assert score(name, CROSS_ENTROPY, TRUE, LOGITS) == pytest.approx(expected, rel=1e-15)


def test_weights_count_rows_more_than_once():
    # Twice the row of class 1 that is missed: precision 2/3 stays, recall becomes 2/4.
    weight = np.array([1, 1, 2, 1, 1, 1, 1.0])
    assert score("precision", CROSS_ENTROPY, TRUE, LOGITS, weight) == pytest.approx(2 / 3)
    assert score("recall", CROSS_ENTROPY, TRUE, LOGITS, weight) == pytest.approx(1 / 2)
    assert score("f1", CROSS_ENTROPY, TRUE, LOGITS, weight) == pytest.approx(4 / 7)
    assert score("accuracy", CROSS_ENTROPY, TRUE, LOGITS, weight) == pytest.approx(5 / 8)


def test_the_mean_over_several_classes_by_hand():
    # Class 0: tp 1, fp 1, fn 0; class 1: tp 1, fp 0, fn 1; class 2 occurs nowhere; class 3: fn 1.
    true = np.array([0, 1, 1, 3])
    outputs = np.eye(4)[[0, 1, 0, 1]]
    assert score("precision", CROSS_ENTROPY, true, outputs) == pytest.approx((1 / 2 + 1 / 2) / 3)
    assert score("recall", CROSS_ENTROPY, true, outputs) == pytest.approx((1 + 1 / 2) / 3)
    assert score("f1", CROSS_ENTROPY, true, outputs) == pytest.approx((2 / 3 + 2 / 4) / 3)
    assert score("balanced_accuracy", CROSS_ENTROPY, true, outputs) == pytest.approx(1.5 / 3)


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_nothing_found_and_nothing_to_find_is_zero(name):
    true, outputs = np.zeros(3, int), np.tile([1.0, 0.0], (3, 1))
    assert score(name, CROSS_ENTROPY, true, outputs) == 0  # and no warning, which is an error here
    assert score(name, BCE, np.zeros((3, 1)), np.full((3, 1), -1.0)) == 0


def test_top_k_by_hand():
    outputs = np.array([[3.0, 2, 1, 0], [3.0, 2, 1, 0], [3.0, 2, 1, 0]])
    true = np.array([0, 1, 3])
    shares = [score(f"top_{k}_accuracy", CROSS_ENTROPY, true, outputs) for k in (1, 2, 3, 4, 9)]
    assert shares == [1 / 3, 2 / 3, 2 / 3, 1, 1]
    true, outputs = np.arange(10), np.tile(np.arange(10.0), (10, 1))
    assert score("top_k_accuracy", CROSS_ENTROPY, true, outputs) == 0.5
    assert score("top_12_accuracy", CROSS_ENTROPY, true, outputs) == 1


def test_a_constant_network_hits_no_more_than_k_classes():
    true, outputs = np.arange(10), np.zeros((10, 10))
    assert score("top_3_accuracy", CROSS_ENTROPY, true, outputs) == 0.3


def test_errors_by_hand():
    y, p = np.array([[1.0, 0], [3, 2]]), np.array([[2.0, 0], [3, 6]])
    assert score("mae", MSE, y, p) == (1 + 0 + 0 + 4) / 4
    assert score("mse", MSE, y, p) == (1 + 16) / 4
    assert score("rmse", MSE, y, p) == pytest.approx((math.sqrt(1 / 2) + math.sqrt(8)) / 2)
    assert score("r2", MSE, y, p) == pytest.approx(((1 - 1 / 2) + (1 - 16 / 2)) / 2)
    weight = np.array([3.0, 1.0])
    assert score("mae", MSE, y, p, weight) == (3 / 4 + 4 / 4) / 2
    assert score("mse", MSE, y, p, weight) == (3 / 4 + 16 / 4) / 2


def test_r2_of_constant_targets_and_of_one_row():
    y = np.array([[1.0, 2.0], [1.0, 2.0]])
    assert score("r2", MSE, y, y) == 1
    assert score("r2", MSE, y, y + np.array([0, 1])) == 0.5
    assert math.isnan(score("r2", MSE, y[:1], y[:1]))


def test_several_yes_or_no_outputs_are_averaged():
    # Output 0: tp 1, fn 1, tn 2. Output 1: tp 1, fp 2, tn 1.
    y = np.array([[1, 1], [1, 0], [0, 0], [0, 0]], F64)
    logits = np.array([[1, 1], [-1, 1], [-1, 1], [-1, -1]], F64)
    assert score("precision", BCE, y, logits) == pytest.approx((1 + 1 / 3) / 2)
    assert score("recall", BCE, y, logits) == pytest.approx((1 / 2 + 1) / 2)
    assert score("f1", BCE, y, logits) == pytest.approx((2 / 3 + 2 / 4) / 2)
    assert score("accuracy", BCE, y, logits) == pytest.approx((3 + 2) / 8)
    expected = ((1 / 2 + 1) / 2 + (1 + 1 / 3) / 2) / 2
    assert score("balanced_accuracy", BCE, y, logits) == pytest.approx(expected)


def test_a_yes_or_no_output_without_any_yes_has_the_recall_of_no():
    y, logits = np.zeros((4, 1)), np.array([[1.0], [-1], [-1], [-1]])
    assert score("balanced_accuracy", BCE, y, logits) == 3 / 4


def test_rates_of_counts_are_exponentials_of_the_outputs():
    y = np.array([[1.0], [4.0]])
    outputs = np.log([[2.0], [6.0]])
    assert score("mae", dl.PoissonNLLLoss(), y, outputs) == pytest.approx(1.5)
    assert score("neg_max_error", dl.PoissonNLLLoss(), y, outputs) == pytest.approx(-2)


# ---- as scikit-learn


def sk():
    return pytest.importorskip("sklearn.metrics")


def of_classes(name, y, logits, weight):
    averaged = {"average": "binary" if logits.shape[1] == 2 else "macro", "zero_division": 0}
    options = averaged if name in ("precision", "recall", "f1") else {}
    function = getattr(sk(), f"{name}_score")
    return function(y, logits.argmax(1), sample_weight=weight, **options)


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "precision", "recall", "f1"])
@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 6),
    st.integers(1, 30),
    st.integers(0, 10**6),
    st.booleans(),
    st.sampled_from([np.float32, F64]),
)
def test_classes_as_scikit_learn(name, classes, rows, seed, weighted, dtype):
    y, logits, weight = draw(classes, rows, seed)
    weight = weight if weighted else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a single class, of classes in the prediction alone
        expected = of_classes(name, y, logits, weight)
    assert score(name, CROSS_ENTROPY, y, logits.astype(dtype), weight) == pytest.approx(
        expected, rel=1e-12, abs=1e-15
    )


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("decimals", [0, 9])
def test_top_k_as_scikit_learn(k, decimals):
    y, logits, weight = draw(6)
    logits = logits.round(decimals)  # with ties, and without
    expected = sk().top_k_accuracy_score(y, logits, k=k, sample_weight=weight, labels=np.arange(6))
    assert score(f"top_{k}_accuracy", CROSS_ENTROPY, y, logits, weight) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("mae", "mean_absolute_error"),
        ("mse", "mean_squared_error"),
        ("rmse", "root_mean_squared_error"),
        ("r2", "r2_score"),
    ],
)
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_values_as_scikit_learn(name, function, outputs, weighted):
    rng = np.random.default_rng(1)
    y, p = rng.normal(10, 3, (2, 50, outputs))
    weight = rng.uniform(0.1, 3, 50) if weighted else None
    expected = getattr(sk(), function)(y, p, sample_weight=weight)
    assert score(name, dl.HuberLoss(), y, p, weight) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_yes_or_no_outputs_as_scikit_learn(name, outputs):
    rng = np.random.default_rng(2)
    logits, weight = rng.normal(size=(30, outputs)), rng.uniform(0.1, 3, 30)
    y = rng.integers(0, 2, (30, outputs)).astype(F64)
    expected = getattr(sk(), f"{name}_score")(
        y.squeeze(),
        (logits > 0).squeeze(),
        average="binary" if outputs == 1 else "macro",
        sample_weight=weight,
    )
    assert score(name, BCE, y, logits, weight) == pytest.approx(expected, rel=1e-12)


# ---- scikit-learn's scorers


@pytest.mark.parametrize("weighted", [False, True])
def test_scorers_of_two_classes(weighted):
    y, logits, weight = draw(2)
    given = {"sample_weight": weight} if weighted else {}
    p = dl.softmax(logits)
    expected = {
        "roc_auc": sk().roc_auc_score(y, p[:, 1], **given),
        "average_precision": sk().average_precision_score(y, p[:, 1], **given),
        "neg_log_loss": -sk().log_loss(y, p, **given),
        "neg_brier_score": -sk().brier_score_loss(y, p[:, 1], **given),
        "matthews_corrcoef": sk().matthews_corrcoef(y, logits.argmax(1), **given),
        "jaccard": sk().jaccard_score(y, logits.argmax(1), **given),
    }
    for name, value in expected.items():
        ours = score(name, CROSS_ENTROPY, y, logits, weight if weighted else None)
        assert ours == pytest.approx(value, rel=1e-12), name
        # The same as one yes-or-no output.
        logit = (logits[:, 1] - logits[:, 0])[:, np.newaxis]
        ours = score(name, BCE, y[:, np.newaxis].astype(F64), logit, weight if weighted else None)
        assert ours == pytest.approx(value, rel=1e-12), name


def test_scorers_of_several_classes():
    y, logits, weight = draw(4)
    p = dl.softmax(logits)
    expected = {
        "roc_auc_ovr": sk().roc_auc_score(y, p, multi_class="ovr"),
        "neg_log_loss": -sk().log_loss(y, p, sample_weight=weight),
        "precision_weighted": sk().precision_score(
            y, logits.argmax(1), average="weighted", sample_weight=weight
        ),
    }
    for name, value in expected.items():
        given = None if name == "roc_auc_ovr" else weight
        assert score(name, CROSS_ENTROPY, y, logits, given) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("outputs", [2, 3])
def test_scorers_of_several_yes_or_no_outputs(outputs):
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(30, outputs))
    y = rng.integers(0, 2, (30, outputs)).astype(F64)
    assert score("roc_auc", BCE, y, logits) == pytest.approx(sk().roc_auc_score(y, logits))
    by_probability = sk().make_scorer(sk().roc_auc_score, response_method="predict_proba")
    metric = as_metrics([by_probability], BCE)["roc_auc_score"]
    assert metric(y, logits, None) == pytest.approx(sk().roc_auc_score(y, logits))
    assert score("f1_samples", BCE, y, logits + 3) == pytest.approx(
        sk().f1_score(y, logits > -3, average="samples", zero_division=0)
    )


@pytest.mark.parametrize("outputs", [1, 2])
def test_scorers_of_values(outputs):
    rng = np.random.default_rng(4)
    y, p = rng.uniform(1, 5, (2, 30, outputs)).astype(np.float32)
    weight = rng.uniform(0.1, 3, 30)
    expected = sk().explained_variance_score(y, p, sample_weight=weight)
    assert score("explained_variance", MSE, y, p, weight) == pytest.approx(expected)
    expected = -sk().median_absolute_error(y, p)
    assert score("neg_median_absolute_error", MSE, y, p) == pytest.approx(expected)


def test_a_scorer_object():
    f_beta = sk().make_scorer(sk().fbeta_score, beta=2, average="macro")
    pinball = sk().make_scorer(sk().mean_pinball_loss, greater_is_better=False, alpha=0.3)
    y, logits, weight = draw(3)
    (name, metric), *_ = as_metrics([f_beta], CROSS_ENTROPY).items()
    assert name == "fbeta_score"
    expected = sk().fbeta_score(y, logits.argmax(1), beta=2, average="macro", sample_weight=weight)
    assert metric(y, logits, weight) == pytest.approx(expected)
    values = np.array([[1.0], [3.0]])
    (name, metric), *_ = as_metrics([pinball], MSE).items()
    assert name == "neg_mean_pinball_loss"
    expected = -sk().mean_pinball_loss(values, values[::-1], alpha=0.3)
    assert metric(values, values[::-1].copy(), None) == pytest.approx(expected)


def test_a_scorer_whose_function_takes_no_weights_is_not_weighted():
    y, p = np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [4.0], [3.0]])
    assert score("neg_max_error", MSE, y, p, np.array([1.0, 9.0, 1.0])) == -2


# ---- what does not count


@pytest.mark.parametrize("name", ["accuracy", "f1", "top_2_accuracy", "balanced_accuracy"])
@pytest.mark.parametrize("weighted", [False, True])
def test_ignored_rows_do_not_count(name, weighted):
    y, logits, weight = draw(4)
    weight = weight if weighted else None
    ignored = np.where(np.arange(40) < 15, -100, y)
    of_rest = score(name, CROSS_ENTROPY, y[15:], logits[15:], weight[15:] if weighted else None)
    assert score(name, CROSS_ENTROPY, ignored, logits, weight) == of_rest


def test_ignored_rows_do_not_count_for_a_scorer():
    sk()
    y, logits, weight = draw(2)
    ignored = np.where(np.arange(40) < 15, 1, y)
    loss = dl.CrossEntropyLoss(ignore_index=-7)
    ignored[:15] = -7
    expected = score("roc_auc", loss, y[15:], logits[15:], weight[15:])
    assert score("roc_auc", loss, ignored, logits, weight) == expected


@pytest.mark.parametrize("name", ["accuracy", "precision", "top_3_accuracy", "roc_auc_ovr"])
def test_probabilities_stand_for_their_largest(name):
    y, logits, _ = draw(4)
    soft = 0.1 + 0.6 * np.eye(4)[y]
    assert score(name, CROSS_ENTROPY, soft, logits) == score(name, CROSS_ENTROPY, y, logits)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint64])
def test_labels_of_any_integer_dtype(dtype):
    y, logits, _ = draw(3)
    for name in ("accuracy", "f1", "top_2_accuracy", "balanced_accuracy"):
        assert score(name, CROSS_ENTROPY, y.astype(dtype), logits) == score(
            name, CROSS_ENTROPY, y, logits
        )


def test_focal_loss_is_one_of_classes_or_of_labels():
    y, logits, _ = draw(3)
    assert score("f1", dl.FocalLoss(), y, logits) == score("f1", CROSS_ENTROPY, y, logits)
    yes = np.eye(3)[y]
    assert score("f1", dl.FocalLoss(loss="bce_with_logits"), yes, logits) == score(
        "f1", BCE, yes, logits
    )


# ---- in a fit


def test_several_metrics_of_training_and_validation():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 4))
    y = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)
    model = dl.Sequential(dl.Linear(4, 3), dtype=F64, seed=0)
    names = ["accuracy", "f1", "top_2_accuracy", "neg_log_loss"]
    trainer = dl.Trainer(model, loss="cross_entropy", metrics=names, seed=0)
    data = x[60:], y[60:]
    history = trainer.fit(x[:60], y[:60], epochs=2, validation_data=data, verbose=0)
    logged = ["loss", *names]
    assert set(history) == {*logged, *(f"val_{name}" for name in logged)}
    scores = trainer.evaluate(*data)
    assert (
        history["val_f1"][-1] == scores["f1"] == score("f1", CROSS_ENTROPY, data[1], model(data[0]))
    )
    assert scores["neg_log_loss"] == pytest.approx(-scores["loss"])


# ---- errors


@pytest.mark.parametrize(
    ("metric", "loss", "message"),
    [
        ("f1", MSE, "'f1' needs a loss for classes, not MSELoss"),
        ("top_k_accuracy", MSE, "'top_k_accuracy' needs a loss for classes, not MSELoss"),
        ("top_k_accuracy", BCE, "needs a loss for one of several classes, not BCEWithLogitsLoss"),
        ("r2", CROSS_ENTROPY, "'r2' needs a loss for values, not CrossEntropyLoss"),
        ("rmse", BCE, "'rmse' needs a loss for values, not BCEWithLogitsLoss"),
        ("roc_auc", MSE, "'roc_auc' needs a loss for classes, not MSELoss"),
        ("jaccard", MSE, "'jaccard' needs a loss for classes, not MSELoss"),
        ("neg_max_error", CROSS_ENTROPY, "'neg_max_error' needs a loss for values, not CrossEntr"),
        ("top_0_accuracy", CROSS_ENTROPY, "k must be at least 1 in 'top_0_accuracy'"),
        ("auc", CROSS_ENTROPY, "'auc' is not one of 'accuracy', .*'top_k_accuracy'.*roc_auc"),
        ("lr", CROSS_ENTROPY, None),
        ("val_f1", CROSS_ENTROPY, None),
    ],
)
def test_metrics_that_do_not_fit(metric, loss, message):
    sk()
    message = message or f"the name '{metric}' is taken"
    with pytest.raises(ValueError, match=f"metrics: .*{message}|{message}"):
        as_metrics([metric], loss)


def test_names_must_differ():
    with pytest.raises(ValueError, match="the name 'f1' is taken"):
        as_metrics(["f1", "f1"], CROSS_ENTROPY)
    with pytest.raises(TypeError, match="a metric is a name or a function"):
        as_metrics([3], CROSS_ENTROPY)


def test_targets_of_another_shape():
    with pytest.raises(ValueError, match=r"'mae' needs targets of the outputs' shape \(3, 2\)"):
        score("mae", MSE, np.zeros((3, 1)), np.zeros((3, 2)))


def test_several_targets_have_metrics_of_their_own():
    loss = dl.MultiTargetLoss({"a": "mse", "b": "l1"}, [1, 1])
    with pytest.raises(ValueError, match=r"'mae' is for one target; .* to MultiTargetLoss"):
        as_metrics(["mae"], loss)


def test_names_of_scikit_learn_without_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(ImportError, match=r"'roc_auc' .*pip install 'dlcore-kernels\[sklearn\]'"):
        metric_named("roc_auc", CROSS_ENTROPY)
    assert score("f1", CROSS_ENTROPY, TRUE, LOGITS) == pytest.approx(2 / 3)
