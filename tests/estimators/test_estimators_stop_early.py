"""Early stopping of estimators: which rows are held out, what is made of their scores."""

import math
import warnings
from inspect import signature

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.6")

from sklearn.base import clone
from sklearn.ensemble import BaggingClassifier, BaggingRegressor
from sklearn.exceptions import ConvergenceWarning, UndefinedMetricWarning
from sklearn.metrics import brier_score_loss, get_scorer_names, make_scorer

import dlcore as dl
from dlcore.sklearn import MLPClassifier, MLPRegressor
from dlcore.sklearn._early_stopping import strata
from support.sklearn_suite import SINCE_1_9

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer. Maximum iterations")

RNG = np.random.default_rng(11)
X = RNG.normal(size=(240, 5))
SLOPE = X[:, 0]
YES = (SLOPE > 0).astype(int)
THREE = np.digitize(SLOPE, [-0.5, 0.5])


def make(y=YES, **params):
    params = {"hidden_layer_sizes": (6,), "max_iter": 3, "random_state": 0} | params
    params = {"early_stopping": True} | params
    return (MLPRegressor if y.dtype.kind == "f" else MLPClassifier)(**params)


class Seen:
    """A scorer that keeps the rows that it saw."""

    def __init__(self):
        self.X, self.y = [], []

    def __call__(self, estimator, X, y):  # noqa: ARG002
        self.X.append(X)
        self.y.append(y)
        return 0.0


# ---- rows that are held out ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("counts", [[190, 10], [150, 40, 10], [50, 50, 50, 50], [100, 60, 35, 5]])
@pytest.mark.parametrize("as_text", [False, True])
def test_each_class_gives_its_share(counts, seed, as_text):  # scikit-learn#13164
    y = np.repeat(np.arange(len(counts)), counts)
    x = np.random.default_rng(seed).normal(size=(len(y), 3))
    seen = Seen()
    labels = np.array(["a", "bc", "d", "e"])[y] if as_text else y
    make(max_iter=1, validation_fraction=0.2, random_state=seed, early_stopping_metric=seen).fit(
        x, labels
    )
    held = np.unique(seen.y[0], return_counts=True)[1]
    np.testing.assert_array_equal(held, np.array(counts) // 5)


def test_several_columns_of_classes_are_stratified():
    y = np.stack([np.repeat([0, 1, 2], [120, 60, 20]), np.tile([0, 1], 100)], axis=1)
    seen = Seen()
    make(max_iter=1, validation_fraction=0.1, early_stopping_metric=seen).fit(X[:200], y)
    kinds, counts = np.unique(seen.y[0], axis=0, return_counts=True)
    assert len(kinds) == 6
    np.testing.assert_array_equal(counts, [6, 6, 3, 3, 1, 1])


def test_strata_of_rare_classes():
    numbers = np.repeat(np.arange(4), [40, 30, 1, 1])
    found = strata(numbers, 10, 62)  # those of one row are one stratum together
    assert len(np.unique(found)) == 3
    assert found[-1] == found[-2]
    found = strata(np.repeat(np.arange(3), [40, 30, 1]), 10, 61)  # with another one
    assert len(np.unique(found)) == 2
    assert found[-1] == found[-2]
    assert len(np.unique(strata(np.arange(60) % 6, 3, 57))) == 3  # fewer rows than classes
    assert strata(np.array([0, 0, 0, 1]), 2, 2) is None
    assert strata(np.zeros(9, int), 2, 7) is None


@pytest.mark.parametrize("counts", [[100, 50, 1], [20, 1, 1], [3] * 30, [1] * 40])
def test_classes_that_are_too_rare_to_be_stratified(counts):
    y = np.repeat(np.arange(len(counts)), counts)
    make().fit(X[: len(y)], y)


def test_bagging_draws_few_rows():  # scikit-learn#17229
    for seed in range(3):
        for bagging, y in ((BaggingRegressor, SLOPE), (BaggingClassifier, YES)):
            ensemble = bagging(make(y), n_estimators=6, max_samples=7, random_state=seed)
            assert np.isfinite(ensemble.fit(X, y).score(X, y))
        ensemble = BaggingClassifier(make(THREE), n_estimators=6, random_state=seed)
        assert ensemble.fit(X, THREE).score(X, THREE) > 0


@pytest.mark.parametrize("y", [SLOPE, YES, THREE], ids=["values", "two", "three"])
def test_rows_of_weight_0_are_not_held_out(y):
    weight = np.where(np.arange(240) < 40, 2.0, 0.0)
    seen = Seen()
    make(y, early_stopping_metric=seen, validation_fraction=0.25).fit(X, y, weight)
    held = {row.tobytes() for row in seen.X[0]}
    assert len(held) == 10
    assert held <= {row.tobytes() for row in X[:40]}
    with pytest.raises(ValueError, match="there are 2: none would be left"):
        make(y).fit(X, y, np.where(np.arange(240) < 2, 1.0, 0.0))
    with pytest.raises(ValueError, match="non-zero" if SINCE_1_9 else "no row counts"):
        make(y).fit(X, y, np.zeros(240))


def test_classes_of_weight_0_are_not_held_out():
    seen = Seen()
    make(class_weight={0: 1.0, 1: 1.0, 2: 0.0}, early_stopping_metric=seen).fit(X, THREE)
    assert 2 not in seen.y[0]
    with pytest.raises(ValueError, match="no row counts"):
        make(class_weight=dict.fromkeys(range(3), 0.0)).fit(X, THREE)


@pytest.mark.parametrize("weight", [None, RNG.uniform(0.5, 2, 240)], ids=["plain", "weighted"])
@pytest.mark.parametrize("class_weight", [{0: 5.0, 1: 0.5}, "balanced"])
def test_class_weights_are_those_of_rows_that_are_given(weight, class_weight):
    y = (SLOPE > 0.7).astype(int)
    by_class = 240 / (2 * np.bincount(y)) if class_weight == "balanced" else np.array([5.0, 0.5])
    x_val, y_val = X[:60], y[:60]
    weight_val = None if weight is None else weight[:60]
    given = (x_val, y_val, weight_val)
    one = make(class_weight=class_weight).fit(X, y, weight, *given)
    ones = np.ones(240) if weight is None else weight
    given = (x_val, y_val, ones[:60] * by_class[y_val])
    two = make().fit(X, y, ones * by_class[y], *given)
    np.testing.assert_allclose(one.validation_scores_, two.validation_scores_)
    np.testing.assert_allclose(one.validation_loss_curve_, two.validation_loss_curve_)


# ---- scorers -------------------------------------------------------------------------------------


def plain(estimator, x, y):
    return float((estimator.predict(x) == y).mean())


def weighted(estimator, x, y, sample_weight=None):
    weighted.seen.append(sample_weight)
    return float(np.average(estimator.predict(x) == y, weights=sample_weight))


@pytest.mark.parametrize(
    "metric",
    [plain, make_scorer(lambda y, p: float((y == p).mean())), "adjusted_rand_score"],
    ids=["function", "make_scorer", "name"],
)
@pytest.mark.parametrize("weight", [None, np.ones(240)], ids=["plain", "weighted"])
@pytest.mark.parametrize("given", [False, True])
def test_scorers_without_weights(metric, weight, given):  # scikit-learn#30319
    held = {"X_val": X, "y_val": YES} if given else {}
    if given and weight is not None:
        held["sample_weight_val"] = weight
    estimator = make(class_weight="balanced", early_stopping_metric=metric)
    estimator.fit(X, YES, weight, **held)
    assert len(estimator.validation_scores_) == 3
    make(SLOPE, early_stopping_metric="neg_max_error").fit(X, SLOPE, weight)


def test_scorers_with_weights_get_those_of_the_user():
    weighted.seen = []
    estimator = make(class_weight="balanced", early_stopping_metric=weighted)
    estimator.fit(X, YES)
    assert weighted.seen == [None] * 3
    estimator.fit(X, YES, np.full(240, 3.0))
    np.testing.assert_array_equal(weighted.seen[-1], np.full(24, 3.0))
    estimator.fit(X, YES, None, X[:9], YES[:9], np.full(9, 2.0))
    np.testing.assert_array_equal(weighted.seen[-1], np.full(9, 2.0))


METRICS = ["neg_log_loss", "neg_brier_score", "top_k_accuracy"]
if "d2_log_loss_score" in get_scorer_names():  # from 1.8 on
    METRICS.append("d2_log_loss_score")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("y", [YES, THREE], ids=["two", "three"])
def test_metrics_know_the_classes_that_no_row_has(metric, y):
    if metric == "neg_brier_score" and "labels" not in signature(brier_score_loss).parameters:
        y = YES  # scikit-learn 1.6 has no score of three classes
    rows = y != y.max()
    estimator = make(y, early_stopping_metric=metric)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UndefinedMetricWarning)
        estimator.fit(X, y, X_val=X[rows], y_val=y[rows])
    assert np.isfinite(estimator.validation_scores_).all()
    if metric == "neg_log_loss":
        np.testing.assert_allclose(
            estimator.validation_scores_, -np.array(estimator.validation_loss_curve_), rtol=1e-10
        )


@pytest.mark.parametrize(("metric", "y"), [("roc_auc", YES), ("roc_auc_ovr", THREE)])
def test_metrics_without_a_value_are_said(metric, y):
    rows = y != y.max()
    estimator = make(y, early_stopping_metric=metric)
    with pytest.warns(UndefinedMetricWarning, match=r"no row .*of the classes \[.*\]") as caught:
        estimator.fit(X, y, X_val=X[rows], y_val=y[rows])
    assert len([w for w in caught if w.category is UndefinedMetricWarning]) == 1
    assert np.isnan(estimator.validation_scores_).all()
    assert np.isfinite(estimator.predict_proba(X)).all()


# ---- values that are none ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("where", ["x", "y"])
@pytest.mark.parametrize("outlier", [1e20, 1e30, 1e38, 1e200])
def test_an_outlier_that_overflows_is_a_value(dtype, where, outlier):
    if outlier > 1e38 and where == "x" and dtype == np.float32:
        pytest.skip("no float32")
    x_val, y_val = X[:50].astype(dtype), SLOPE[:50].copy()
    if where == "x":
        x_val[3, 0] = outlier
    else:
        y_val[3] = outlier
    estimator = make(SLOPE)
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        estimator.fit(X.astype(dtype), SLOPE, X_val=x_val, y_val=y_val)
    assert np.isfinite(estimator.validation_scores_).all()
    if outlier < 1e100:
        assert np.isfinite(estimator.validation_loss_curve_).all()
    else:
        assert estimator.validation_loss_curve_ == [math.inf] * 3


def test_predictions_that_overflow_have_no_score():  # scikit-learn's score is NaN as well
    x_val = X[:50].copy()
    x_val[3] = 1e6
    y = np.abs(SLOPE)
    for metric in (None, "neg_mean_squared_error"):
        estimator = make(y, loss="poisson", early_stopping_metric=metric)
        estimator.set_params(activation="identity", learning_rate_init=0.1)
        estimator.fit(X, y, X_val=x_val, y_val=y[:50])
        assert len(estimator.validation_scores_) == 3


def test_what_stands_in_a_row_of_no_weight_is_no_matter():
    weight = np.ones(50)
    weight[3] = 0
    x_val, y_val = X[:50].copy(), SLOPE[:50].copy()
    one = make(SLOPE).fit(X, SLOPE, None, x_val, y_val, weight)
    x_val[3], y_val[3] = 1e200, 1e200
    two = make(SLOPE).fit(X, SLOPE, None, x_val, y_val, weight)
    np.testing.assert_allclose(one.validation_loss_curve_, two.validation_loss_curve_)
    np.testing.assert_allclose(one.validation_scores_, two.validation_scores_)


# ---- divergence ----------------------------------------------------------------------------------


def test_divergence_is_said():  # scikit-learn#29504
    params = {"solver": "sgd", "learning_rate_init": 1.0, "max_iter": 50}
    with pytest.warns(ConvergenceWarning, match="non-finite parameter weights in epoch"):
        estimator = make(SLOPE, **params).fit(100 * X, 1e4 * SLOPE)
    assert math.isnan(estimator.loss_)
    assert estimator.best_validation_score_ == max(estimator.validation_scores_[:-1])
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        make(SLOPE, **params | {"learning_rate_init": 1e300}).fit(100 * X, 1e4 * SLOPE)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_the_best_weights_stay_however_a_fit_ends(error):
    kept = []

    class Stop(dl.Callback):
        def on_epoch_end(self, epoch, logs):
            kept.append((logs["val_score"], self.trainer.model.flat.copy()))
            if epoch == 12:
                raise error

    estimator = make(learning_rate_init=0.1, max_iter=20, callbacks=[Stop()], tol=0)
    expected = (
        pytest.warns(UserWarning, match="interrupted")
        if error is KeyboardInterrupt
        else pytest.raises(error)
    )
    with expected:
        estimator.fit(X, YES)
    best = max(score for score, _ in kept)
    first = next(flat for score, flat in kept if score == best)
    np.testing.assert_array_equal(estimator.model_.flat, first)


# ---- targets that are all the same ---------------------------------------------------------------


@pytest.mark.parametrize("params", [{}, {"loss": "quantile", "quantile": [0.2, 0.8]}], ids=str)
@pytest.mark.parametrize("given", [False, True])
def test_a_constant_target(params, given):  # TabPFN#246, #263
    y = np.full(240, 3.0)
    held = {"X_val": X[:40], "y_val": y[:40]} if given else {}
    estimator = make(y, max_iter=500, learning_rate_init=0.01, **params).fit(X, y, **held)
    assert np.abs(estimator.predict(X) - 3).max() < 0.5
    losses = np.array(estimator.validation_loss_curve_)
    np.testing.assert_array_equal(estimator.validation_scores_, -losses)
    both = np.stack([y, SLOPE], axis=1)
    if not params:  # the score of the other column says something
        estimator = clone(estimator).fit(X, both)
        losses = np.array(estimator.validation_loss_curve_)
        assert (np.array(estimator.validation_scores_) != -losses).any()


def test_one_row_to_validate_on():
    estimator = make(SLOPE)
    estimator.partial_fit(X, SLOPE, epochs=3, X_val=X[:1], y_val=SLOPE[:1])
    assert np.isfinite(estimator.validation_scores_).all()
