"""Callbacks: when they are called, and when `EarlyStopping` stops on scripted values."""

import math

import numpy as np
import pytest

import dlcore as dl

NAN, INF = math.nan, math.inf


def scripted_trainer(values, *callbacks, name="error"):
    """Fits log the next value each epoch; the only weight is the number of epochs trained.

    The loss |w - 1e6| has the gradient -1, and the learning rate is 1.
    """
    script = iter(values)

    def metric(y_true, outputs):
        return next(script)

    metric.__name__ = name
    model = dl.Sequential(dl.Linear(1, 1, bias=False), dtype=np.float64)
    model.flat[:] = 0
    optimizer = dl.SGD(model.parameters(), lr=1.0)
    return dl.Trainer(
        model, loss="l1", optimizer=optimizer, metrics=[metric], callbacks=list(callbacks)
    )


def fit(trainer, epochs, **options):
    return trainer.fit(np.ones((1, 1)), np.full(1, 1e6), epochs=epochs, verbose=0, **options)


def run(values, **options):
    """Fit with EarlyStopping on these values; return it, the history and the final weight."""
    name = options.pop("monitor", "error")
    stopping = dl.EarlyStopping(name, **options)
    trainer = scripted_trainer(values, stopping, name=name)
    history = fit(trainer, len(values))
    assert history.stopped_epoch == stopping.stopped_epoch
    assert history.best_epoch == stopping.best_epoch
    assert history.reason == stopping.reason
    assert (stopping.reason is None) == (stopping.stopped_epoch is None)
    return stopping, history, trainer.model.flat[0]


# ---- callbacks in general


def test_callbacks_are_called_in_order():
    calls = []

    class Recorder(dl.Callback):
        def __init__(self, name):
            self.name = name

        def on_fit_begin(self):
            calls.append((self.name, "fit begins", self.trainer.log_names))

        def on_epoch_begin(self, epoch):
            calls.append((self.name, "epoch begins", epoch, self.trainer.model.flat[0]))

        def on_epoch_end(self, epoch, logs):
            calls.append((self.name, "epoch ends", epoch, self.trainer.model.flat[0], logs))

        def on_fit_end(self):
            calls.append((self.name, "fit ends", len(self.trainer.history.epoch)))

    trainer = scripted_trainer([0.5, 0.25], Recorder("a"))
    fit(trainer, 2, callbacks=[Recorder("b")])
    logs = [{"loss": 1e6, "error": 0.5}, {"loss": 1e6 - 1, "error": 0.25}]
    expected = [("fit begins", ["loss", "error"])]
    for epoch in (0, 1):
        expected.append(("epoch begins", epoch, epoch))
        expected.append(("epoch ends", epoch, epoch + 1, logs[epoch]))
    expected.append(("fit ends", 2))
    assert calls == [(name, *call) for call in expected for name in "ab"]
    fit(scripted_trainer([1.0]), 1)  # callbacks of one fit stay with it
    assert len(calls) == 2 * len(expected)


def test_any_callback_may_stop_the_fit():
    class Stop(dl.Callback):
        def on_epoch_end(self, epoch, logs):  # noqa: ARG002
            if logs["error"] > 1:
                self.trainer.stop("that is enough")

    trainer = scripted_trainer([0, 0, 2, 0, 0], Stop())
    history = fit(trainer, 5)
    assert history["error"] == [0, 0, 2]
    assert (history.stopped_epoch, history.reason) == (2, "that is enough")
    assert fit(scripted_trainer([0, 0]), 2).stopped_epoch is None


def test_an_exception_in_a_callback_ends_the_fit():
    class Fail(dl.Callback):
        def on_epoch_end(self, epoch, logs):  # noqa: ARG002
            raise RuntimeError("broken")

    trainer = scripted_trainer([1, 2], Fail())
    with pytest.raises(RuntimeError, match="broken"):
        fit(trainer, 2)
    assert trainer.history.epoch == [0]


# ---- patience


def test_stops_after_patience_epochs_without_improvement():
    stopping, history, weight = run([5, 4, 3, 3, 3.5, 3.1, 1], patience=3)
    assert history["error"] == [5, 4, 3, 3, 3.5, 3.1]
    assert (stopping.stopped_epoch, stopping.best_epoch, stopping.best) == (5, 2, 3)
    assert weight == 3  # of the third epoch
    assert stopping.reason == (
        "error has not improved for 3 epochs (best: 3 in epoch 3); the parameters are those of "
        "epoch 3"
    )


def test_an_improvement_starts_the_waiting_anew():
    stopping, history, _ = run([5, 6, 4, 6, 3, 6, 2], patience=2)
    assert stopping.stopped_epoch is None
    assert history.epoch == list(range(7))


@pytest.mark.parametrize("patience", [0, 1])
def test_patience_of_none_or_one_stops_at_the_first_failure(patience):
    stopping, _, _ = run([5, 4, 4, 3], patience=patience)
    assert (stopping.stopped_epoch, stopping.best_epoch) == (2, 1)
    assert "for 1 epoch (best" in stopping.reason


def test_the_best_weights_are_restored_at_the_end_even_without_a_stop():
    stopping, _, weight = run([5, 2, 3, 4], patience=10)
    assert (stopping.stopped_epoch, stopping.reason, stopping.best_epoch) == (None, None, 1)
    assert weight == 2


def test_the_last_weights_are_kept_on_request():
    stopping, _, weight = run([5, 2, 3, 4, 1], patience=2, restore_best=False)
    assert (stopping.stopped_epoch, weight) == (3, 4)
    assert "parameters" not in stopping.reason


def test_min_delta_is_what_an_improvement_must_exceed():
    stopping, _, weight = run([5, 4.5, 4.25, 4.0], patience=3, min_delta=1.0)
    assert (stopping.stopped_epoch, stopping.best_epoch, weight) == (3, 0, 1)
    assert "by more than 1" in stopping.reason
    assert run([5, 4.5, 4.25, 3.9], patience=3, min_delta=1.0)[0].best_epoch == 3
    up = run([1, 1.5, 2, 2.1], patience=3, min_delta=1.0, mode="max")[0]
    assert (up.stopped_epoch, up.best_epoch) == (None, 3)


# ---- mode


@pytest.mark.parametrize(
    ("monitor", "best"),
    [
        ("error", 0),
        ("mean_squared_error", 0),
        ("log_loss", 0),
        ("brier_score_loss", 0),
        ("accuracy", 3),
        ("balanced_accuracy", 3),
        ("r2_score", 3),
        ("roc_auc", 3),
        ("neg_log_loss", 3),
        ("neg_mean_squared_error", 3),
    ],
)
def test_auto_mode_tells_by_the_name(monitor, best):
    assert run([1, 2, 3, 4], monitor=monitor, patience=9)[0].best_epoch == best


def test_auto_mode_does_not_guess():
    with pytest.raises(ValueError, match=r"cannot tell .* 'margin' .* mode='min' or mode='max'"):
        dl.EarlyStopping("margin")
    assert run([1, 2, 1], monitor="margin", mode="max")[0].best_epoch == 1


# ---- baseline


def test_without_beating_the_baseline_the_waiting_goes_on():
    stopping, _, weight = run([5, 4, 3, 2, 1], patience=3, baseline=2.5)
    assert (stopping.stopped_epoch, stopping.best_epoch, weight) == (2, 2, 3)
    assert "on the baseline 2.5" in stopping.reason


def test_beating_the_baseline_in_time_ends_the_waiting():
    stopping, _, _ = run([5, 4, 2, 3, 3, 3, 1], patience=3, baseline=2.5)
    assert (stopping.stopped_epoch, stopping.best_epoch) == (5, 2)
    assert "baseline" not in stopping.reason


# ---- start_from_epoch


def test_epochs_before_the_start_are_not_looked_at():
    stopping, _, weight = run([1, NAN, 5, 4, 4, 4], patience=2, start_from_epoch=2)
    assert (stopping.stopped_epoch, stopping.best_epoch, weight) == (5, 3, 4)


# ---- thresholds and check_finite


def test_reaching_the_stopping_threshold_stops():
    stopping, _, weight = run([5, 3, 2, 1], stopping_threshold=2)
    assert (stopping.stopped_epoch, stopping.best_epoch, weight) == (2, 2, 3)
    assert stopping.reason == "error was 2, as good as the threshold 2"
    up = run([0.5, 0.95, 1.0, 1.0], monitor="accuracy", stopping_threshold=0.9, min_delta=0.5)
    assert (up[0].stopped_epoch, up[2]) == (1, 2)  # best, though not by min_delta


def test_passing_the_divergence_threshold_stops():
    stopping, _, weight = run([5, 3, 10, 10.5, 1], divergence_threshold=10, patience=9)
    assert (stopping.stopped_epoch, stopping.best_epoch, weight) == (3, 1, 2)
    assert stopping.reason.startswith("error was 10.5, worse than the threshold 10")
    up = run([0.5, 0.05], monitor="accuracy", divergence_threshold=0.1)[0]
    assert up.stopped_epoch == 1


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_values_that_are_not_finite_stop(value):
    stopping, _, weight = run([5, 3, value, 1])
    assert (stopping.stopped_epoch, stopping.best_epoch, weight) == (2, 1, 2)
    assert stopping.reason.startswith(f"error was {value}")


def test_a_first_value_that_is_not_finite_keeps_the_weights():
    stopping, _, weight = run([NAN, 1])
    assert (stopping.stopped_epoch, stopping.best_epoch, weight) == (0, None, 1)
    assert stopping.reason == "error was nan"


def test_values_that_are_not_finite_are_no_improvement():
    stopping, _, weight = run([NAN, INF, 3, NAN, NAN, 1], check_finite=False, patience=2)
    assert (stopping.stopped_epoch, stopping.best_epoch, weight) == (4, 2, 3)
    stopping, _, _ = run([NAN, NAN, NAN], check_finite=False, patience=2, stopping_threshold=1)
    assert (stopping.stopped_epoch, stopping.best_epoch) == (1, None)


# ---- around


def test_a_second_fit_starts_anew():
    stopping = dl.EarlyStopping("error", patience=1)
    trainer = scripted_trainer([1, 2, 9, 8, 7], stopping)
    fit(trainer, 2)
    assert (stopping.stopped_epoch, trainer.model.flat[0]) == (1, 1)
    history = fit(trainer, 3)
    assert (stopping.stopped_epoch, stopping.reason, stopping.best) == (None, None, 7)
    assert history["error"] == [9, 8, 7]
    assert trainer.model.flat[0] == 4


def test_a_value_that_is_not_logged_is_named_before_anything_is_trained():
    trainer = scripted_trainer([1, 2])
    with pytest.raises(
        ValueError, match=r"monitors 'val_loss', .* only loss, error; .*validation_split"
    ):
        fit(trainer, 2, callbacks=[dl.EarlyStopping()])
    with pytest.raises(ValueError, match="monitors 'accuracy', but this fit logs only loss, error"):
        fit(trainer, 2, callbacks=[dl.EarlyStopping("accuracy")])
    assert trainer.model.flat[0] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [({"mode": "least"}, "mode must be"), ({"patience": -1}, "patience must be an integer and")],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        dl.EarlyStopping(**options)


def test_real_validation_losses_stop_a_fit():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 10)).astype(np.float32)
    y = rng.integers(0, 2, 40)  # nothing to learn: the validation loss soon rises
    stopping = dl.EarlyStopping(patience=4)
    model = dl.Sequential(dl.Linear(10, 64), dl.ReLU(), dl.Linear(64, 2), seed=0)
    trainer = dl.Trainer(model, loss="cross_entropy", callbacks=[stopping], seed=0)
    history = trainer.fit(x, y, epochs=500, validation_split=0.25, verbose=0)
    best = int(np.argmin(history["val_loss"]))
    assert stopping.best_epoch == best
    assert stopping.stopped_epoch == best + 4 == history.epoch[-1]
    assert stopping.best == history["val_loss"][best]
