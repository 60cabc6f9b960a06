"""However a fit ends: callbacks hear of it, the best weights are kept, names that do nothing are said."""

import numpy as np
import pytest
from test_callbacks import fit, scripted_trainer

import dlcore as dl


class Note(dl.Callback):
    def __init__(self, fails_in=()):
        self.calls, self.fails_in = [], fails_in

    def _note(self, name):
        self.calls.append(name)
        if name in self.fails_in:
            raise OSError(name)

    def on_fit_begin(self):
        self._note("begin")

    def on_epoch_end(self, epoch, logs):  # noqa: ARG002
        self._note("epoch")

    def on_exception(self, exception):
        self.error = exception
        self._note("exception")

    def on_fit_end(self):
        self._note("end")


class Raise(dl.Callback):
    def __init__(self, error, at=2, hook="on_epoch_end"):
        self.error, self.at, self.hook = error, at, hook

    def on_epoch_begin(self, epoch):
        self._raise("on_epoch_begin", epoch)

    def on_batch_end(self, batch, logs):  # noqa: ARG002
        self._raise("on_batch_end", len(self.trainer.history.epoch))

    def on_epoch_end(self, epoch, logs):  # noqa: ARG002
        self._raise("on_epoch_end", epoch)

    def _raise(self, hook, epoch):
        if hook == self.hook and epoch == self.at:
            raise self.error


ERRORS = [KeyboardInterrupt(), SystemExit(), OSError("the server is gone"), StopIteration()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("hook", ["on_epoch_begin", "on_batch_end", "on_epoch_end"])
def test_an_exception_leaves_the_best_weights_and_tells_all(error, hook):
    """keras#12511, keras#23354."""
    note, stopping = Note(), dl.EarlyStopping("error", patience=9)
    trainer = scripted_trainer([5, 2, 3, 4], note, stopping, Raise(error, hook=hook))
    with pytest.raises(BaseException) as raised:  # noqa: PT011 - of any type
        fit(trainer, 4)
    assert raised.value is error or isinstance(error, StopIteration)
    assert trainer.model.flat[0] == 2  # of the second epoch
    assert note.calls[-2:] == ["exception", "end"]
    assert note.error is raised.value
    assert raised.value.__notes__ == ["the parameters are those of epoch 2"]
    raised.value.__notes__.clear()
    assert trainer.history.best_epoch == 1
    fit(scripted_trainer([1]), 1)


def test_a_source_of_batches_that_fails():
    def batches():
        for i in range(5):
            if i == 3:
                raise OSError("the disk is gone")
            yield np.ones((1, 1)), np.full((1, 1), 1e6)

    note, stopping = Note(), dl.EarlyStopping("error", patience=9)
    trainer = scripted_trainer([1, 2, 3], note, stopping)
    fit(trainer, 1)
    with pytest.raises(OSError, match="disk"):
        trainer.fit(batches(), epochs=3, steps_per_epoch=2, verbose=0)
    assert trainer.model.flat[0] == 1 + 2  # after the first epoch of two batches
    assert note.calls == ["begin", "epoch", "end", "begin", "epoch", "exception", "end"]


def test_without_restore_best_the_weights_are_those_of_the_last_step():
    stopping = dl.EarlyStopping("error", patience=9, restore_best=False)
    trainer = scripted_trainer([5, 2, 3, 4], stopping, Raise(OSError()))
    with pytest.raises(OSError):  # noqa: PT011
        fit(trainer, 4)
    assert trainer.model.flat[0] == 3


def test_nothing_is_restored_before_the_first_epoch_or_of_an_earlier_fit():
    stopping = dl.EarlyStopping("error", patience=9)
    trainer = scripted_trainer([5, 2, 3], stopping)
    fit(trainer, 2)
    with pytest.raises(OSError):  # noqa: PT011
        fit(trainer, 1, callbacks=[Raise(OSError(), 0, "on_epoch_begin")])
    assert trainer.model.flat[0] == 2
    with pytest.raises(ValueError, match="monitors 'f1'"):
        fit(trainer, 1, callbacks=[dl.EarlyStopping("f1")])
    assert trainer.model.flat[0] == 2


def test_an_average_is_restored_as_well():
    seen = []

    class See(dl.Callback):
        def on_epoch_end(self, epoch, logs):  # noqa: ARG002
            seen.append(self.trainer.model.flat[0])

    stopping = dl.EarlyStopping("error", patience=9)
    average = dl.ExponentialMovingAverage(0.5)
    trainer = scripted_trainer([5, 2, 3, 4], stopping, average, See(), Raise(OSError(), 3))
    with pytest.raises(OSError):  # noqa: PT011
        fit(trainer, 4)
    assert trainer.model.flat[0] == seen[1]


def test_callbacks_that_had_not_begun_are_not_told():
    first, failing, last = Note(), Note(("begin",)), Note()
    with pytest.raises(OSError, match="begin"):
        fit(scripted_trainer([1], first, failing, last), 1)
    assert first.calls == ["begin", "exception", "end"]
    assert (failing.calls, last.calls) == (["begin"], [])


def test_all_are_told_even_if_one_fails():
    first, last = Note(("exception", "end")), Note()
    with pytest.raises(OSError, match="gone") as raised:
        fit(scripted_trainer([1, 2], first, Raise(OSError("gone"), 0), last), 2)
    assert last.calls == ["begin", "exception", "end"]
    assert ["OSError" in note for note in raised.value.__notes__] == [True, True]
    first, last = Note(("end",)), Note()
    with pytest.raises(OSError, match="end"):
        fit(scripted_trainer([1, 2], first, last), 2)
    assert last.calls[-1] == "end"


def test_stochastic_averaging_is_left_out_where_a_fit_is_broken_off():
    swa = dl.StochasticWeightAveraging(0)
    trainer = scripted_trainer([1, 2, 3], swa, Raise(KeyboardInterrupt(), 2))
    with pytest.raises(KeyboardInterrupt):
        fit(trainer, 3)
    assert trainer.model.flat[0] == 3
    fit(trainer, 0)


def test_an_estimator_tells_its_callbacks():
    pytest.importorskip("sklearn")
    from dlcore.sklearn import MLPRegressor

    x = np.random.default_rng(0).normal(size=(40, 2))
    note = Note()
    callbacks = [note, Raise(OSError("gone"), 1)]
    with pytest.raises(OSError, match="gone"):
        MLPRegressor(hidden_layer_sizes=(3,), callbacks=callbacks, random_state=0).fit(x, x[:, 0])
    assert note.calls == ["begin", "epoch", "epoch", "exception", "end"]
    note = Note()
    callbacks = [note, Raise(KeyboardInterrupt(), 1)]
    with pytest.warns(UserWarning, match="interrupted"):
        MLPRegressor(hidden_layer_sizes=(3,), callbacks=callbacks, random_state=0).fit(x, x[:, 0])
    assert note.calls == ["begin", "epoch", "epoch", "exception", "end"]


# ---- several that stop


@pytest.mark.parametrize("order", [1, -1])
def test_two_that_stop_agree(order):
    """The first that stops decides on weights, reason and best epoch."""
    short = dl.EarlyStopping("loss", mode="max", patience=2)  # the loss falls: best in epoch 1
    long = dl.EarlyStopping("error", patience=9)
    trainer = scripted_trainer([5, 2, 3, 4], *[short, long][::order])
    history = fit(trainer, 4)
    assert history.stopped_epoch == short.stopped_epoch == 2
    assert history.reason == short.reason
    assert history.reason.endswith("the parameters are those of epoch 1")
    assert (history.best_epoch, history.monitor, trainer.model.flat[0]) == (0, "loss", 1)


def test_two_that_stop_in_the_same_epoch():
    first = dl.EarlyStopping("error", patience=2)
    second = dl.EarlyStopping("loss", mode="max", patience=3)
    trainer = scripted_trainer([5, 2, 3, 4], first, second)
    history = fit(trainer, 4)
    assert (first.stopped_epoch, second.stopped_epoch) == (3, 3)
    assert history.reason == first.reason
    assert (history.best_epoch, history.monitor, trainer.model.flat[0]) == (1, "error", 2)
    for reason in (first.reason, second.reason):
        assert reason.endswith("; the parameters are those of epoch 2")


def test_one_that_stops_and_another_that_restores():
    stops = dl.EarlyStopping("loss", mode="max", patience=2, restore_best=False)
    restores = dl.EarlyStopping("error", patience=9)
    trainer = scripted_trainer([5, 2, 1], stops, restores)
    history = fit(trainer, 3)
    assert (history.best_epoch, trainer.model.flat[0]) == (2, 3)
    assert "parameters" not in history.reason
    trainer = scripted_trainer([5, 2, 3], stops, restores)
    history = fit(trainer, 3)
    assert (history.best_epoch, trainer.model.flat[0]) == (1, 2)
    assert history.reason == stops.reason
    assert history.reason.endswith("; the parameters are those of epoch 2")


def test_of_two_that_do_not_stop_the_last_decides():
    first, second = dl.EarlyStopping("error"), dl.EarlyStopping("loss", mode="max")
    trainer = scripted_trainer([5, 2, 3], first, second)
    history = fit(trainer, 3)
    assert (history.best_epoch, history.monitor, trainer.model.flat[0]) == (0, "loss", 1)


# ---- values that callbacks log


class Log(dl.Callback):
    def __init__(self, values, name="reward"):
        self.values, self.name = values, name

    def on_epoch_end(self, epoch, logs):
        if epoch in self.values:
            logs[self.name] = self.values[epoch]


def test_what_a_callback_logs_is_in_the_history():
    log = Log({0: 1.0, 1: np.float32(0.5), 2: 3})
    history = fit(scripted_trainer([1, 2, 3], log), 3)
    assert history["reward"] == [1.0, 0.5, 3.0]
    history = fit(scripted_trainer([1, 2, 3], Log({1: 4.0})), 3)
    assert (history["reward"], history.epochs_of("reward")) == ([4.0], [1])
    history = fit(scripted_trainer([1, 2], Log({1: 7.0}, "error")), 2)
    assert history["error"] == [1, 7.0]


@pytest.mark.parametrize(
    "watch", [dl.EarlyStopping, dl.ReduceLROnPlateau], ids=lambda kind: kind.__name__
)
def test_what_a_callback_logs_can_be_monitored(watch):
    log, watcher = Log({0: 1.0, 1: 3.0, 2: 2.0, 3: 2.0}), watch("reward", mode="max", patience=1)
    history = fit(scripted_trainer([1, 2, 3, 4], log, watcher), 4)
    if watch is dl.EarlyStopping:
        assert (watcher.best_epoch, watcher.stopped_epoch, history.monitor) == (1, 2, "reward")
    else:
        assert watcher.reductions == [3]


def test_a_value_that_no_callback_logs_is_named_after_the_first_epoch():
    trainer = scripted_trainer([1, 2, 3], Log({0: 1.0}), dl.EarlyStopping("rewards", mode="max"))
    with pytest.raises(ValueError, match="logs only loss, error, reward; did you mean 'reward'"):
        fit(trainer, 3)
    assert trainer.history.epoch == [0]
    trainer = scripted_trainer([1, 2, 3], dl.EarlyStopping("reward", mode="max"), Log({0: 1.0}))
    with pytest.raises(ValueError, match="a callback that logs it must stand before EarlyStopping"):
        fit(trainer, 3)


def test_a_value_that_is_no_number():
    with pytest.raises(TypeError, match=r"logs\['note'\] must be a number, got str"):
        fit(scripted_trainer([1], Log({0: "good"}, "note")), 1)


def test_a_name_that_is_nearly_one_of_the_logs():
    """The validation is there: it is the metric that is missing, or written otherwise."""
    x, y = np.ones((8, 2), np.float32), np.zeros(8, np.int64)
    model = dl.Sequential(dl.Linear(2, 2), seed=0)
    stopping = dl.EarlyStopping("val_acc")
    for metrics, hint in (
        (["accuracy"], "did you mean 'val_accuracy'"),
        (None, r"metrics=\['accuracy'\] of the trainer logs 'val_accuracy'"),
    ):
        trainer = dl.Trainer(model, loss="cross_entropy", metrics=metrics, callbacks=[stopping])
        with pytest.raises(ValueError, match=hint) as raised:
            trainer.fit(x, y, epochs=1, validation_data=(x, y), verbose=0)
        assert "validation_data" not in str(raised.value)


# ---- hooks of other names


@pytest.mark.parametrize(
    "name", ["on_train_begin", "on_epoch_ends", "on_train_batch_end", "on_validation_end", "on_end"]
)
def test_a_hook_that_is_never_called(name):
    kind = type("Mine", (dl.EarlyStopping,), {name: lambda *_: None})
    with pytest.raises(TypeError, match=rf"Mine.{name} would never be called.*on_batch_end"):
        scripted_trainer([1], kind("loss"))
    with pytest.raises(TypeError, match="would never be called"):
        fit(scripted_trainer([1]), 1, callbacks=[kind("loss")])


def test_other_names_of_what_is_called():
    class Mine(dl.Callback):
        on_off = True  # no method

        def __init__(self, on_done):
            self.on_done = on_done  # called by the callback itself

        def on_fit_end(self):
            self.on_done()

        on_teardown = on_fit_end

    called = []
    fit(scripted_trainer([1], Mine(lambda: called.append(1))), 1)
    assert called == [1]
