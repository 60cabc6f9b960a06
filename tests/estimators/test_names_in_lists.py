"""Names that are given as dicts, sets or arrays: an error says which argument, and what is accepted."""

import numpy as np
import pytest

import dlcore as dl
from dlcore.sklearn import MLPClassifier, MLPRegressor

X, Y = np.random.default_rng(0).normal(size=(12, 3)), np.arange(12) % 2
F = X.astype(np.float32)
NO_NAMES = [
    *({}, {"relu": 1}, {"relu"}, [[]], [{}], [["relu"]], ["relu", "tanh"], [], [1], ["tan"]),
    *(
        np.array("relu"),
        np.array(["relu", "tanh"]),
        np.array([["relu"]]),
        np.array([1]),
        b"relu",
        bytearray(b"relu"),
        3,
        None,
    ),
]


@pytest.mark.parametrize("make", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("value", NO_NAMES, ids=repr)
def test_activation_of_an_estimator(make, value):
    with pytest.raises(ValueError, match="activation") as caught:
        make(hidden_layer_sizes=(3,), activation=value, max_iter=1).fit(X, Y)
    assert "relu" in str(caught.value) or "one for each of the 1 hidden layers" in str(caught.value)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_what_is_refused_leaves_a_fitted_estimator_as_it_was():
    fitted = MLPRegressor(hidden_layer_sizes=(3,), max_iter=2, random_state=0, warm_start=True)
    fitted.fit(X, Y)
    before, steps = fitted.predict(X), fitted.t_
    for warm_start in (True, False):
        fitted.set_params(activation={}, warm_start=warm_start)
        with pytest.raises(ValueError, match=r"activation must be one of .*, not \{\}"):
            fitted.fit(X, Y)
        assert fitted.t_ == steps
        np.testing.assert_array_equal(fitted.set_params(activation="relu").predict(X), before)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_names_and_shares_of_each_layer():
    several = ["tanh", "relu"], ("tanh", "relu"), ["tanh", np.str_("relu")]
    predictions = [
        MLPRegressor(
            hidden_layer_sizes=(3, 3), activation=own, dropout=share, max_iter=2, random_state=0
        )
        .fit(X, Y)
        .predict(X)
        for own, share in zip(
            several, ([0.5, 0], np.array([0.5, 0]), (0.5, np.float32(0))), strict=True
        )
    ]
    for other in predictions[1:]:
        np.testing.assert_array_equal(other, predictions[0])


def test_a_solver_that_is_no_name_has_no_partial_fit():
    for solver in ({}, ["adam"], np.array(["adam", "sgd"]), None):
        assert not hasattr(MLPClassifier(solver=solver), "partial_fit")


def model():
    return dl.Sequential(dl.Linear(3, 2), seed=0)


@pytest.mark.parametrize("value", [{}, {"a"}, [], ["relu"], np.array(["a", "b"]), np.array([1, 2])])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("output", lambda v: dl.to_c(model(), "net", output=v, classes=[0, 1])),
        ("name", lambda v: dl.metrics.metric_named(v, dl.MSELoss())),
        ("loss", lambda v: dl.metrics.metric_named("mse", v)),
        ("loss", lambda v: dl.Trainer(model(), loss=v)),
        ("method", lambda v: dl.initialize(model(), v)),
        ("mode", lambda v: dl.initialize(model(), "kaiming_normal", mode=v)),
        ("nonlinearity", lambda v: dl.initialize(model(), "kaiming_normal", nonlinearity=v)),
        (
            "verbose",
            lambda v: dl.Trainer(model(), loss="mse").fit(F, F[:, :2], epochs=1, verbose=v),
        ),
        ("monitor", lambda v: dl.EarlyStopping(v)),
        ("mode", lambda v: dl.EarlyStopping("loss", mode=v)),
        ("reduction", lambda v: dl.mse_loss(X, X, reduction=v)),
        ("reduction", lambda v: dl.cross_entropy(X, Y, reduction=v)),
        ("join", lambda v: dl.Parallel(dl.Linear(3, 2), dl.Linear(3, 2), join=v)),
        ("of", lambda v: dl.EnsembleMean(v)),
        ("per", lambda v: dl.ExponentialLR(0.5, per=v)),
    ],
)
def test_names_elsewhere(name, call, value):
    with pytest.raises((TypeError, ValueError), match=name) as caught:
        call(value)
    assert "unhashable" not in str(caught.value)
    assert "ambiguous" not in str(caught.value)


@pytest.mark.parametrize("seed", [-1, "one", 0.5, {}, np.array("a")])
def test_seeds_of_models(seed):
    with pytest.raises((TypeError, ValueError), match="Sequential: seed must be an integer"):
        dl.Sequential(dl.Linear(3, 2), seed=seed)
    with pytest.raises((TypeError, ValueError), match="initialize: seed must be an integer"):
        dl.initialize(model(), "kaiming_normal", seed=seed)
