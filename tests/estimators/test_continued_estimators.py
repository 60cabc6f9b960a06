"""Estimators that go on: streams, warm starts, parameters set between calls, other threads."""

import pickle
import threading

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.6")

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import SGDClassifier

import dlcore as dl
from dlcore.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(3)
X = RNG.normal(size=(240, 5))
SLOPE = X[:, 0]
YES = (SLOPE > 0).astype(int)
THREE = np.digitize(SLOPE, [-0.5, 0.5])
STOCHASTIC = ["sgd", "adam", "adamw"]


def weights_of(estimator):
    return estimator.model_.flat.copy()


def make(y=YES, **params):
    params = {"hidden_layer_sizes": (8,), "max_iter": 4, "random_state": 0} | params
    return (MLPRegressor if y.dtype.kind == "f" else MLPClassifier)(**params)


# ---- random numbers ------------------------------------------------------------------------------


def losses_of_calls(estimator, calls):
    """Return the loss of each call, of a network that does not change."""
    estimator.set_params(learning_rate_init=1e-300, shuffle=False, alpha=0)
    for _ in range(calls):
        calls_before = getattr(estimator, "loss_curve_", [])
        if estimator.warm_start:
            estimator.set_params(max_iter=1).fit(X, SLOPE)
        else:
            estimator.partial_fit(X, SLOPE)
        assert len(estimator.loss_curve_) >= len(calls_before)
    return estimator.loss_curve_


@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize("seed", [0, 7])
def test_each_call_draws_other_masks(seed, warm_start):  # muffnn#15
    params = {"dropout": 0.5, "random_state": seed, "warm_start": warm_start}
    losses = losses_of_calls(make(SLOPE, **params), 5)
    assert len(set(losses)) == 5
    assert losses == losses_of_calls(make(SLOPE, **params), 5)


def test_the_masks_of_a_fit_do_not_depend_on_an_earlier_one():
    one, two = make(dropout=0.5).fit(X, YES), make(dropout=0.5).fit(X, YES)
    two.partial_fit(X, YES).fit(X, YES)
    np.testing.assert_array_equal(weights_of(one), weights_of(two))


# ---- classes of a stream -------------------------------------------------------------------------


@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize(("y", "classes"), [(YES, [0, 1]), (THREE, [0, 1, 2])])
def test_class_weight_in_a_stream(y, classes, warm_start):  # scikit-learn#6994, #25326
    weight = {classes[-1]: 10.0}
    estimator = make(y, class_weight=weight, warm_start=warm_start)
    plain = make(y)
    for model in (estimator, SGDClassifier(class_weight=weight)):
        model.partial_fit(X, y, classes=classes)
    plain.partial_fit(X, y, np.where(y == classes[-1], 10.0, 1.0), classes=classes)
    for rows in (y == 0, y != classes[-1]):
        for model in (estimator, plain):
            model.partial_fit(X[rows], y[rows])
    np.testing.assert_array_equal(weights_of(estimator), weights_of(plain))


def test_class_weight_of_several_columns_in_a_stream():
    y = np.stack([YES, THREE], axis=1)
    estimator = make(class_weight=[{1: 3.0}, {2: 5.0}])
    estimator.partial_fit(X, y, classes=[[0, 1], [0, 1, 2]])
    rows = (THREE == 0) & (YES == 0)
    other = pickle.loads(pickle.dumps(estimator)).set_params(class_weight=None)
    estimator.partial_fit(X[rows], y[rows])
    other.partial_fit(X[rows], y[rows])
    np.testing.assert_array_equal(weights_of(estimator), weights_of(other))
    labels = np.stack([YES, THREE == 2, THREE == 1], axis=1).astype(int)
    estimator = make(class_weight=[{1: 3.0}, {1: 5.0}, {0: 1.0}])
    estimator.partial_fit(X, labels, classes=[0, 1, 2])
    estimator.partial_fit(X[rows], labels[rows])


@pytest.mark.parametrize("weight", [{1: -1.0}, {1: np.nan}, {1: np.inf}])
def test_class_weights_that_are_none(weight):
    with pytest.raises(ValueError, match="class_weight must hold numbers that are not negative"):
        make(class_weight=weight).fit(X, YES)


# ---- warm starts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_warm_start_learns_new_data(early_stopping):  # scikit-learn#16812, #18269
    params = {"warm_start": True, "learning_rate_init": 0.01, "tol": 1e-3}
    params["n_iter_no_change"] = 40 if early_stopping else 5
    estimator = make(max_iter=300, early_stopping=early_stopping, **params).fit(X, YES)
    new = (X[:, 1] > 0).astype(int)
    assert estimator.n_iter_ < 300
    estimator.fit(X, new)
    assert estimator.n_iter_ > 10
    assert estimator.score(X, new) > 0.9


def test_weights_of_an_earlier_fit_do_not_come_back():
    estimator = make(warm_start=True, early_stopping=True, learning_rate_init=0.02, max_iter=30)
    estimator.fit(X, YES)
    best = estimator.best_validation_score_
    assert best > 0.8
    before = weights_of(estimator)
    estimator.set_params(max_iter=1).fit(X, 1 - YES)  # worse than what was before
    assert estimator.best_validation_score_ == estimator.validation_scores_[-1] < best
    assert (weights_of(estimator) != before).any()


@pytest.mark.parametrize("how", ["partial_fit", "warm_start"])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"hidden_layer_sizes": (9,)}, r"hidden_layer_sizes is \[9\], but \[8\]"),
        ({"hidden_layer_sizes": (8, 8)}, r"hidden_layer_sizes is \[8, 8\], but \[8\]"),
        ({"batch_norm": True}, "batch_norm is True, but False"),
        ({"layer_norm": True}, "layer_norm is True, but False"),
    ],
)
@pytest.mark.parametrize("y", [YES, SLOPE], ids=["classes", "values"])
def test_another_network_is_refused(how, changed, message, y):
    estimator = make(y, warm_start=how == "warm_start").fit(X, y)
    before, known = weights_of(estimator), vars(estimator).copy()
    method = estimator.fit if how == "warm_start" else estimator.partial_fit
    estimator.set_params(**changed)
    with pytest.raises(ValueError, match=message):
        method(X, y)
    assert vars(estimator).keys() == known.keys()
    np.testing.assert_array_equal(weights_of(estimator), before)
    estimator.set_params(warm_start=False).fit(X, y)


def test_other_outputs_are_refused():
    estimator = make(SLOPE).fit(X, SLOPE)
    with pytest.raises(ValueError, match="the number of outputs is 2, but 1"):
        estimator.partial_fit(X, np.stack([SLOPE, SLOPE], axis=1))
    with pytest.raises(ValueError, match="the meaning of the outputs is exp, but identity"):
        estimator.set_params(loss="poisson").partial_fit(X, np.abs(SLOPE))
    estimator.set_params(loss="huber").partial_fit(X, SLOPE)


@pytest.mark.parametrize("params", [{}, {"batch_norm": True}], ids=str)
def test_activations_and_dropout_may_change(params):
    estimator = make(SLOPE, activation="tanh", **params).fit(X, SLOPE)
    before = weights_of(estimator)
    same = pickle.loads(pickle.dumps(estimator)).partial_fit(X, SLOPE)
    estimator.set_params(activation=["identity"], dropout=[0.3])
    assert "Tanh" in repr(estimator.model_)  # it predicts as it was fitted
    estimator.set_params(learning_rate_init=1e-300).partial_fit(X, SLOPE)
    assert "Tanh" not in repr(estimator.model_)
    assert "Dropout" in repr(estimator.model_)
    np.testing.assert_array_equal(weights_of(estimator), before)
    values = estimator.hidden_values(X)[0]
    expected = values @ estimator.model_[-1].weight.T + estimator.model_[-1].bias
    np.testing.assert_allclose(estimator.predict(X), expected[:, 0], rtol=1e-12)
    estimator.set_params(activation="tanh", dropout=0.0, learning_rate_init=0.001)
    estimator.partial_fit(X, SLOPE)
    assert repr(estimator.model_) == repr(same.model_)


# ---- what is set between two calls ---------------------------------------------------------------


@pytest.mark.parametrize("solver", STOCHASTIC)
def test_a_learning_rate_of_a_later_call(solver):  # scikit-learn#8149
    estimator = make(solver=solver, alpha=0, weight_decay=0.0).fit(X, YES)
    before = weights_of(estimator)
    estimator.set_params(learning_rate_init=1e-9)
    for _ in range(10):
        estimator.partial_fit(X, YES)
    moved = np.abs(weights_of(estimator) - before).max()
    assert 0 < moved < 1e-6
    estimator.set_params(learning_rate_init=0.05).partial_fit(X, YES)
    assert np.abs(weights_of(estimator) - before).max() > 1e-3


@pytest.mark.parametrize(
    ("solver", "changed"),
    [
        ("adam", {"beta_1": 0.1}),
        ("adam", {"beta_2": 0.5}),
        ("adam", {"epsilon": 1.0}),
        ("adam", {"l1": 0.1}),
        ("adam", {"alpha": 10.0}),
        ("adam", {"clip_grad_norm": 1e-9}),
        ("adam", {"solver": "sgd"}),
        ("adam", {"solver": "adamw"}),
        ("adamw", {"weight_decay": 10.0}),
        ("sgd", {"momentum": 0.0}),
        ("sgd", {"momentum": 0.1}),
        ("sgd", {"nesterovs_momentum": False}),
        ("sgd", {"learning_rate": lambda epoch: 0.2}),  # noqa: ARG005
        ("adam", {"batch_size": 16}),
        ("adam", {"shuffle": False, "batch_size": 16}),
        ("adam", {"label_smoothing": 0.5}),
        ("adam", {"focal_gamma": 2.0}),
        ("adam", {"class_weight": {0: 5.0}}),
    ],
    ids=lambda value: str(value).split(" at 0x")[0],
)
def test_what_is_set_between_calls_acts(solver, changed):
    estimator = make(solver=solver).partial_fit(X, YES, classes=[0, 1]).partial_fit(X, YES)
    again = pickle.loads(pickle.dumps(estimator)).partial_fit(X, YES)
    estimator.set_params(**changed).partial_fit(X, YES)
    assert (weights_of(estimator) != weights_of(again)).any()


def test_the_running_means_stay_when_a_rate_is_set():
    estimator = make(solver="adam").fit(X, YES)
    steps = estimator._optimizer.steps
    estimator.set_params(learning_rate_init=0.01).partial_fit(X, YES)
    assert estimator._optimizer.steps == steps + 2
    assert estimator._optimizer.lr == 0.01


def test_an_adapted_rate_stays_until_another_is_set():
    params = {"solver": "sgd", "learning_rate": "adaptive", "tol": 10.0, "n_iter_no_change": 1}
    estimator = make(**params, learning_rate_init=0.1).partial_fit(X, YES, classes=[0, 1])
    for _ in range(5):
        estimator.partial_fit(X, YES)
    adapted = estimator._optimizer.lr
    assert adapted < 0.1
    estimator.set_params(momentum=0.5, tol=1e-9, n_iter_no_change=99).partial_fit(X, YES)
    assert estimator._optimizer.lr == adapted
    estimator.set_params(learning_rate_init=0.3).partial_fit(X, YES)
    assert estimator._optimizer.lr == 0.3


def test_a_schedule_goes_on_from_the_rate_that_is_set():
    schedule = dl.LinearLR(1.0, 0.1, total_iters=10)
    estimator = make(learning_rate=schedule, learning_rate_init=0.1)
    for _ in range(3):
        estimator.partial_fit(X, YES, classes=[0, 1])
    estimator.set_params(learning_rate_init=0.5).partial_fit(X, YES)
    assert estimator._optimizer.lr == schedule(3, 0.5)


# ---- what is refused changes nothing -------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda est: est.fit(X, np.r_[YES[:-1], 7][:-3]),
        lambda est: est.fit(X, YES, np.full(240, -1.0)),
        lambda est: est.fit(X, YES, X_val=X, y_val=YES + 5),
        lambda est: est.set_params(random_state="now").fit(X, THREE),
        lambda est: est.set_params(class_weight={1: -1}).fit(X, THREE),
    ],
)
def test_a_refused_fit_leaves_the_estimator(call):
    estimator = make().fit(X, YES)
    before, expected = weights_of(estimator), estimator.predict_proba(X)
    with pytest.raises((ValueError, TypeError)):
        call(estimator)
    np.testing.assert_array_equal(weights_of(estimator), before)
    np.testing.assert_array_equal(estimator.predict_proba(X), expected)
    np.testing.assert_array_equal(estimator.classes_, [0, 1])


# ---- other threads -------------------------------------------------------------------------------


class Pause(dl.Callback):
    """Waits in the last epoch until it is told to go on."""

    def __init__(self):
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        return Pause, ()

    def on_epoch_end(self, epoch, logs):  # noqa: ARG002
        if epoch == 3:
            self.reached.set()
            assert self.go_on.wait(60)


@pytest.mark.parametrize("params", [{}, {"batch_norm": True}, {"early_stopping": True}], ids=str)
@pytest.mark.parametrize("how", ["fit", "warm_start", "partial_fit"])
def test_others_predict_by_the_network_before(how, params):
    pause = Pause()
    estimator = make(THREE, warm_start=how == "warm_start", **params).fit(X, THREE)
    expected = estimator.predict_proba(X), estimator.predict(X), estimator.score(X, THREE)
    y = THREE if how == "warm_start" else YES  # a new fit may be of other classes
    y = THREE if how == "partial_fit" else y
    given = {}
    if params.get("early_stopping"):
        given = {"X_val": X, "y_val": y}
    if how == "partial_fit":
        given["epochs"] = 4
    method = estimator.partial_fit if how == "partial_fit" else estimator.fit
    estimator.set_params(callbacks=[pause])
    thread = threading.Thread(target=method, args=(X, y), kwargs=given)
    thread.start()
    try:
        assert pause.reached.wait(60)
        for _ in range(2):
            answers = estimator.predict_proba(X), estimator.predict(X), estimator.score(X, THREE)
            for answer, wanted in zip(answers, expected, strict=True):
                np.testing.assert_array_equal(answer, wanted)
        assert estimator.decision_function(X[:3]).shape == (3, 3)
        assert estimator.hidden_values(X[:3])[0].shape == (3, 8)
        again = pickle.loads(pickle.dumps(estimator))
        np.testing.assert_array_equal(again.predict_proba(X), expected[0])
        with pytest.raises(RuntimeError, match="is being fitted"):
            estimator.fit(X, y)
    finally:
        pause.go_on.set()
        thread.join()
    assert "_standby" not in vars(estimator)
    if how == "fit":
        np.testing.assert_array_equal(estimator.classes_, [0, 1])
    assert estimator.predict_proba(X).shape[1] == len(estimator.classes_)


def test_others_predict_by_the_last_epoch_of_a_first_fit():
    seen = []

    class Ask(dl.Callback):
        def on_epoch_end(self, epoch, logs):  # noqa: ARG002
            own = self.trainer.estimator.predict(X)
            thread = threading.Thread(
                target=lambda: seen.append((own, self.trainer.estimator.predict(X)))
            )
            thread.start()
            thread.join()

    make(SLOPE, callbacks=[Ask()]).fit(X, SLOPE)
    assert len(seen) == 4
    for own, other in seen[1:]:
        np.testing.assert_array_equal(own, other)


def test_predictions_in_the_middle_of_a_stream():
    estimator = make(THREE, hidden_layer_sizes=(20,)).fit(X, THREE)
    wrong, done = [], threading.Event()

    def ask():
        while not done.is_set():
            try:
                p = estimator.predict_proba(X)
                assert p.shape == (240, 3)
                assert np.isfinite(p).all()
            except BaseException as error:
                wrong.append(error)
                raise

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for i in range(60):
            if i % 10 == 9:
                estimator.fit(X, THREE)
            else:
                estimator.partial_fit(X, THREE)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not wrong


def test_a_fit_within_a_fit_is_refused():
    class Again(dl.Callback):
        def on_epoch_end(self, epoch, logs):  # noqa: ARG002
            self.trainer.estimator.partial_fit(X, YES)

    estimator = make(callbacks=[Again()])
    with pytest.raises(RuntimeError, match="is being fitted"):
        estimator.fit(X, YES)
    assert not hasattr(clone(estimator), "classes_")


def test_a_failed_first_call_is_no_fit():
    estimator = make()
    with pytest.raises(ValueError, match="contains NaN"):
        estimator.partial_fit(np.full((4, 5), np.nan), YES[:4], classes=[0, 1])
    with pytest.raises(NotFittedError):
        estimator.predict(X)
