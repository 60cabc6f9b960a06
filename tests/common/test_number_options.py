"""What is a number is one everywhere: in callbacks, schedules, losses, layers and optimizers."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

import dlcore as dl

HALVES = [
    *(Fraction(1, 2), Decimal("0.5"), np.float16(0.5), np.float32(0.5), np.longdouble(0.5)),
    *(np.array(0.5), np.array(0.5, np.float32), np.array(Fraction(1, 2))),
]
NO_NUMBERS = [
    *("0.5", b"0.5", float, [0.5], {}, 0.5j, np.complex64(0.5), np.str_("0.5")),
    *(np.array([0.5]), np.array("0.5"), np.array(0.5j), np.datetime64("NaT", "s")),
    *(np.array(None), Decimal("sNaN")),
]
NAMES = {
    "min_delta": lambda v: dl.EarlyStopping(min_delta=v),
    "baseline": lambda v: dl.EarlyStopping(baseline=v),
    "stopping_threshold": lambda v: dl.EarlyStopping(stopping_threshold=v),
    "divergence_threshold": lambda v: dl.EarlyStopping(divergence_threshold=v),
    "factor": lambda v: dl.ReduceLROnPlateau(factor=v),
    "threshold": lambda v: dl.ReduceLROnPlateau(threshold=v),
    "min_lr": lambda v: dl.ReduceLROnPlateau(min_lr=v),
    "eps": lambda v: dl.ReduceLROnPlateau(eps=v),
    "decay": lambda v: dl.ExponentialMovingAverage(v),
    "every": lambda v: dl.ModelCheckpoint("x", every=v, unit="minutes"),
    "gamma": lambda v: dl.ExponentialLR(v),
    "label_smoothing": lambda v: dl.CrossEntropyLoss(label_smoothing=v),
    "delta": lambda v: dl.HuberLoss(v),
    "p": lambda v: dl.Dropout(v),
    "alpha": lambda v: dl.ELU(v),
    "negative_slope": lambda v: dl.LeakyReLU(v),
    "beta": lambda v: dl.Softplus(v),
    "low": lambda v: dl.Range(v, 1),
    "lr": lambda v: dl.SGD([np.ones(2)], v),
}
# What False and True, or None, are values of.
TAKE_TRUTH = "lr", "low", "alpha", "negative_slope"
TAKE_NONE = "baseline", "stopping_threshold", "divergence_threshold"


@pytest.mark.parametrize("name", NAMES)
def test_what_has_a_float_value_is_a_number(name):
    for value in HALVES:
        number = getattr(NAMES[name](value), name)
        assert (number, type(number)) == (0.5, float)


@pytest.mark.parametrize("name", NAMES)
def test_what_has_none_is_refused(name):
    truths = () if name in TAKE_TRUTH else (True, np.True_, np.array(True))
    nothing = () if name in TAKE_NONE else (None,)
    for value in (*NO_NUMBERS, *truths, *nothing):
        with pytest.raises((TypeError, ValueError), match=name):
            NAMES[name](value)


@pytest.mark.parametrize("half", HALVES)
def test_early_stopping_by_any_number(half):
    x, y = np.ones((4, 3), np.float32), np.array([0, 1, 0, 1])
    for name in ("min_delta", *TAKE_NONE):
        model = dl.Sequential(dl.Linear(3, 2), seed=0)
        mode = "max" if name == "stopping_threshold" else "min"
        stopping = dl.EarlyStopping("loss", mode=mode, patience=1, **{name: half})
        dl.Trainer(model, loss="cross_entropy", callbacks=[stopping]).fit(x, y, epochs=3, verbose=0)
        assert stopping.reason


@pytest.mark.parametrize("name", ["min_delta", *TAKE_NONE])
def test_thresholds_that_no_value_passes(name):
    with pytest.raises(ValueError, match=f"EarlyStopping: {name} must be a number in .*, not nan"):
        dl.EarlyStopping(**{name: np.nan})


@pytest.mark.parametrize("name", ["patience", "start_from_epoch"])
def test_epochs_are_counted_by_integers(name):
    for value in (2.5, -1, "1", None, True, np.nan, np.array([1, 2])):
        match = f"EarlyStopping: {name} must be an integer and at least 0, not"
        with pytest.raises(ValueError, match=match):
            dl.EarlyStopping(**{name: value})
