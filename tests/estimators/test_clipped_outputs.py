"""`MLPRegressor(clip_outputs=True)` predicts nothing beyond the targets that it has learnt."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.6")

import dlcore as dl
from dlcore.sklearn import MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 3))
Y = np.stack([X[:, 0] + X[:, 1], 5 - 3 * X[:, 2]], axis=1)
FAR = 20 * X


def made(**options):
    settings = {"max_iter": 30, "learning_rate_init": 0.02, "random_state": 0, "clip_outputs": True}
    return MLPRegressor(hidden_layer_sizes=(8,), **settings | options)


def free(estimator, x):
    """Return what an estimator would predict if it did not clip."""
    kept, estimator._clips = estimator._clips, False
    values = estimator.predict(x)
    estimator._clips = kept
    return values


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("options", "y"),
    [
        ({}, Y),
        ({}, Y[:, 0]),
        ({"solver": "lbfgs"}, Y),
        ({"early_stopping": True}, Y),
        ({"loss": "poisson"}, np.exp(Y[:, 0])),
        ({"loss": "quantile", "quantile": [0.9, 0.1]}, Y[:, 0]),
    ],
)
def test_predictions_are_those_of_the_same_fit_within_the_range(options, y, dtype):
    x, far = X.astype(dtype), FAR.astype(dtype)
    clipped, plain = (made(**options, clip_outputs=clip).fit(x, y) for clip in (True, False))
    if not options.get("early_stopping"):  # whose scores are those of clipped values
        assert plain.model_.flat.tobytes() == clipped.model_.flat.tobytes()
    targets = y.reshape(len(y), -1).astype(dtype)
    expected = free(clipped, far)
    found = clipped.predict(far)
    low, high = targets.min(axis=0), targets.max(axis=0)
    if y.ndim == 1 and expected.ndim == 1:
        low, high = low[0], high[0]
    assert (expected > high).any()
    assert found.dtype == dtype
    assert np.array_equal(found, np.clip(expected, low, high))
    assert np.array_equal(clipped.snapshot()(far), found)
    assert np.array_equal(pickle.loads(pickle.dumps(clipped)).predict(far), found)


def test_rows_of_no_weight_have_no_say():
    weight = (np.abs(Y[:, 0]) < 1).astype(float)
    found = made().fit(X, Y[:, 0], weight).predict(FAR)
    learnt = Y[weight > 0, 0]
    assert found.min() == learnt.min()
    assert found.max() == learnt.max()


def test_the_range_widens_as_the_network_learns_on():
    y = Y[:, 0]
    estimator = made(warm_start=True).fit(X[np.abs(y) < 1], y[np.abs(y) < 1])
    assert np.abs(estimator.predict(FAR)).max() < 1
    estimator.partial_fit(X[:1], [1.5])
    estimator.partial_fit(X[:1].copy(), [0.0])
    assert estimator.predict(FAR).max() == 1.5
    estimator.fit(X[y < 0], y[y < 0])
    assert (estimator.predict(FAR).min(), estimator.predict(FAR).max()) == (y.min(), 1.5)
    estimator.set_params(warm_start=False).fit(X, y - 10)
    assert estimator.predict(FAR).max() == (y - 10).max()


def test_a_range_that_was_not_kept_is_an_error():
    estimator = made(clip_outputs=False).fit(X, Y)
    before = estimator.predict(FAR)
    estimator.set_params(clip_outputs=True)
    with pytest.raises(ValueError, match="clip_outputs=True needs the range of all y"):
        estimator.partial_fit(X, Y)
    with pytest.raises(ValueError, match="clip_outputs=True needs the range of all y"):
        estimator.set_params(warm_start=True).fit(X, Y)
    assert np.array_equal(estimator.predict(FAR), before)
    estimator.set_params(warm_start=False).fit(X, Y)
    assert not np.array_equal(estimator.predict(FAR), before)
    estimator.set_params(clip_outputs=False).partial_fit(X, Y)
    assert (estimator.predict(FAR) > Y.max(axis=0)).any()
    with pytest.raises(ValueError, match="clip_outputs"):
        made(clip_outputs="yes").fit(X, Y)


def test_the_mean_of_members_has_the_range_of_all():
    estimator = made(members=3, bootstrap=True).fit(X, Y)
    bounds = np.array([own._bounds() for own in estimator.estimators_])
    assert np.ptp(bounds, axis=0).any()
    found = estimator.predict(FAR)
    assert np.array_equal(found.min(axis=0), bounds[:, 0].min(axis=0).astype(found.dtype))
    assert np.array_equal(found.max(axis=0), bounds[:, 1].max(axis=0).astype(found.dtype))


def test_files_keep_the_range(tmp_path):
    estimator = made().fit(X, Y)
    dl.save(estimator, tmp_path / "net.dlc")
    again = dl.load(tmp_path / "net.dlc")
    assert np.array_equal(again.predict(FAR), estimator.predict(FAR))
    again.partial_fit(X[:1], [[99.0, 99.0]])
    assert again._bounds()[1].tolist() == [99.0, 99.0]


def test_what_does_not_clip_says_so():
    estimator = made().fit(X, Y)
    with pytest.raises(ValueError, match="scikit-learn has no clipping of outputs"):
        estimator.to_sklearn()
    with pytest.raises(TypeError, match="clip_outputs=True has no export to int8"):
        dl.to_c(estimator, "net", "int8", X.astype(np.float32))
