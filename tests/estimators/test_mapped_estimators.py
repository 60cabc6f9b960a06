"""Estimators and models that lie in a read-only map of a file: they predict there, and train on a copy."""

import pickle

import joblib
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import dlcore as dl
from dlcore.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 6))
Y = (X[:, 0] > 0).astype(int)
ESTIMATORS = {
    "adam": lambda: MLPClassifier((30, 20), max_iter=2, random_state=0),
    "sgd": lambda: MLPClassifier((30,), solver="sgd", max_iter=2, random_state=0),
    "norm": lambda: MLPClassifier((30,), batch_norm=True, max_iter=2, random_state=0),
    "regressor": lambda: MLPRegressor(hidden_layer_sizes=(30,), max_iter=2, random_state=0),
}


@pytest.fixture(params=ESTIMATORS)
def mapped(request, tmp_path):
    """Return a fitted estimator, the same one from a read-only map, and the file's bytes."""
    fitted = ESTIMATORS[request.param]().fit(X, Y)
    path = tmp_path / "model.joblib"
    joblib.dump(fitted, path)
    before = path.read_bytes()
    loaded = joblib.load(path, mmap_mode="r")
    assert not loaded.model_.flat.flags.writeable
    yield fitted, loaded
    assert path.read_bytes() == before


def same(a, b):
    for one, other in zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(a.predict(X), b.predict(X))


def test_predicting_shares_the_file(mapped):
    fitted, loaded = mapped
    same(fitted, loaded)
    assert not loaded.model_.flat.flags.writeable


def test_partial_fit(mapped):
    fitted, loaded = mapped
    for _ in range(3):
        fitted.partial_fit(X, Y)
        loaded.partial_fit(X, Y)
    same(fitted, loaded)


def test_a_warm_start(mapped):
    fitted, loaded = mapped
    same(*(e.set_params(warm_start=True).fit(X, Y) for e in (fitted, loaded)))


def test_assigned_coefs(mapped):
    _, loaded = mapped
    if loaded.batch_norm:  # part of what they are computed from
        with pytest.raises(AttributeError, match="coefs_ cannot be set"):
            loaded.coefs_ = []
        return
    loaded.coefs_ = [np.zeros_like(coef) for coef in loaded.coefs_]
    loaded.intercepts_ = [np.zeros_like(b) for b in loaded.intercepts_]
    assert len(np.unique(loaded.predict(X))) == 1


def test_a_model_is_trained_on_a_copy(tmp_path):
    model = dl.Sequential(dl.Linear(6, 4), dl.BatchNorm1d(4), dl.Linear(4, 2), seed=0)
    state = model.state_dict()
    joblib.dump(model, tmp_path / "model")
    before = (tmp_path / "model").read_bytes()
    x = X.astype(np.float32)
    results = []
    for given in (
        pickle.loads(pickle.dumps(model)),
        joblib.load(tmp_path / "model", mmap_mode="r"),
    ):
        trainer = dl.Trainer(given, loss="cross_entropy", seed=0)
        trainer.fit(x, Y, epochs=2, verbose=0)
        results.append(given.flat)
    np.testing.assert_array_equal(*results)
    loaded = joblib.load(tmp_path / "model", mmap_mode="r")
    loaded.load_state_dict(state)
    assert (tmp_path / "model").read_bytes() == before


def test_an_optimizer_refuses_what_it_cannot_write(tmp_path):
    joblib.dump(dl.Sequential(dl.Linear(6, 2), seed=0), tmp_path / "model")
    model = joblib.load(tmp_path / "model", mmap_mode="r")
    with pytest.raises(ValueError, match=r"params\[0\] is read-only"):
        dl.SGD(model.parameters())


def test_warnings_are_those_of_a_short_fit():
    with pytest.warns(ConvergenceWarning):
        ESTIMATORS["adam"]().fit(X, Y)
