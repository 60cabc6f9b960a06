"""Rows of weight 0: a fit and an evaluation are what they are without them, whatever they hold."""

import numpy as np
import pytest

import dlcore as dl

RNG = np.random.default_rng(0)
N = 60
X, Y = RNG.normal(size=(N, 5)), RNG.integers(0, 3, N)
WEIGHT = RNG.uniform(0.5, 2, N)
WEIGHT[::3] = 0
KEPT = WEIGHT > 0
BAD_X = np.where(KEPT[:, np.newaxis], X, np.nan)
BAD_X[0] = np.inf


class OwnLoss(dl.CrossEntropyLoss):
    """Called in Python, as every class of the user's own is."""


class OwnSGD(dl.SGD):
    """Likewise."""

    def step(self, grads):
        super().step(grads)


def several():
    metrics = {"kind": ["accuracy"], "size": ["r2"]}
    return dl.MultiTargetLoss({"kind": "cross_entropy", "size": "mse"}, [2, 1], metrics=metrics)


def count(y_true, outputs):
    return len(y_true)


TARGETS = {"kind": (Y > 0) * 1.0, "size": X[:, 0].copy()}
TARGETS["kind"][5:20] = np.nan
# By loss: its targets, and what stands in rows that are left out.
CASES = {
    "cross_entropy": (Y, 99),
    "probabilities": (np.eye(3)[Y], np.nan),
    "mse": (X[:, :3], np.nan),
    "huber": (X[:, :3], np.inf),
    "bce_with_logits": (np.eye(3)[Y], np.nan),
    "focal": (Y, -1),
    "own loss": (Y, 99),
    "several": (TARGETS, 7.5),
}
LOSSES = {"probabilities": "cross_entropy", "own loss": OwnLoss(), "several": several()}


def trainer(loss, make=dl.SGD, norm=dl.BatchNorm1d, **options):
    layers = (dl.Linear(5, 8), norm(8), dl.ReLU(), dl.Linear(8, 3))
    model = dl.Sequential(*layers, dtype=np.float64, seed=0)
    loss = LOSSES.get(loss, loss)
    return dl.Trainer(model, loss=loss, optimizer=make(model.parameters(), 0.1), **options)


def take(y, rows):
    return {name: own[rows] for name, own in y.items()} if isinstance(y, dict) else y[rows]


def spoilt(y, value):
    if isinstance(y, dict):
        return {name: spoilt(own, value) for name, own in y.items()}
    y = y.copy()
    y[~KEPT] = value
    return y


def check_equal(loss, y, bad, options, **of_fit):
    with_rows, without = (trainer(loss, **options) for _ in range(2))
    fits = []
    for t, x, target, weight in (
        (with_rows, BAD_X, bad, WEIGHT),
        (without, X[KEPT], take(y, KEPT), WEIGHT[KEPT]),
    ):
        logs = t.fit(
            x,
            target,
            sample_weight=weight,
            validation_data=(x, target, weight),
            epochs=3,
            batch_size=N,
            shuffle=False,
            verbose=0,
            **of_fit,
        )
        fits.append(dict(logs) | t.evaluate(x, target, weight))
    for name, value in fits[1].items():
        np.testing.assert_allclose(fits[0][name], value, rtol=1e-9, err_msg=name)
    for name, value in without.model.state_dict().items():
        own = with_rows.model.state_dict()[name]
        np.testing.assert_allclose(own, value, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("loss", CASES)
def test_a_fit_is_as_without_them(loss):
    y, value = CASES[loss]
    check_equal(loss, y, spoilt(y, value), {})


METRICS = ["accuracy", "f1", "balanced_accuracy", "top_2_accuracy", count]


@pytest.mark.parametrize(
    ("options", "of_fit"),
    [
        ({"norm": dl.LayerNorm}, {}),
        ({"make": OwnSGD}, {}),
        ({"make": dl.Adam}, {}),
        ({"accumulate": 3}, {}),
        ({"metrics": METRICS}, {}),
        ({"callbacks": [dl.StochasticWeightAveraging(1)]}, {}),
        ({"clip_grad_norm": 0.01}, {}),
        ({}, {"class_weight": "balanced"}),
        ({}, {"class_weight": {0: 3.0}}),
        ({}, {"transform": lambda x, rng: 2 * x}),  # noqa: ARG005
    ],
)
def test_a_fit_with_options_is_as_without_them(options, of_fit):
    y, value = CASES["cross_entropy"]
    check_equal("cross_entropy", y, spoilt(y, value), options, **of_fit)


def test_metrics_of_values_are_as_without_them():
    y, value = CASES["mse"]
    check_equal("mse", y, spoilt(y, value), {"metrics": ["r2", "mae", "rmse", count]})


def test_classes_of_weight_0_are_left_out():
    x = np.where((Y == 1)[:, np.newaxis], np.nan, X)
    models = []
    for data, options in (((x, Y), {"class_weight": {1: 0.0}}), ((X[Y != 1], Y[Y != 1]), {})):
        t = trainer("cross_entropy")
        t.fit(*data, epochs=3, batch_size=N, shuffle=False, verbose=0, **options)
        models.append(t.model.flat)
    np.testing.assert_allclose(*models, rtol=1e-10)


@pytest.mark.parametrize("transform", [None, lambda x, rng: x])  # noqa: ARG005
@pytest.mark.parametrize("make", [dl.SGD, OwnSGD])
def test_they_keep_their_places_in_the_batches(make, transform):
    """Batches are of so many rows, those that are left out among them; some have no other."""
    weight = WEIGHT.copy()
    weight[8:24] = 0
    t = trainer("cross_entropy", make=make, metrics=["accuracy"])
    history = t.fit(
        BAD_X, Y, sample_weight=weight, epochs=1, batch_size=8, shuffle=False, verbose=0,
        transform=transform,
    )  # fmt: skip
    assert history.batches == [8]
    other = trainer("cross_entropy", make=make, metrics=["accuracy"])
    read = [np.flatnonzero(weight[i : i + 8]) + i for i in range(0, N, 8)]
    expected = other.fit([(X[i], Y[i], weight[i]) for i in read if i.size], epochs=1, verbose=0)
    np.testing.assert_allclose(t.model.flat, other.model.flat, rtol=1e-10)
    for name, values in expected.items():
        assert history[name] == pytest.approx(values), name


def test_a_held_out_row_of_weight_0_is_left_out():
    t = trainer("cross_entropy", metrics=["accuracy"], seed=0)
    history = t.fit(BAD_X, Y, sample_weight=WEIGHT, epochs=2, validation_split=0.5, verbose=0)
    assert np.isfinite(history["val_loss"]).all()


def test_one_that_counts_is_still_checked():
    y = Y.copy()
    y[1] = 99
    with pytest.raises(IndexError, match=r"y\[1\] is 99"):
        trainer("cross_entropy").fit(X, y, sample_weight=WEIGHT, epochs=1, verbose=0)
    with pytest.raises(ValueError, match="x has 60 rows, y 59"):
        trainer("cross_entropy").fit(X, Y[1:], sample_weight=WEIGHT, epochs=1, verbose=0)
