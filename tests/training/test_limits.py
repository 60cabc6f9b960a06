"""Fits of no epoch, of some seconds or updates, with validation now and then, and of batches heard of."""

import time
from datetime import timedelta

import numpy as np
import pytest

import dlcore as dl

F64 = np.float64


def rows(n=60):
    x = np.random.default_rng(0).normal(size=(n, 4))
    return x, x[:, :3].argmax(1)


def trainer_of(**options):
    layers = dl.Linear(4, 8), dl.ReLU(), dl.Dropout(0.2), dl.Linear(8, 3)
    model = dl.Sequential(*layers, dtype=F64, seed=0)
    options = {"loss": "cross_entropy", "seed": 0, "optimizer": "sgd"} | options
    return dl.Trainer(model, **options)


def fit(trainer, epochs, **options):
    options = {"batch_size": 10, "verbose": 0} | options
    return trainer.fit(*rows(), epochs=epochs, **options)


class Hears(dl.Callback):
    def __init__(self):
        self.batches, self.weights = [], []

    def on_batch_end(self, batch, logs):
        self.batches.append((batch, logs["loss"]))
        self.weights.append(self.trainer.model.flat.copy())


def test_no_epochs_change_nothing():
    """keras#1872: what is left of a finished job."""
    calls = []

    class Note(dl.Callback):
        def on_fit_begin(self):
            calls.append("begin")

        def on_epoch_begin(self, epoch):
            calls.append(epoch)

        def on_fit_end(self):
            calls.append("end")

    trainer = trainer_of(callbacks=[Note(), dl.EarlyStopping(), dl.ExponentialMovingAverage()])
    before = trainer.model.flat.copy()
    history = fit(trainer, 0, validation_data=rows())
    assert (dict(history), history.epoch, calls) == ({}, [], ["begin", "end"])
    np.testing.assert_array_equal(trainer.model.flat, before)
    fit(trainer, 2, validation_data=rows())
    plain = trainer_of()
    fit(plain, 2)
    assert trainer.optimizer.steps == plain.optimizer.steps == 12


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("schedule", [None, dl.ExponentialLR(0.9, per="iteration")])
@pytest.mark.parametrize("own", [False, True])
def test_hearing_of_batches_changes_no_bit(accumulate, schedule, own):
    class Own(dl.CrossEntropyLoss):
        pass

    hears, ends = Hears(), []
    for callbacks in ([hears], []):
        loss = Own() if own else "cross_entropy"
        trainer = trainer_of(accumulate=accumulate, schedule=schedule, loss=loss, metrics=["f1"])
        history = fit(trainer, 3, callbacks=callbacks, log_every=1)
        ends.append((dict(history), history.iterations, trainer.model.flat, trainer.optimizer.lr))
    assert ends[0][:2] == ends[1][:2]
    assert ends[0][3] == ends[1][3]
    np.testing.assert_array_equal(ends[0][2], ends[1][2])
    assert [batch for batch, _ in hears.batches] == [0, 1, 2, 3, 4, 5] * 3
    # The model is as after the batch.
    moved = [bool((a != b).any()) for a, b in zip(hears.weights, hears.weights[1:], strict=False)]
    updates = {1: [True] * 5, 4: [False, False, True, False, True]}[accumulate]
    assert moved[:5] == updates or accumulate == 4
    mean = np.mean([loss for _, loss in hears.batches[-6:]])
    assert history["loss"][-1] == pytest.approx(mean, rel=1e-12)


def test_a_fit_that_is_stopped_after_a_batch():
    class Stop(Hears):
        def on_batch_end(self, batch, logs):
            super().on_batch_end(batch, logs)
            if self.trainer.history.epoch and batch == 2:
                self.trainer.stop("that is enough")

    stop = Stop()
    trainer = trainer_of(metrics=["accuracy"], callbacks=[stop])
    history = fit(trainer, 5, validation_data=rows())
    assert history.batches == [6, 3]
    assert history.iteration == [6, 9]
    assert (history.stopped_epoch, history.reason) == (1, "that is enough")
    assert history["loss"][1] == pytest.approx(np.mean([loss for _, loss in stop.batches[6:]]))
    assert len(history["accuracy"]) == len(history["val_loss"]) == 2
    assert history["val_loss"][1] == trainer.evaluate(*rows())["loss"]
    limited = trainer_of(metrics=["accuracy"])
    other = fit(limited, 5, max_iterations=9, validation_data=rows())
    assert dict(other) == dict(history)
    np.testing.assert_array_equal(trainer.model.flat, limited.model.flat)


@pytest.mark.parametrize(
    ("accumulate", "batches"), [(1, [6, 3]), (2, [6, 6, 6]), (4, [6, 6, 6, 6, 4])]
)
def test_steps_are_updates(accumulate, batches):
    trainer = trainer_of(accumulate=accumulate)
    history = fit(trainer, 100, max_iterations=9)
    assert history.batches == batches
    assert history.iteration[-1] == trainer.optimizer.steps == 9
    assert history.reason == "max_iterations: 9 updates are made"


def test_steps_of_a_stream():
    x, y = rows()
    trainer = trainer_of()
    history = trainer.fit([(x, y)] * 4, epochs=9, max_iterations=6, verbose=0)
    assert (history.batches, history.iteration) == ([4, 2], [4, 6])


@pytest.mark.parametrize("limit", [0.1, timedelta(seconds=0.1)])
@pytest.mark.parametrize("kind", ["epochs", "one epoch", "stream", "transform", "accumulate"])
def test_the_time_is_over(kind, limit):
    x, y = (np.tile(a, (10_000, 1)[: a.ndim]) for a in rows())
    options = {"batch_size": 2, "epochs": 1}
    trainer = trainer_of(metrics=["accuracy"], accumulate=3 if kind == "accumulate" else 1)
    data = x, y
    if kind == "epochs":
        data, options["epochs"] = rows(), 10**6
    elif kind == "stream":
        data, options = (([(x[:2], y[:2])] * 10**6),), {"epochs": 1}
    elif kind == "transform":
        options["transform"] = lambda batch, rng: batch  # noqa: ARG005
    began = time.perf_counter()
    history = trainer.fit(*data, max_time=limit, verbose=0, **options)
    assert time.perf_counter() - began < 3
    assert history.reason == "max_time: 0.1 seconds are over"
    assert history.stopped_epoch == history.epoch[-1]
    assert np.isfinite(history["loss"]).all()
    assert history.iteration[-1] == trainer.optimizer.steps > 0
    trainer.fit(*rows(), epochs=1, verbose=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_iterations": 0}, "max_iterations must be a positive integer, not 0"),
        ({"max_iterations": 2.5}, "max_iterations must be a positive integer"),
        ({"max_time": -1}, "max_time must be finite and at least 0"),
        ({"max_time": np.nan}, "max_time must be finite"),
        ({"validation_freq": 0}, "validation_freq must be a positive integer"),
        ({"validation_freq": 2, "validation_split": 0}, "validation_freq needs validation_data"),
    ],
)
def test_limits_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        fit(trainer_of(), 1, **({"validation_split": 0.2} | options))


def test_validation_every_third_epoch():
    trainer, each = trainer_of(), trainer_of()
    history = fit(trainer, 8, validation_split=0.2, validation_freq=3)
    every = fit(each, 8, validation_split=0.2)
    assert history["loss"] == every["loss"]
    assert history["val_loss"] == every["val_loss"][2::3]
    assert history.epochs_of("val_loss") == [2, 5]
    assert history.epochs_of("loss") == list(range(8))
    assert history.diagnose().verdict == "too few epochs"


def test_callbacks_pass_over_epochs_that_are_not_validated():
    x, y = rows()
    trainer = trainer_of(optimizer="adam")
    stopping = dl.EarlyStopping("val_loss", mode="max", patience=2)  # the loss falls
    reduce = dl.ReduceLROnPlateau("val_loss", mode="max", patience=0)
    history = fit(
        trainer, 30, validation_data=(x, y), validation_freq=2, callbacks=[stopping, reduce]
    )
    assert (stopping.best_epoch, stopping.stopped_epoch) == (1, 5)
    assert reduce.reductions == [3, 5]
    assert len(history["val_loss"]) == 3


def test_the_plot_of_what_some_epochs_log(tmp_path):
    pytest.importorskip("matplotlib")
    stopping = dl.EarlyStopping("val_loss", patience=9)
    history = fit(trainer_of(callbacks=[stopping]), 8, validation_split=0.2, validation_freq=3)
    lines = history.plot(tmp_path / "curves.png").axes[0].lines
    drawn = {line.get_label(): list(line.get_xdata()) for line in lines}
    assert drawn["validation"] == [3, 6]
    assert drawn["training"] == list(range(1, 9))


def test_an_estimator_is_stopped_after_a_batch():
    pytest.importorskip("sklearn")
    from dlcore.sklearn import MLPRegressor

    class Stop(Hears):
        def on_batch_end(self, batch, logs):
            super().on_batch_end(batch, logs)
            if batch == 1:
                self.trainer.stop("enough")

    stop = Stop()
    model = MLPRegressor(
        hidden_layer_sizes=(5,), batch_size=20, max_iter=5, callbacks=[stop], random_state=0
    )
    model.fit(rows()[0], rows()[0][:, 0])
    assert [batch for batch, _ in stop.batches] == [0, 1]
    assert (model.history_.reason, model.n_iter_) == ("enough", 1)
