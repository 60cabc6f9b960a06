"""Epochs that nothing looks at one by one are one native run, and the same epochs."""

import signal
import threading

import numpy as np
import pytest

import dlcore as dl
from dlcore.training._batches import Batches

EPOCHS = 150


def data(rows, seed=1):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, 20), np.float32), rng.integers(0, 2, rows)


def plain():
    return dl.Linear(20, 24), dl.ReLU(), dl.Linear(24, 2)


def normalized():
    return dl.Linear(20, 24), dl.BatchNorm1d(24), dl.Tanh(), dl.Linear(24, 2)


def trainer_of(layers=plain, optimizer=dl.Adam, **options):
    model = dl.Sequential(*layers(), seed=0)
    own = optimizer(model.parameters())
    return dl.Trainer(model, loss="cross_entropy", optimizer=own, seed=0, **options)


def momentum(parameters):
    return dl.SGD(parameters, lr=0.1, momentum=0.9)


@pytest.fixture
def drawn(monkeypatch):
    """How many epochs each run of several was drawn for."""
    counts, epochs = [], Batches.epochs

    def draw(self, rng, count):
        counts.append(count)
        return epochs(self, rng, count)

    monkeypatch.setattr(Batches, "epochs", draw)
    return counts


@pytest.mark.parametrize(
    ("rows", "batch_size", "layers", "optimizer"),
    [
        (1, 1, plain, dl.Adam),
        (32, 32, plain, dl.Adam),
        (33, 8, plain, momentum),
        (32, 32, normalized, momentum),
        (90, 7, normalized, dl.Adam),
    ],
)
@pytest.mark.parametrize("options", [{}, {"clip_grad_norm": 0.1}])
@pytest.mark.parametrize("shuffle", [True, False])
def test_they_are_the_epochs_that_fits_of_one_make(
    drawn, rows, batch_size, layers, optimizer, options, shuffle
):
    x, y = data(rows)
    how = {"batch_size": batch_size, "shuffle": shuffle, "verbose": 0}
    one, many = (trainer_of(layers, optimizer, **options) for _ in range(2))
    losses = [one.fit(x, y, epochs=1, **how)["loss"][0] for _ in range(EPOCHS)]
    assert set(drawn) == {1}
    history = many.fit(x, y, epochs=EPOCHS, **how)
    assert max(drawn) > 1
    assert history["loss"] == losses
    np.testing.assert_array_equal(many.model.flat, one.model.flat)
    batches = -(-rows // batch_size)
    assert history.epoch == history.epochs_of("loss") == [*range(EPOCHS)]
    assert history.batches == [batches] * EPOCHS
    assert history.iteration == [batches * (epoch + 1) for epoch in range(EPOCHS)]
    assert many.fit(x, y, epochs=3, **how) == {
        "loss": [one.fit(x, y, epochs=1, **how)["loss"][0] for _ in range(3)]
    }


def test_a_schedule_that_follows_goes_on_after_them():
    x, y = data(32)
    trainers = [trainer_of() for _ in range(2)]
    rates = []
    for trainer, quiet in zip(trainers, (True, False), strict=True):
        trainer.fit(x, y, epochs=20, verbose=0, callbacks=[] if quiet else [dl.Callback()])
        rates.append((trainer._learning_rates._epochs, trainer._learning_rates._updates))
    assert rates[0] == rates[1] == (20, 20)


def as_it_is(batch, rng):
    return batch


class Custom(dl.MSELoss):
    def value_and_grad(self, outputs, y, *, reduction="mean", out=None):
        return super().value_and_grad(outputs, y, reduction=reduction, out=out)


@pytest.mark.parametrize(
    ("of_trainer", "of_fit"),
    [
        ({"callbacks": [dl.Callback()]}, {}),
        ({"metrics": ["accuracy"]}, {}),
        ({"schedule": (0.01).__add__}, {}),
        ({"schedule": dl.CosineAnnealingLR(50, per="iteration")}, {}),
        ({"accumulate": 2}, {}),
        ({}, {"callbacks": [dl.Callback()]}),
        ({}, {"validation_split": 0.25}),
        ({}, {"max_time": 60}),
        ({}, {"max_iterations": 1000}),
        ({}, {"log_every": 1}),
        ({}, {"verbose": 2}),
        ({}, {"sample_weight": np.linspace(0, 1, 32)}),
        ({}, {"transform": as_it_is}),
    ],
)
def test_what_looks_at_each_epoch_sees_each(drawn, of_trainer, of_fit):
    x, y = data(32)
    history = trainer_of(**of_trainer).fit(x, y, epochs=5, **({"verbose": 0} | of_fit))
    assert not drawn
    assert history.epoch == [*range(5)]


def test_layers_that_draw_and_losses_of_ones_own_take_epochs_one_by_one(drawn):
    x, y = data(32)

    def dropping():
        return dl.Linear(20, 8), dl.Dropout(0.5), dl.Linear(8, 2)

    trainer_of(dropping).fit(x, y, epochs=5, verbose=0)
    model = dl.Sequential(*plain(), seed=0)
    own = dl.Trainer(model, loss=Custom(), seed=0)
    own.fit(x, np.zeros((32, 2), np.float32), epochs=5, verbose=0)
    assert own._learning_rates._updates == 5
    assert not drawn


def test_wide_models_take_epochs_one_by_one(drawn):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((64, 512), np.float32), rng.integers(0, 2, 64)
    model = dl.Sequential(dl.Linear(512, 512), dl.ReLU(), dl.Linear(512, 2), seed=0)
    dl.Trainer(model, loss="cross_entropy", seed=0).fit(x, y, epochs=3, verbose=0)
    assert set(drawn) == {1}


@pytest.mark.parametrize("last", [0, 1, 17, 100])
def test_a_divergence_names_its_epoch_and_step_and_leaves_those_before(drawn, last):
    """The rate is so large that a weight overflows after some updates, whichever way they come."""
    x, y = data(20)
    messages, histories, flats, states = [], [], [], []
    for callbacks in ([], [dl.Callback()]):
        trainer = trainer_of(optimizer=lambda p: dl.SGD(p, lr=0.1))
        trainer.fit(x, y, epochs=last, batch_size=8, verbose=0)
        trainer.optimizer.lr = 1e30
        with pytest.raises(FloatingPointError) as raised:
            trainer.fit(x, y, epochs=90, batch_size=8, verbose=0, callbacks=callbacks)
        messages.append(str(raised.value))
        histories.append((dict(trainer.history), trainer.history.iteration))
        flats.append(trainer.model.flat.copy())
        states.append(trainer._shuffle_rng.bit_generator.state)
    assert "in epoch" in messages[0]
    assert messages[0] == messages[1]
    assert histories[0] == histories[1]
    np.testing.assert_array_equal(flats[0], flats[1])
    assert states[0] == states[1]


def test_rows_that_are_not_finite_are_named(drawn):
    x, y = data(16)
    trainer = trainer_of()
    trainer.fit(x, y, epochs=2, batch_size=8, verbose=0)
    x[11, 3] = np.nan
    with pytest.raises(FloatingPointError, match=r"^x\[11, 3\] is nan in epoch 1, step [12]: "):
        trainer.fit(x, y, epochs=30, batch_size=8, verbose=0)
    assert trainer.history == {}


def test_an_interrupt_leaves_the_history_with_what_the_model_has_learned(drawn):
    """As many optimizer steps as epochs in the history, but for the one that it came in."""
    x, y = data(32)
    trainer = trainer_of()
    trainer.fit(x, y, epochs=2, verbose=0)
    before = trainer.optimizer.steps
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(x, y, epochs=10**8, verbose=0)
    timer.join()
    history, made = trainer.history, trainer.optimizer.steps - before
    assert max(drawn) > 1
    assert made - 1 <= len(history["loss"]) <= made
    assert history.epoch == [*range(len(history["loss"]))]
    assert history.iteration == [epoch + 1 for epoch in history.epoch]
    assert trainer._learning_rates._epochs - 2 == len(history["loss"])
    assert np.isfinite(trainer.model.flat).all()
    trainer.fit(x, y, epochs=1, verbose=0)


def test_another_thread_changes_settings_and_stops_the_fit(drawn):
    x, y = data(32)
    trainer = trainer_of(optimizer=lambda p: dl.SGD(p, lr=0.1))
    seen = []

    def change():
        trainer.optimizer.lr = 0.0
        threading.Event().wait(0.2)
        seen.append(trainer.model.flat.copy())
        threading.Event().wait(0.2)
        seen.append(trainer.model.flat.copy())
        trainer.stop("enough")

    timer = threading.Timer(0.2, change)
    timer.start()
    history = trainer.fit(x, y, epochs=10**8, verbose=0)
    timer.join()
    assert max(drawn) > 1
    np.testing.assert_array_equal(*seen)
    assert history.reason == "enough"
    assert history.stopped_epoch == history.epoch[-1] == len(history.epoch) - 1
