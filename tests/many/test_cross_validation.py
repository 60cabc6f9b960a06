"""Folds at once: each one's bits, predictions out of fold, what is measured, what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dlcore as dl
from dlcore.many._folds import folds_of

N = 120


def data(dtype=np.float32):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 5)).astype(dtype)
    return x, (x[:, 0] + 0.5 * rng.normal(size=N) > 0).astype(np.int64)


def trainer_of(fold=0, loss="cross_entropy", out=2, metrics=("accuracy",)):
    model = dl.Sequential(dl.Linear(5, 8), dl.ReLU(), dl.Dropout(0.2), dl.Linear(8, out), seed=fold)
    optimizer = dl.Adam(model.parameters(), lr=0.01)
    return dl.Trainer(model, loss=loss, optimizer=optimizer, metrics=list(metrics), seed=fold)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 7),
    st.lists(st.integers(0, 3), min_size=7, max_size=60),
    st.integers(0, 5),
)
def test_drawn_folds_are_a_partition_and_stratified(count, labels, seed):
    y = np.array(labels)
    pairs = folds_of(count, len(y), None, seed, y)
    tests = np.concatenate([test for _, test in pairs])
    assert sorted(tests) == list(range(len(y)))
    for train, test in pairs:
        assert sorted([*train, *test]) == list(range(len(y)))
    sizes = [len(test) for _, test in pairs]
    assert max(sizes) - min(sizes) <= 1
    for label in np.unique(y):
        counts = [(y[test] == label).sum() for _, test in pairs]
        assert max(counts) - min(counts) <= 1
    again = folds_of(count, len(y), None, seed, y)
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(pairs, again, strict=True))


@pytest.mark.parametrize("as_function", [False, True])
def test_each_fold_has_the_bits_of_a_fit_by_hand(as_function):
    x, y = data()
    weight = np.random.default_rng(1).integers(1, 3, N).astype(float)
    result = dl.cross_validate(
        trainer_of if as_function else trainer_of(),
        x,
        y,
        folds=4,
        epochs=30,
        batch_size=16,
        sample_weight=weight,
        callbacks=[dl.EarlyStopping(patience=2)],
        verbose=0,
    )
    assert len(result.folds) == len(result.trainers) == len(result.histories) == 4
    assert len({len(history.epoch) for history in result.histories}) > 1  # each stops by itself
    for i, (train, test) in enumerate(result.folds):
        alone = trainer_of(i if as_function else 0)
        history = alone.fit(
            x[train],
            y[train],
            epochs=30,
            batch_size=16,
            sample_weight=weight[train],
            validation_data=(x[test], y[test], weight[test]),
            callbacks=[dl.EarlyStopping(patience=2)],
            verbose=0,
        )
        np.testing.assert_array_equal(alone.model.flat, result.trainers[i].model.flat)
        assert dict(history) == dict(result.histories[i])
        np.testing.assert_array_equal(result.outputs[test], alone.predict(x[test]))
        values = alone.evaluate(x[test], y[test], weight[test])
        for name, value in values.items():
            np.testing.assert_allclose(result.scores[name][i], value, rtol=1e-12)
    means, _ = result.trainers[0].loss.means(result.outputs, y, weight)
    np.testing.assert_allclose(result.total["loss"], means.sum(), rtol=1e-6)
    right = result.outputs.argmax(1) == y
    np.testing.assert_allclose(result.total["accuracy"], weight @ right / weight.sum())
    np.testing.assert_allclose(result.predict_proba(), dl.softmax(result.outputs))
    assert "4 folds" in repr(result)
    ensemble = result.ensemble()
    assert [a is b.model for a, b in zip(ensemble, result.trainers, strict=True)] == [True] * 4


def test_values_and_several_targets():
    x, _ = data()
    y = x[:, :2] * 2
    result = dl.cross_validate(
        trainer_of(loss="mse", metrics=["r2"]), x, y, folds=3, epochs=3, verbose=0
    )
    assert result.outputs.shape == (N, 2)
    np.testing.assert_allclose(result.total["loss"], ((result.outputs - y) ** 2).mean(), rtol=1e-5)
    with pytest.raises(ValueError, match="predict_proba needs a loss for classes"):
        result.predict_proba()
    targets = {"a": (x[:, 0] > 0).astype(np.int64), "b": x[:, 1:2].copy()}
    loss = dl.MultiTargetLoss({"a": "cross_entropy", "b": "mse"}, [2, 1])
    several = trainer_of(loss=loss, out=3, metrics=())
    result = dl.cross_validate(several, x, targets, folds=3, epochs=2, verbose=0)
    assert result.outputs.shape == (N, 3)
    assert {"loss", "a_loss", "b_loss"} <= set(result.total)


def test_splitters_of_scikit_learn_and_pairs():
    sklearn = pytest.importorskip("sklearn.model_selection")
    x, y = data()
    groups = np.arange(N) // 10
    options = {"epochs": 1, "verbose": 0}
    by_group = dl.cross_validate(
        trainer_of, x, y, folds=sklearn.GroupKFold(4), groups=groups, **options
    )
    for train, test in by_group.folds:
        assert not set(groups[train]) & set(groups[test])
    ahead = dl.cross_validate(trainer_of, x, y, folds=sklearn.TimeSeriesSplit(3), **options)
    first = ahead.folds[0][1][0]
    assert np.isnan(ahead.outputs[:first]).all()
    assert np.isfinite(ahead.outputs[first:]).all()
    np.testing.assert_allclose(
        ahead.total["accuracy"], (ahead.outputs[first:].argmax(1) == y[first:]).mean()
    )
    mask = np.arange(N) < 30
    pairs = dl.cross_validate(trainer_of, x, y, folds=[(~mask, mask)], **options)
    assert len(pairs.folds[0][1]) == 30


def test_validation_is_of_the_fold_or_of_a_share_of_the_others_or_none():
    x, y = data()
    options = {"folds": 3, "epochs": 2, "verbose": 0}
    assert "val_loss" in dl.cross_validate(trainer_of, x, y, **options).histories[0]
    plain = dl.cross_validate(trainer_of, x, y, validate=False, **options)
    assert "val_loss" not in plain.histories[0]
    split = dl.cross_validate(trainer_of, x, y, validation_split=0.25, **options)
    for i, (train, _) in enumerate(split.folds):
        alone = trainer_of(i)
        history = alone.fit(x[train], y[train], epochs=2, validation_split=0.25, verbose=0)
        assert dict(history) == dict(split.histories[i])


def test_what_is_refused():
    x, y = data()
    validate = dl.cross_validate
    with pytest.raises(ValueError, match="folds must be an integer and at least 2"):
        validate(trainer_of, x, y, folds=1, epochs=1)
    with pytest.raises(ValueError, match="folds is 121, but x has 120 rows"):
        validate(trainer_of, x, y, folds=121, epochs=1)
    with pytest.raises(ValueError, match="there is no fold"):
        validate(trainer_of, x, y, folds=[], epochs=1)
    with pytest.raises(ValueError, match=r"folds\[0\] would be tested with row 1"):
        validate(trainer_of, x, y, folds=[([0, 1], [1, 2])], epochs=1)
    with pytest.raises(ValueError, match="row 2 is among the rows to test with of 2 folds"):
        validate(trainer_of, x, y, folds=[([0], [2]), ([1], [2])], epochs=1)
    with pytest.raises(ValueError, match="groups need a splitter"):
        validate(trainer_of, x, y, groups=y, epochs=1)
    with pytest.raises(TypeError, match="must be a Trainer or a function"):
        validate("mlp", x, y, epochs=1)
    with pytest.raises(TypeError, match="must be a Trainer, not Sequential"):
        validate(lambda i: trainer_of(i).model, x, y, epochs=1)
    with pytest.raises(TypeError, match="takes no on_error"):
        validate(trainer_of, x, y, epochs=1, on_error="continue")
    trained = trainer_of()
    trained.fit(x, y, epochs=1, verbose=0)
    with pytest.raises(ValueError, match="has learned already"):
        validate(trained, x, y, epochs=1)
