"""The trainer and the estimators share batches and the way through them."""

import numpy as np
import pytest

import dlcore as dl

sklearn_batches = pytest.importorskip("dlcore.sklearn._batches", exc_type=ImportError)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(23, 3))
Y = RNG.normal(size=(23, 1))
WEIGHT = RNG.uniform(size=23)
WEIGHT[8:16] = 0  # a batch that does not count


def batches(scale=1.0):
    loss = sklearn_batches.ScaledLoss(dl.MSELoss(), 0.5, scale)
    rows = sklearn_batches.as_rows(X, Y, WEIGHT, np.dtype(np.float64))
    return sklearn_batches.Batches(loss, rows, 8)


def test_gradients_are_scaled_and_batches_without_weight_do_not_count():
    (plan,) = batches(scale=3.0).epoch(None, 0)
    np.testing.assert_array_equal(plan.accumulation_weights, [3.0, 0.0, 3.0])
    sums = np.add.reduceat(WEIGHT, [0, 8, 16])
    np.testing.assert_array_equal(plan.normalizers, sums)
    parts = batches(scale=3.0).all_rows().accumulation_weights
    np.testing.assert_allclose(parts, 3.0 * sums / sums.sum(), rtol=1e-15)


def test_each_epoch_shuffles_the_order_of_the_one_before():
    source, rng, same = batches(), np.random.RandomState(5), np.random.RandomState(5)
    order = np.arange(len(X))
    for _ in range(3):
        (plan,) = source.epoch(rng, 0)
        places = np.arange(len(X))
        same.shuffle(places)
        order = order[places]
        np.testing.assert_array_equal(plan.order, order[WEIGHT[order] > 0])


def test_class_weights_of_a_stream_may_be_an_array():
    y = np.arange(23) % 2
    models = []
    for class_weight in ({0: 1.0, 1: 4.0}, np.array([1.0, 4.0])):
        model = dl.Sequential(dl.Linear(3, 2), dtype=np.float64, seed=0)
        trainer = dl.Trainer(model, loss="cross_entropy", seed=0)
        trainer.fit([(X, y)], epochs=2, class_weight=class_weight, verbose=0)
        models.append(model.flat)
    np.testing.assert_array_equal(*models)
    with pytest.raises(ValueError, match="class_weight must be a dict or an array"):
        trainer.fit([(X, y)], epochs=1, class_weight="balanced", verbose=0)
