"""Estimators of several members: each one's bits, their means, early stopping, files, what is refused."""

import pickle
import signal
import threading
import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

import dlcore as dl
from dlcore.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N = 150


def data(classes=3):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, 5))
    return X, (X[:, :classes] + 0.7 * rng.normal(size=(N, classes))).argmax(1)


OPTIONS = {"hidden_layer_sizes": (8,), "max_iter": 6, "random_state": 3, "learning_rate_init": 0.01}


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_members_have_the_bits_of_single_fits_and_predict_by_their_mean(classes, early_stopping):
    X, y = data(classes)
    options = OPTIONS | {"early_stopping": early_stopping, "n_iter_no_change": 1, "dropout": 0.1}
    clf = MLPClassifier(members=3, **options).fit(X, y)
    assert len(clf.estimators_) == 3
    singles = [clone(member).fit(X, y) for member in clf.estimators_]
    for member, single in zip(clf.estimators_, singles, strict=True):
        assert member.get_params()["members"] == 1
        np.testing.assert_array_equal(member.model_.flat, single.model_.flat)
        assert member.n_iter_ == single.n_iter_
    first = MLPClassifier(**options).fit(X, y)
    np.testing.assert_array_equal(clf.model_.flat, first.model_.flat)
    assert clf.loss_curve_ == first.loss_curve_
    assert clf.n_iter_ == first.n_iter_
    mean = np.mean([single.predict_proba(X) for single in singles], axis=0)
    np.testing.assert_allclose(clf.predict_proba(X), mean, rtol=0, atol=1e-12)
    np.testing.assert_allclose(clf.predict_log_proba(X), np.log(mean), atol=1e-12)
    np.testing.assert_array_equal(clf.predict(X), clf.classes_[mean.argmax(1)])
    assert clf.score(X, y) == (mean.argmax(1) == y).mean()
    assert clf.get_params()["members"] == 3
    assert clf.decision_function(X).shape == ((N,) if classes == 2 else (N, 3))
    again = MLPClassifier(members=3, **options).fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))


@pytest.mark.parametrize("loss", ["squared_error", "poisson", "quantile"])
def test_values_are_means(loss):
    X = data()[0].astype(np.float32)
    y = np.exp(X[:, 0]).astype(float)
    more = {"quantile": 0.9} if loss == "quantile" else {}
    est = MLPRegressor(loss, members=4, **OPTIONS, **more).fit(X, y)
    mean = np.mean([member.predict(X) for member in est.estimators_], axis=0)
    np.testing.assert_allclose(est.predict(X), mean, rtol=1e-5)


def test_several_targets_and_multilabel():
    X, y = data()
    several = np.stack([y, (X[:, 0] > 0).astype(int)], axis=1)
    clf = MLPClassifier(members=2, **OPTIONS).fit(X, several)
    for own, *parts in zip(
        clf.predict_proba(X), *(m.predict_proba(X) for m in clf.estimators_), strict=True
    ):
        np.testing.assert_allclose(own, np.mean(parts, axis=0), atol=1e-12)
    labels = X[:, :2] > 0
    clf = MLPClassifier(members=2, **OPTIONS).fit(X, labels)
    mean = np.mean([m.predict_proba(X) for m in clf.estimators_], axis=0)
    np.testing.assert_allclose(clf.predict_proba(X), mean, atol=1e-12)
    assert clf.predict(X).shape == (N, 2)


def test_bootstrap_draws_rows_as_weights():
    X, y = data()
    weight = np.random.default_rng(1).integers(1, 3, N)
    clf = MLPClassifier(members=3, bootstrap=True, **OPTIONS).fit(X, y, weight)
    for member in clf.estimators_:
        drawn = np.random.default_rng(member.random_state).integers(0, N, N)
        counts = np.bincount(drawn, minlength=N).astype(float)
        single = clone(member).fit(X, y, counts * weight)
        np.testing.assert_array_equal(member.model_.flat, single.model_.flat)
    assert 0.5 < (counts > 0).mean() < 0.75


def test_other_inputs_and_solvers():
    pandas = pytest.importorskip("pandas")
    X, y = data()
    frame = pandas.DataFrame(X, columns=list("abcde"))
    clf = MLPClassifier(members=2, solver="lbfgs", **OPTIONS).fit(frame, y)
    assert list(clf.feature_names_in_) == list("abcde")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = clf.predict_proba(frame)
    np.testing.assert_allclose(whole.sum(1), 1)
    sparse = scipy.sparse.csr_matrix(X * (X > 0))
    dense = MLPClassifier(members=2, **OPTIONS).fit(sparse.toarray(), y)
    own = MLPClassifier(members=2, **OPTIONS).fit(sparse, y)
    np.testing.assert_array_equal(own.predict_proba(sparse), dense.predict_proba(sparse.toarray()))
    held = MLPClassifier(members=2, early_stopping=True, **OPTIONS).fit(X, y, X_val=X, y_val=y)
    assert len(held.validation_loss_curve_) == held.n_iter_


def test_files_pickles_clones_and_searches(tmp_path):
    X, y = data()
    clf = MLPClassifier(members=2, **OPTIONS).fit(X, y)
    expected = clf.predict_proba(X)
    dl.save(clf, tmp_path / "clf")
    for other in (dl.load(tmp_path / "clf"), pickle.loads(pickle.dumps(clf))):
        assert len(other.estimators_) == 2
        np.testing.assert_array_equal(other.predict_proba(X), expected)
    assert not hasattr(clone(clf), "estimators_")
    search = GridSearchCV(MLPClassifier(**OPTIONS), {"members": [1, 2]}, cv=2).fit(X, y)
    assert search.best_params_["members"] in (1, 2)


def test_one_network_again():
    X, y = data()
    clf = MLPClassifier(members=2, **OPTIONS).fit(X, y)
    clf.set_params(members=1).fit(X, y)
    assert not hasattr(clf, "estimators_")
    plain = MLPClassifier(**OPTIONS).fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), plain.predict_proba(X))


def test_what_is_refused_leaves_the_estimator_as_it_was():
    X, y = data()
    with pytest.raises(ValueError, match="members"):
        MLPClassifier(members=0).fit(X, y)
    with pytest.raises(ValueError, match="bootstrap=True is for several members"):
        MLPClassifier(bootstrap=True).fit(X, y)
    with pytest.raises(ValueError, match="warm_start=True would go on with one network"):
        MLPClassifier(members=2, warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match="partial_fit goes on with one network"):
        MLPClassifier(members=2).partial_fit(X, y, classes=[0, 1, 2])
    clf = MLPClassifier(members=2, **OPTIONS).fit(X, y)
    expected = clf.predict_proba(X)
    with pytest.raises(ValueError, match="NaN") as caught:
        clf.fit(np.full_like(X, np.nan), y)
    assert any("of 2; the others were stopped" in note for note in caught.value.__notes__)
    np.testing.assert_array_equal(clf.predict_proba(X), expected)
    with pytest.raises(ValueError, match="snapshot is of one network, not of 2 members"):
        clf.snapshot()
    with pytest.raises(ValueError, match="hidden_values is of one network"):
        clf.hidden_values(X)
    with pytest.raises(ValueError, match="several members"):
        clf.to_sklearn()
    assert clf.estimators_[1].snapshot()(X).shape == (N,)


def test_other_threads_predict_meanwhile():
    X, y = data()
    clf = MLPClassifier(members=2, **OPTIONS).fit(X, y)
    expected = clf.predict_proba(X)
    answers, begun = [], threading.Event()

    class Asks(dl.Callback):
        def __deepcopy__(self, memo):
            return Asks()

        def on_epoch_end(self, epoch, logs):  # noqa: ARG002
            begun.set()
            if epoch == 0:
                answers.append(clf.predict_proba(X))

    clf.set_params(callbacks=[Asks()], random_state=9).fit(X, y)
    assert len(answers) == 2
    for answer in answers:
        np.testing.assert_array_equal(answer, expected)
    assert (clf.predict_proba(X) != expected).any()


def test_each_member_warns_for_itself():
    X, y = data()
    with pytest.warns(ConvergenceWarning, match="Maximum iterations") as caught:
        MLPClassifier(members=3, **OPTIONS).fit(X, y)
    assert len([w for w in caught if w.category is ConvergenceWarning]) >= 1


def test_ctrl_c_keeps_what_the_members_have_learned():
    X, y = data()
    begun = threading.Event()

    class Begins(dl.Callback):
        def __deepcopy__(self, memo):
            return self

        def on_epoch_begin(self, epoch):
            if epoch == 2:
                begun.set()

    def interrupt():
        begun.wait(10)
        signal.raise_signal(signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    options = OPTIONS | {"max_iter": 10**6, "tol": 0.0, "n_iter_no_change": 10**7}
    clf = MLPClassifier(members=4, callbacks=[Begins()], **options)
    with dl.num_threads(2), pytest.warns(UserWarning, match="interrupted by user"):
        clf.fit(X, y)
    thread.join()
    assert 1 <= len(clf.estimators_) <= 2  # the others have not begun
    assert all(member.n_iter_ < 10**6 for member in clf.estimators_)
    np.testing.assert_allclose(clf.predict_proba(X).sum(1), 1)
