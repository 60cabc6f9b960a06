"""Successive halving: what is drawn, who goes on, what fails, and Optuna's ask and tell."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dlcore as dl

N = 200


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 4)).astype(np.float32)
    return x, (x[:, 0] * x[:, 1] > 0).astype(np.int64)


def make(lr, width=8, dropout=0.0):
    layers = dl.Linear(4, width), dl.ReLU(), dl.Dropout(dropout), dl.Linear(width, 2)
    model = dl.Sequential(*layers, seed=0)
    optimizer = dl.Adam(model.parameters(), lr=lr)
    return dl.Trainer(
        model, loss="cross_entropy", optimizer=optimizer, metrics=["accuracy"], seed=0
    )


SPACE = {"lr": dl.Range(1e-4, 1e-1, log=True), "width": [4, 16], "dropout": dl.Range(0.0, 0.3)}


@settings(max_examples=60, deadline=None)
@given(
    st.floats(1e-6, 1e3), st.floats(1, 1e4), st.booleans(), st.integers(1, 50), st.integers(0, 60)
)
def test_numbers_lie_in_their_range(low, ratio, log, whole, more):
    rng = np.random.default_rng(0)
    for own in (dl.Range(low, low * ratio, log=log), dl.Range(whole, whole + more, log=log)):
        for _ in range(20):
            value = own.draw(rng)
            assert own.low <= value <= own.high
            assert type(value) is (int if isinstance(own.low, int) else float)


def test_the_logarithm_is_uniform_and_whole_ends_are_drawn():
    rng = np.random.default_rng(0)
    rates = [dl.Range(1e-4, 1e-2, log=True).draw(rng) for _ in range(2000)]
    assert 0.45 < np.mean(np.array(rates) < 1e-3) < 0.55
    for log in (False, True):
        assert {dl.Range(1, 3, log=log).draw(rng) for _ in range(200)} == {1, 2, 3}
    assert dl.Range(2, 2).draw(rng) == 2


def test_rounds_are_those_by_hand():
    x, y = data()
    options = {"candidates": 9, "min_epochs": 2, "max_epochs": 12, "factor": 3, "verbose": 0}
    found = dl.sweep(make, SPACE, x, y, validation_split=0.25, batch_size=16, seed=3, **options)
    assert sorted((own.rounds, own.epochs) for own in found) == [(1, 2)] * 6 + [(2, 6)] * 2 + [
        (3, 12)
    ]
    assert (found.monitor, found.mode, found.best) == ("val_loss", "min", found[0])
    assert found.best.rounds == 3
    for before, after in pairwise(found):
        assert (-before.rounds, before.value) <= (-after.rounds, after.value)
    # The same rows validate all of them; each candidate has the bits of fits one after the other.
    rng = np.random.default_rng(3)
    drawn = rng.permutation(N)
    held, kept = np.sort(drawn[:50]), np.sort(drawn[50:])
    for own in found:
        alone = make(**own.params)
        for epochs in [2, 4, 6][: own.rounds]:
            history = alone.fit(
                x[kept],
                y[kept],
                epochs=epochs,
                batch_size=16,
                validation_data=(x[held], y[held]),
                verbose=0,
            )
        np.testing.assert_array_equal(alone.model.flat, own.trainer.model.flat)
        assert own.value == history["val_loss"][-1]
    again = dl.sweep(make, SPACE, x, y, validation_split=0.25, batch_size=16, seed=3, **options)
    assert again.rows() == found.rows()
    others = dl.sweep(make, SPACE, x, y, validation_split=0.25, batch_size=16, seed=4, **options)
    assert others.rows() != found.rows()


def test_the_table_and_the_greatest_value():
    x, y = data()
    found = dl.sweep(
        make,
        SPACE,
        x,
        y,
        candidates=4,
        factor=2,
        min_epochs=1,
        max_epochs=2,
        monitor="val_accuracy",
        validation_data=(x, y),
        callbacks=[dl.EarlyStopping("val_accuracy", patience=1)],
        verbose=0,
    )
    assert found.mode == "max"
    finals = [own.value for own in found if own.rounds == 2]
    assert finals == sorted(finals, reverse=True)
    rows = found.rows()
    assert list(rows[0]) == ["lr", "width", "dropout", "epochs", "rounds", "val_accuracy", "error"]
    lines = repr(found).splitlines()
    assert len(lines) == 5
    assert lines[0].split() == list(rows[0])[:-1]


def test_one_that_diverges_is_left_behind():
    x, y = data()
    space = {"lr": [1e-3, 1e30]}
    options = {"candidates": 8, "min_epochs": 2, "max_epochs": 4, "factor": 2, "verbose": 0}
    found = dl.sweep(make, space, x, y, validation_split=0.2, **options)
    failed = [own for own in found if own.error is not None]
    assert failed == found[-len(failed) :]
    for own in failed:
        assert own.params["lr"] == 1e30
        assert isinstance(own.error, FloatingPointError)
        assert math.isnan(own.value)
    assert found.best.error is None
    assert "FloatingPointError" in found.rows()[-1]["error"]
    with pytest.raises(FloatingPointError):
        dl.sweep(make, {"lr": [1e30]}, x, y, validation_split=0.2, **options)


def test_what_is_refused():
    x, y = data()
    sweep = dl.sweep
    with pytest.raises(ValueError, match="val_loss needs validation_data"):
        sweep(make, SPACE, x, y)
    options = {"validation_split": 0.2, "verbose": 0}
    with pytest.raises(ValueError, match="nothing logs 'val_f1'"):
        sweep(make, SPACE, x, y, monitor="val_f1", **options)
    with pytest.raises(ValueError, match="not both"):
        sweep(make, SPACE, x, y, validation_data=(x, y), **options)
    with pytest.raises(ValueError, match="factor must be an integer and at least 2"):
        sweep(make, SPACE, x, y, factor=1, **options)
    with pytest.raises(ValueError, match="max_epochs must be an integer and at least 5"):
        sweep(make, SPACE, x, y, min_epochs=5, max_epochs=4, **options)
    with pytest.raises(TypeError, match="takes no on_error"):
        sweep(make, SPACE, x, y, on_error="raise", **options)
    with pytest.raises(TypeError, match="must be a function"):
        sweep(make(0.1), SPACE, x, y, **options)
    with pytest.raises(TypeError, match="must be a Trainer"):
        sweep(lambda lr: None, {"lr": [1]}, x, y, **options)  # noqa: ARG005
    with pytest.raises(TypeError, match="space must be a dict"):
        sweep(make, {}, x, y, **options)
    with pytest.raises(TypeError, match=r"space\['lr'\] must be a Range or a list"):
        sweep(make, {"lr": 0.1}, x, y, **options)
    with pytest.raises(ValueError, match=r"space\['lr'\] has no choice"):
        sweep(make, {"lr": []}, x, y, **options)
    with pytest.raises(ValueError, match="less than low"):
        dl.Range(2, 1)
    for low, log in ((0, True), (math.nan, False), ("1", False)):
        with pytest.raises(ValueError, match="low must be a"):
            dl.Range(low, 5, log=log)


def test_ask_and_tell_of_optuna():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    x, y = data()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(2):
        trials = [study.ask() for _ in range(4)]
        trainers = [make(trial.suggest_float("lr", 1e-4, 1e-1, log=True)) for trial in trials]
        histories = dl.fit_many(trainers, x, y, epochs=3, validation_split=0.2, verbose=0)
        for trial, value in zip(trials, histories.values("val_loss"), strict=True):
            study.tell(trial, value)
    assert len(study.trials) == 8
    assert study.best_value == min(trial.value for trial in study.trials)
