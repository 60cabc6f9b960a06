"""Perceptrons of scikit-learn taken over and given back: the same answers, and learning that goes on."""

import numpy as np
import pytest
from sklearn import neural_network
from sklearn.exceptions import NotFittedError

from dlcore.sklearn import MLPClassifier, MLPRegressor
from support.sklearn_suite import SINCE_1_9

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(150, 4))
TARGETS = {
    "two": np.array(["no", "yes"])[(X[:, 0] > 0).astype(int)],
    "three": RNG.integers(0, 3, 150),
    "multilabel": RNG.integers(0, 2, (150, 3)),
}
OPTIONS = {
    "adam": {},
    "sgd": {"solver": "sgd", "learning_rate_init": 0.05},
    "plain": {"solver": "sgd", "momentum": 0.0, "activation": "tanh"},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 1.0, "n_iter_no_change": 1},
    "scaling": {"solver": "sgd", "learning_rate": "invscaling", "activation": "logistic"},
    "lbfgs": {"solver": "lbfgs"},
    "early": {"early_stopping": True, "activation": "identity"},
}
BASES = {"classifier": neural_network.MLPClassifier, "regressor": neural_network.MLPRegressor}
OWN = {"classifier": MLPClassifier, "regressor": MLPRegressor}


def fitted(kinds, kind, y, options, **more):
    options = {"hidden_layer_sizes": (6, 5), "max_iter": 5, "random_state": 0} | options | more
    return kinds[kind](**options).fit(X, y)


def same(a, b, rtol=1e-9):
    for one, other in zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol)
    if hasattr(a, "predict_proba"):
        np.testing.assert_allclose(a.predict_proba(X), b.predict_proba(X), rtol=1e-6, atol=1e-9)
        np.testing.assert_array_equal(a.predict(X), b.predict(X))
    else:
        np.testing.assert_allclose(a.predict(X), b.predict(X), rtol=1e-6, atol=1e-9)
    assert (a.n_iter_, a.t_, a.n_layers_) == (b.n_iter_, b.t_, b.n_layers_)
    if hasattr(a, "loss_curve_"):
        np.testing.assert_allclose(a.loss_curve_, b.loss_curve_, rtol=1e-6)


def go_on(a, b, y, options):
    """Learn on, by `partial_fit` to the same numbers, and by a warm start."""
    if options.get("solver") != "lbfgs" and not options.get("early_stopping"):
        for _ in range(3):
            for each in (a, b):
                each.partial_fit(X, y)
            same(a, b)
    for each in (a, b):
        each.set_params(warm_start=True)
        each.fit(X, y)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("target", TARGETS)
def test_classifiers_both_ways(target, options):
    y, options = TARGETS[target], OPTIONS[options]
    if not SINCE_1_9 and options.get("early_stopping") and target == "two":
        y = (y == "yes").astype(int)
    theirs = fitted(BASES, "classifier", y, options)
    ours = MLPClassifier.from_sklearn(theirs)
    same(ours, theirs)
    back = ours.to_sklearn()
    assert type(back) is neural_network.MLPClassifier
    assert repr(back) == repr(theirs)
    same(back, theirs)
    go_on(ours, theirs, y, options)
    own = fitted(OWN, "classifier", y, options)
    given = own.to_sklearn()
    same(own, given)
    go_on(own, given, y, options)


@pytest.mark.parametrize("options", OPTIONS)
def test_regressors_both_ways(options):
    y, options = X @ [1.0, 2, 0, -1], OPTIONS[options]
    theirs = fitted(BASES, "regressor", y, options)
    ours = MLPRegressor.from_sklearn(theirs)
    same(ours, theirs)
    same(ours.to_sklearn(), theirs)
    go_on(ours, theirs, y, options)
    own = fitted(OWN, "regressor", y, options)
    go_on(own, own.to_sklearn(), y, options)


def test_what_scikit_learn_has_is_left_as_it_was():
    theirs = fitted(BASES, "classifier", TARGETS["two"], {})
    before = theirs.predict_proba(X)
    ours = MLPClassifier.from_sklearn(theirs)
    ours.partial_fit(X, TARGETS["two"])
    assert np.array_equal(theirs.predict_proba(X), before)
    assert ours.history_["loss"][-1] == ours.loss_
    theirs = ours.to_sklearn()
    before = ours.predict_proba(X)
    theirs.partial_fit(X, TARGETS["two"])
    assert np.array_equal(ours.predict_proba(X), before)


def test_names_of_features_and_float32():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X.astype(np.float32), columns=list("abcd"))
    theirs = neural_network.MLPClassifier((5,), max_iter=3, random_state=0).fit(
        frame, TARGETS["two"]
    )
    ours = MLPClassifier.from_sklearn(theirs)
    assert ours.model_.dtype == np.float32
    assert ours.feature_names_in_.tolist() == list("abcd")
    np.testing.assert_allclose(ours.predict_proba(frame), theirs.predict_proba(frame), rtol=1e-4)


def test_what_acts_in_fits_alone_is_left_out():
    options = {"batch_norm": True, "dropout": 0.3, "solver": "adamw", "l1": 1e-4}
    ours = fitted(OWN, "classifier", TARGETS["three"], options)
    theirs = ours.to_sklearn()
    np.testing.assert_allclose(theirs.predict_proba(X), ours.predict_proba(X), rtol=1e-9)
    assert theirs.solver == "adam"
    theirs.set_params(max_iter=2).fit(X, TARGETS["three"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "gelu"}, "activation 'gelu'"),
        ({"activation": ["relu", "tanh"]}, "activation for each layer"),
        ({"layer_norm": True}, "layer normalization"),
    ],
)
def test_what_scikit_learn_lacks(options, message):
    ours = fitted(OWN, "classifier", TARGETS["two"], options)
    with pytest.raises(ValueError, match=f"to_sklearn: scikit-learn has no {message}"):
        ours.to_sklearn()


def test_what_else_scikit_learn_lacks():
    huber = MLPRegressor(loss="huber", max_iter=1).fit(X, X[:, 0])
    with pytest.raises(ValueError, match="no loss 'huber'"):
        huber.to_sklearn()
    questions = MLPClassifier(max_iter=1).fit(X, RNG.integers(0, 3, (150, 2)))
    with pytest.raises(ValueError, match="several columns of classes"):
        questions.to_sklearn()


def test_other_estimators():
    theirs = fitted(BASES, "regressor", X[:, 0], {})
    with pytest.raises(
        TypeError, match=r"MLPClassifier\.from_sklearn takes a fitted MLPClassifier.*MLPR"
    ):
        MLPClassifier.from_sklearn(theirs)
    with pytest.raises(NotFittedError):
        MLPRegressor.from_sklearn(neural_network.MLPRegressor())
    with pytest.raises(NotFittedError):
        MLPRegressor().to_sklearn()
