"""`diagnose`: curves of each kind, each threshold at its edge, and real fits."""

import dataclasses
import math

import numpy as np
import pytest

import dlcore as dl
from dlcore.callbacks._diagnosis import diagnose

EPOCHS = np.arange(40)


def history_of(training, validation=None):
    history = dl.History()
    for epoch, loss in enumerate(training):
        logs = {"loss": float(loss)}
        if validation is not None:
            logs["val_loss"] = float(validation[epoch])
        history.record(epoch, logs)
    return history


def decay(start, end, epochs=40, time=4.0):
    return end + (start - end) * np.exp(-np.arange(epochs) / time)


def jitter(size, epochs=40, seed=0):
    return np.random.default_rng(seed).normal(0, size, epochs)


CURVES = {
    "good fit": (decay(2.3, 0.1), decay(2.3, 0.15)),
    "good fit, validation below training, as with dropout": (decay(2.3, 0.4), decay(2.3, 0.3)),
    "good fit with some jitter": (decay(2.3, 0.1) + jitter(0.02), decay(2.3, 0.15) + jitter(0.04)),
    "good fit that ends at a noise floor": (decay(5.0, 1.0), decay(5.0, 1.05)),
    "good fit whose validation rows are harder": (decay(2.0, 0.5), decay(4.0, 2.4)),
    "good fit of tiny losses that still shrink": (decay(2.3, 0, 40, 6), decay(2.3, 0.001, 40, 6)),
    "overfitting: validation rises": (decay(2.3, 0.0), decay(2.3, 0.3) + 0.02 * EPOCHS),
    "overfitting from the first epoch": (decay(0.7, 0.0, time=10), 0.7 + 0.03 * EPOCHS),
    "overfitting with jitter": (
        decay(2.3, 0.0) + jitter(0.02),
        decay(2.3, 0.3) + 0.02 * EPOCHS + jitter(0.05),
    ),
    "overfitting: a gap opens": (decay(2.3, 0.2), decay(2.3, 0.9)),
    "underfitting": (decay(0.726, 0.6931), decay(0.72, 0.6940)),
    "underfitting with jitter": (decay(0.75, 0.69) + jitter(0.01), decay(0.75, 0.7) + jitter(0.02)),
    "underfitting with a drift too slow to see": (0.7 - 2e-4 * EPOCHS, 0.7 - 2e-4 * EPOCHS),
    "still improving": (decay(2.3, 0.1, time=30), decay(2.3, 0.1, time=30)),
    "still improving in a straight line": (0.7 - 0.005 * EPOCHS, 0.7 - 0.005 * EPOCHS),
    "still improving, though apart": (decay(2.3, 0.2, time=20), decay(2.3, 0.6, time=20)),
    "diverging": (0.5 + 0.05 * EPOCHS, 0.5 + 0.06 * EPOCHS),
    "diverging after a good start": (decay(2.3, 0.1) + 0.002 * EPOCHS**2, decay(2.3, 0.2)),
    "diverging to nan": (decay(2.3, 0.1), np.where(EPOCHS < 30, 1.0, math.nan)),
    "too noisy": (decay(2.3, 0.5) + jitter(0.4), decay(2.3, 0.5) + jitter(0.4, seed=1)),
    "no validation data": (decay(2.3, 0.1), None),
    "underfitting, without validation": (decay(0.726, 0.6931), None),
    "still improving, without validation": (decay(2.3, 0.1, time=30), None),
    "too noisy, without validation": (decay(2.3, 0.5) + jitter(0.4, seed=1), None),
    "diverging, without validation": (0.5 + 0.05 * EPOCHS, None),
    "too few epochs": (decay(2.3, 0.1, 4), decay(2.3, 0.2, 4)),
}


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])
def test_curves_of_each_kind(name, scale):
    training, validation = CURVES[name]
    scaled = None if validation is None else scale * validation
    verdict = diagnose(history_of(scale * training, scaled)).verdict
    assert name.startswith(verdict), verdict


@pytest.mark.parametrize("epochs", [5, 8, 12, 25, 200])
def test_short_and_long_fits(epochs):
    time = epochs / 10
    good = history_of(decay(2.3, 0.1, epochs, time), decay(2.3, 0.15, epochs, time))
    rising = decay(2.3, 0.3, epochs, time / 2) + np.linspace(0, 0.8, epochs)
    over = history_of(decay(2.3, 0.0, epochs, time), rising)
    line = np.linspace(0.7, 0.5, epochs)
    assert diagnose(good).verdict == "good fit"
    assert diagnose(over).verdict == "overfitting"
    assert diagnose(history_of(line, line)).verdict == "still improving"
    assert diagnose(history_of(line[::-1], line)).verdict == "diverging"


def test_the_numbers_by_hand():
    training = [2.0, 1.0, 0.8, 0.6, 0.4, 0.5]
    validation = [2.2, 1.2, 1.0, 1.1, 1.2, 1.5]
    result = diagnose(history_of(training, validation), noise=1.0)
    # Second differences of the last 4: 0, 0.3 (training) and 0, 0.2 (validation).
    noise = math.sqrt((0.3**2 + 0.0) / 2 / 6) / 2.0
    slope = (1.5 - 1.1) / 2  # of the line through 1.1, 1.2, 1.5
    expected = {
        "epochs": 6,
        "reference": 2.0,
        "training_first": 2.0,
        "training_end": 0.5,
        "training_min": 0.4,
        "improvement": 1.5 / 2.0,
        "noise": noise,
        "fall": -2 * slope / (2.2 - 1.5),
        "best_epoch": 2,
        "validation_min": 1.0,
        "validation_end": 1.5,
        "rise": 0.5,
        "gap_best": 1.0 - 0.8,
        "gap_end": 1.0,
        "relative_gap": 1.0 / 0.5,
        "gap_opened": 1.0 - 0.2,
    }
    assert result.numbers == pytest.approx(expected)
    assert result.verdict == "overfitting"
    assert str(result) == (
        "Overfitting: after its smallest value 1 in epoch 3 the validation loss rose by 50% to "
        "1.5, while the training loss fell from 0.8 to 0.5. Try early stopping, more or augmented "
        "data, dropout, weight decay or a smaller network."
    )


RISING = np.linspace(1, 1.2, 20)


@pytest.mark.parametrize(
    ("curves", "option", "below", "verdicts"),
    [
        (
            history_of(decay(2, 1.05), np.r_[decay(2, 1, 20, 1), RISING]),
            "rise",
            0.18,
            ("over", "good"),
        ),
        (history_of(decay(1, 0.7), decay(1, 0.7)), "improvement", 0.299, ("good fit", "underfitt")),
        (history_of(decay(1, 0.1), decay(1, 0.3)), "gap", 0.199, ("overfitting", "good fit")),
        (history_of(decay(1, 0.4), decay(1, 0.6)), "relative_gap", 0.49, ("overfitting", "good")),
        (
            history_of(decay(1, 0.1, time=10), decay(1, 0.1, time=10)),
            "fall",
            0.0208,
            ("still", "go"),
        ),
        (history_of(decay(1, 0.1) + jitter(0.05)), "noise", 0.02, ("too noisy", "no validation")),
    ],
)
def test_each_threshold_decides(curves, option, below, verdicts):
    for value, expected in zip((below, below * 2), verdicts, strict=True):
        verdict = diagnose(curves, **{option: value}).verdict
        assert verdict.startswith(expected), (option, value, verdict)


@pytest.mark.parametrize("seed", range(1, 8))
def test_the_luckiest_epoch_of_a_jumping_curve_is_no_minimum(seed):
    level = decay(2.3, 0.15) + jitter(0.06, seed=seed)
    assert diagnose(history_of(decay(2.3, 0.1), level)).verdict == "good fit"
    flat = decay(0.72, 0.69) + jitter(0.05, seed=seed)
    assert diagnose(history_of(flat, flat + 0.01)).verdict != "diverging"


def test_a_rise_that_cannot_be_seen_does_not_count():
    # A third more than the smallest value, but a hundredth of what was won.
    validation = np.r_[decay(2.3, 0.05, 20, 3), np.linspace(0.05, 0.066, 20)]
    history = history_of(decay(2.3, 0.01), validation)
    assert diagnose(history).verdict == "good fit"
    assert diagnose(history, visible=0.005).verdict == "overfitting"


def test_a_baseline_replaces_the_first_loss():
    history = history_of(decay(0.9, 0.69), decay(0.9, 0.695))
    assert diagnose(history).verdict == "good fit"
    result = diagnose(history, baseline=math.log(2))
    assert result.verdict == "underfitting"
    assert "0.5% below the baseline 0.6931" in str(result)


def test_the_first_logged_iterations_are_a_reference():
    history = history_of(decay(0.11, 0.1), decay(0.11, 0.1))
    assert diagnose(history).verdict == "underfitting"
    history.record_iterations([10, 20], [2.3, 0.5], [0.1, 0.1])
    result = diagnose(history)
    assert (result.verdict, result.numbers["reference"]) == ("good fit", 2.3)


def test_a_target_that_is_not_reached():
    history = history_of(decay(2.3, 0.5), decay(2.3, 0.5))
    assert diagnose(history, target_loss=0.51).verdict == "good fit"
    result = diagnose(history, target_loss=0.4)
    assert result.verdict == "underfitting"
    assert "ended at 0.5002, above the target 0.4; the validation loss at 0.5002." in str(result)


def test_losses_that_are_negative_or_zero():
    assert diagnose(history_of(decay(-1, -5), decay(-1, -4.9))).verdict == "good fit"
    assert diagnose(history_of(np.zeros(10), np.zeros(10))).verdict == "underfitting"
    fell_to_zero = np.maximum(decay(2.3, -0.1), 0)
    assert diagnose(history_of(fell_to_zero, fell_to_zero)).verdict == "good fit"


def test_a_diagnosis_is_a_frozen_record():
    result = diagnose(history_of(*CURVES["good fit"]))
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.verdict = "great"
    assert str(result).startswith("Good fit: the training loss has levelled off at 0.1002, the val")


@pytest.mark.parametrize("epochs", [0, 1, 4])
def test_too_few_epochs(epochs):
    history = history_of(np.ones(epochs))
    if epochs == 0:
        history["loss"] = []
    result = diagnose(history)
    assert result.verdict == "too few epochs"
    assert f"only {epochs} epoch{'' if epochs == 1 else 's'}, 5 are needed" in str(result)


# ---- real fits


def fit(x, y, layers, epochs=80, lr=1e-2):
    model = dl.Sequential(*layers, dtype=np.float64, seed=0)
    optimizer = dl.Adam(model.parameters(), lr=lr)
    trainer = dl.Trainer(model, loss="cross_entropy", optimizer=optimizer, seed=0)
    half = len(x) // 2
    return trainer.fit(
        x[:half], y[:half], epochs=epochs, validation_data=(x[half:], y[half:]), verbose=0
    )


def rings(n=300):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, n)
    angle, radius = rng.uniform(0, 2 * np.pi, n), 0.5 + y + rng.normal(0, 0.1, n)
    return np.c_[radius * np.cos(angle), radius * np.sin(angle)], y


def test_a_network_overfits_labels_that_are_noise():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 10)), rng.integers(0, 2, 200)
    result = fit(x, y, [dl.Linear(10, 64), dl.ReLU(), dl.Linear(64, 2)]).diagnose()
    assert result.verdict == "overfitting"
    assert result.numbers["rise"] > 0.5


def test_a_linear_model_underfits_rings():
    result = fit(*rings(), [dl.Linear(2, 2)]).diagnose()
    assert result.verdict == "underfitting"
    assert result.numbers["training_end"] == pytest.approx(math.log(2), abs=0.02)


def test_a_network_fits_rings_well():
    result = fit(*rings(), [dl.Linear(2, 16), dl.ReLU(), dl.Linear(16, 2)]).diagnose()
    assert result.verdict == "good fit"
    assert result.numbers["validation_end"] < 0.1


def test_a_small_learning_rate_is_still_improving():
    layers = [dl.Linear(2, 16), dl.ReLU(), dl.Linear(16, 2)]
    assert fit(*rings(), layers, lr=5e-4).diagnose().verdict == "still improving"


# ---- curves as they are seen in public, whose answers are known


def public_curves(seed):
    """Give the answer, a name, and noisy curves of training and validation."""
    rng = np.random.default_rng(seed)
    n = np.arange(60)

    def curve(start, end, time, noise, epochs=60, since=None, slope=0.0):
        e = np.arange(epochs)
        rise = 0.0 if since is None else slope * np.maximum(0, e - since)
        return decay(start, end, epochs, time) + rise + rng.normal(0, noise, epochs)

    yield (
        "overfitting",
        "reviews of films: the validation is past its minimum after a fifth of the epochs",
        curve(0.69, 0.05, 6, 0.004, 30),
        curve(0.69, 0.28, 2, 0.008, 30, since=6, slope=0.012),
    )
    yield (
        "overfitting",
        "a third of the gap came since the minimum",
        curve(2.3, 1.0, 18, 0.01),
        curve(2.3, 1.3, 8, 0.015, since=28, slope=0.0055),
    )
    yield (
        "overfitting",
        "the same, of a language model, whose loss stays large",
        curve(6.0, 3.0, 15, 0.01),
        curve(5.9, 3.9, 6, 0.015, since=22, slope=0.01),
    )
    yield (
        "overfitting",
        "a regression that rises slowly for long",
        curve(1.0, 0.02, 15, 0.003, 100),
        curve(1.0, 0.12, 10, 0.006, 100, since=35, slope=0.0012),
    )
    yield (
        "overfitting",
        "a long and noisy fit",
        curve(2.3, 0.02, 40, 0.01, 300),
        curve(2.3, 0.6, 20, 0.03, 300, since=60, slope=0.001),
    )
    yield (
        "underfitting",
        "flat",
        0.6931 - 2e-4 * n + rng.normal(0, 0.002, 60),
        0.694 + rng.normal(0, 0.004, 60),
    )
    yield ("still improving", "", curve(2.3, 0.3, 50, 0.01), curve(2.3, 0.35, 50, 0.02))
    yield ("good fit", "", curve(2.3, 0.2, 7, 0.004), curve(2.3, 0.25, 7, 0.008))
    yield ("good fit", "of a noisy validation", curve(2.3, 0.2, 9, 0.02), curve(2.3, 0.27, 6, 0.05))
    yield ("good fit", "dropout", curve(2.3, 0.5, 7, 0.02), curve(2.3, 0.35, 7, 0.02))
    yield (
        "diverging",
        "after a good beginning",
        curve(2.3, 0.5, 5, 0.02) + 0.004 * np.maximum(0, n - 30) ** 2,
        curve(2.3, 0.6, 5, 0.02) + 0.004 * np.maximum(0, n - 30) ** 2,
    )
    yield (
        "too noisy",
        "too high a learning rate: it jumps and does not come down",
        1.2 + 0.4 * rng.choice([-1.0, 1.0], 60) + rng.normal(0, 0.1, 60),
        1.3 + 0.4 * rng.choice([-1.0, 1.0], 60) + rng.normal(0, 0.1, 60),
    )
    yield (
        "unrepresentative validation",
        "of a few rows: it alone jumps",
        curve(2.3, 0.2, 7, 0.01),
        curve(2.3, 0.6, 7, 0.01) + 0.4 * rng.choice([-1.0, 1.0], 60),
    )
    yield (
        "unrepresentative validation",
        "of rows that are easier",
        curve(2.3, 1.0, 7, 0.01),
        curve(1.0, 0.2, 5, 0.01),
    )
    yield (
        "overfitting",
        "a gap that stays open",
        curve(2.3, 0.1, 8, 0.01),
        curve(2.3, 0.8, 5, 0.02),
    )


@pytest.mark.parametrize("seed", range(20))
def test_public_curves_whose_answers_are_known(seed):
    for answer, name, training, validation in public_curves(seed):
        diagnosis = diagnose(history_of(training, validation))
        assert diagnosis.verdict == answer, (name, str(diagnosis))


def test_what_is_said_of_a_validation_past_its_minimum():
    training = np.linspace(1.0, 0.4, 30)
    validation = np.r_[np.linspace(1.0, 0.7, 15), np.linspace(0.7, 0.8, 15)]
    history = history_of(training, validation)
    assert "rose" in str(diagnose(history))
    assert diagnose(history).verdict == "overfitting"
    # A tenth of the smallest value would be needed without the gap.
    result = diagnose(history, rise=0.5, rise_share=10.0, gap=10.0)
    assert result.verdict != "overfitting"


def test_advice_on_a_validation_that_tells_little():
    by_name = {name: curves for answer, name, *curves in public_curves(0)}
    jumping = diagnose(history_of(*by_name["of a few rows: it alone jumps"]))
    assert "the validation loss alone jumps by about" in jumping.reason
    easier = diagnose(history_of(*by_name["of rows that are easier"]))
    assert "its rows are easier" in easier.reason
    assert "Validate on more rows" in str(easier)


def test_epochs_that_were_not_validated_do_not_count():
    _, _, training, validation = next(public_curves(0))
    whole, sparse = dl.History(), dl.History()
    for epoch in range(30):
        logs = {"loss": training[epoch]}
        if epoch % 2:
            logs["val_loss"] = validation[epoch]
            whole.record(epoch, logs)
        sparse.record(epoch, logs)
    assert sparse.diagnose() == whole.diagnose()
