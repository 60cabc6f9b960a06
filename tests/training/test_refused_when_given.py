"""Strange losses, optimizers, metrics, callbacks and functions are refused when they are given."""

import functools

import numpy as np
import pytest

import dlcore as dl

X, Y = np.ones((6, 3), np.float32), np.arange(6) % 2


class NoStep:
    lr = 0.1


class StepOfNothing(NoStep):
    def step(self):
        """Take no gradients."""


class StepIsNoMethod(NoStep):
    step = 3


class Step(NoStep):
    def step(self, grads):
        """Do nothing."""


class NoRate:
    def step(self, grads):
        """Do nothing."""


class TextAsRate(Step):
    lr = "0.1"


class StrangeParams(Step):
    params = 3


class NamesAsParams(Step):
    params = ("0.weight",)


class NoUpdate(dl.Optimizer):
    def __init__(self):
        super().__init__([np.ones(3)], {"lr": 0.1})


class EmptyLoss(dl.Loss):
    pass


class LossOfOutputs(dl.Loss):
    def value_and_grad(self, outputs):
        """Take no targets."""


class LogsForgotten(dl.Callback):
    def on_epoch_end(self, epoch):
        """Take no logs."""


class HookOfTwo(dl.Callback):
    def on_fit_begin(self, trainer):
        """Take more than there is."""


class Early(dl.EarlyStopping):
    def on_epoch_end(self, logs):
        """Take no epoch."""


def error_of(y_true):
    return 0.0


STRANGE = [
    *(("optimizer", o()) for o in (object, NoStep, StepOfNothing, StepIsNoMethod, NoRate)),
    *(("optimizer", o()) for o in (TextAsRate, StrangeParams, NamesAsParams, NoUpdate)),
    *(("optimizer", o) for o in ({}, [], len, dl.SGD, np.ones(3), 3, True, b"sgd")),
    *(("loss", o) for o in (EmptyLoss(), LossOfOutputs(), dl.Loss(), {}, ["mse"], len, dl.SGD, 3)),
    *(("metrics", o) for o in (3, "mse", [3], [int], [len], [error_of], {"a": error_of}, [None])),
    ("metrics", [functools.partial(error_of, y_true=1)]),
    *(("callbacks", o) for o in (3, 0, False, "", "abc", {}, {"a": 1}, [3], [dl.EarlyStopping])),
    *(("callbacks", [o()]) for o in (LogsForgotten, HookOfTwo, Early)),
    *(("schedule", o) for o in (3, "cosine", int, {}, [3], lambda: 0.1, dl.ExponentialLR)),
]


def trainer(**options):
    model = dl.Sequential(dl.Linear(3, 2), seed=0)
    return dl.Trainer(model, **({"loss": "cross_entropy", "seed": 0} | options))


@pytest.mark.parametrize(("name", "value"), STRANGE)
def test_it_is_refused_when_given(name, value):
    word = name.rstrip("s")
    with pytest.raises((TypeError, ValueError), match=word):
        trainer(**{name: value})
    own = trainer()
    before = getattr(own, name)
    with pytest.raises((TypeError, ValueError), match=word):
        setattr(own, name, value)
    assert getattr(own, name) is before
    own.fit(X, Y, epochs=1, verbose=0)


@pytest.mark.parametrize("value", [v for n, v in STRANGE if n == "callbacks"])
def test_callbacks_of_a_fit(value):
    own = trainer()
    before = own.model.flat.copy()
    with pytest.raises(TypeError, match="callback"):
        own.fit(X, Y, epochs=1, verbose=0, callbacks=value)
    np.testing.assert_array_equal(own.model.flat, before)


@pytest.mark.parametrize("name", ["transform", "mix"])
@pytest.mark.parametrize("value", [3, "flip", {}, int, lambda: None, lambda x: x])
def test_functions_of_a_fit(name, value):
    own = trainer()
    before = own.model.flat.copy()
    with pytest.raises(TypeError, match=f"{name} must be a function of"):
        own.fit(X, Y, epochs=1, verbose=0, **{name: value})
    np.testing.assert_array_equal(own.model.flat, before)


def test_what_is_like_it_is_taken():
    class Rated(dl.Callback):
        on_epoch_end = staticmethod(lambda *_: None)

        def on_fit_begin(self, more=None):
            """Take nothing, or more."""

    def error(y_true, outputs, scale=1.0):
        return scale

    metrics = [error, functools.partial(error, scale=2.0)]
    own = trainer(
        optimizer=Step(),
        metrics={"a": metrics[0], "b": metrics[1], "c": lambda *_: 0.0},
        callbacks=(own for own in [Rated()]),
        schedule=lambda *_: 0.1,
    )
    history = own.fit(X, Y, epochs=1, verbose=0, callbacks=())
    assert history["b"] == [2.0]


@pytest.mark.parametrize("make", [dl.SGD, dl.Adam, dl.AdamW])
def test_optimizers_of_the_package_are_taken(make):
    model = dl.Sequential(dl.Linear(3, 2), seed=0)
    optimizer = make(model.parameters())
    assert dl.Trainer(model, loss="mse", optimizer=optimizer).optimizer is optimizer
