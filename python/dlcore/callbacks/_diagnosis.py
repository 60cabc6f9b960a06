"""What the curves of a fit show: overfitting, underfitting, a good fit, ..."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dlcore._common.protocols import Logs
    from dlcore._common.typing import Array

__all__ = ["Diagnosis", "diagnose"]

_ADVICE = {
    "too few epochs": "Train for more epochs before judging.",
    "diverging": "Try a smaller learning rate, or clip the gradients.",
    "overfitting": (
        "Try early stopping, more or augmented data, dropout, weight decay or a smaller network."
    ),
    "too noisy": "Try larger batches, a smaller learning rate, or more rows to validate on.",
    "unrepresentative validation": (
        "Validate on more rows, drawn at random like those of the training; dropout and augmentation "
        "make the training loss look larger, too."
    ),
    "still improving": "Train longer, or with a larger learning rate.",
    "underfitting": (
        "Try a larger network, better features, a larger learning rate or less regularization."
    ),
    "good fit": "More epochs of the same will change little.",
    "no validation data": (
        "Whether it holds for other rows cannot be told: pass validation_data or validation_split."
    ),
}


@dataclass(frozen=True)
class Diagnosis:
    """What the curves of a fit show; its text is ``str(diagnosis)``.

    Attributes
    ----------
    verdict : str
        "overfitting", "underfitting", "good fit", "still improving", "diverging", "too noisy",
        "unrepresentative validation", "no validation data" or "too few epochs".
    reason : str
        The numbers that say so, in a sentence.
    numbers : dict of float
        All numbers that were looked at, by the names of `diagnose`; those of the validation only
        if there is one.
    """

    verdict: str
    reason: str
    numbers: dict[str, float]

    def __str__(self) -> str:
        return f"{self.verdict.capitalize()}: {self.reason} {_ADVICE[self.verdict]}"


def diagnose(
    history: Logs,
    *,
    baseline: float | None = None,
    target_loss: float | None = None,
    improvement: float = 0.15,
    rise: float = 0.1,
    rise_share: float = 1 / 3,
    gap: float = 0.1,
    relative_gap: float = 0.25,
    fall: float = 0.03,
    noise: float = 0.1,
    visible: float = 0.01,
) -> Diagnosis:
    """Say what the curves of the training loss t and the validation loss v show.

    Parameters
    ----------
    history : History
        Of a fit, with "loss" and, for all verdicts, "val_loss".
    baseline : float, optional
        Loss of a prediction that knows nothing of x: the entropy of the classes for cross-entropy
        (log C for C equal classes), the variance of y for the squared error. Without it the
        training loss of the first iterations or of the first epoch is the reference, which is too
        small where the first epoch already learns most.
    target_loss : float, optional
        Training loss that would be good enough.
    improvement : float
        Underfitting if the training loss fell by less than this share of the reference.
    rise : float
        Overfitting if v rose by more than this share of its smallest value,
    rise_share : float
        or, while t fell, by more than this share of the gap v - t.
    gap : float
        Overfitting if v - t has opened by more than this share of the reference
    relative_gap : float
        and by more than this share of t.
    fall : float
        Still improving if more than this share of all that the curve fell came in the last fifth of
        the epochs.
    noise : float
        Too noisy if the standard deviation about the trend is more than this share of the
        reference.
    visible : float
        A rise or fall of less than this share of the reference does not count.

    Returns
    -------
    Diagnosis
        ``numbers`` holds

        - "epochs", "reference"; "training_first", "training_end", "training_min", "improvement";
        - "noise": the larger standard deviation about the trend, as a share of the reference;
        - "fall": how much v (without it t) fell in the last fifth, as a share of its whole fall;
        - "best_epoch": index of the smallest v, "validation_min", "validation_end";
        - "rise": how much v rose after it, as a share of it;
        - "gap_best", "gap_end": v - t in the best epoch and at the end; "relative_gap" the latter
          as a share of t; "gap_opened" by how much it is more than in the first epoch.

    Raises
    ------
    KeyError
        If the history has no "loss".

    Notes
    -----
    The first that holds of these is the verdict; "at the end" means the mean of the last tenth
    of the epochs, s is the standard deviation about the trend, and r the reference.

    1. *Too few epochs*: fewer than 5.
    2. *Diverging*: a loss is not finite, or t at the end has lost half of what it had won,
       ``t_end > t_min + (t_first - t_min) / 2``, by more than ``0.1 |t_min|`` and 4 s.
    3. *Overfitting*: v rose since its minimum by more than ``rise |v_min|``, ``visible |r|`` and
       4 s, while t did not rise. (The smallest of many values lies some 2 s below their trend.)
    4. *Too noisy*: ``s > noise |r|``, over the last half of the epochs. (s from the second
       differences d of a curve: ``s^2 = mean(d^2) / 6``, which a straight trend does not change.)
       If v alone is, and s of t is less than a quarter of it, *unrepresentative validation*.
    5. *Overfitting*: with both curves averaged over w epochs, a tenth of them, v rose since its
       minimum by more than ``rise_share (v_end - t_end)``, ``rise |v_min| / 3``, ``visible |r|`` and
       ``4 s / sqrt(w)``, while t fell by more than ``2 s / sqrt(w)``, s its own, and by
       ``visible |r|`` or a quarter.
    6. *Still improving*: the least squares line through the last fifth (at least 3) of the epochs
       of v fell by more than ``fall (v_first - v_end)``, ``visible |r|`` and three standard
       deviations of what it falls by chance, ``s sqrt(12 (n - 1) / (n (n + 1)))`` over n epochs.
    7. *Underfitting*: ``r - t_end < improvement |r|``, or t_end above ``target_loss``.
    8. *Overfitting*: since the first epoch the gap v - t has opened by more than ``gap |r|`` and
       ``relative_gap |t_end|``. (Where the first v is larger than the first t, the rows of the
       validation are harder; that part of the gap does not count.)
    9. *Unrepresentative validation*: t_end is more than twice v_end, and by more than
       ``2 gap |r|``: the rows of the validation are easier.
    10. *Good fit*: the curves agree and have levelled off; whether the loss is low enough only
        ``target_loss`` can tell. Without validation only 1, 2, 4, 6 and 7 can be told, of t.

    The thresholds are conventions: they say what one sees in a picture of the curves.

    References
    ----------
    Goodfellow, Bengio, Courville: Deep learning, 2016, section 5.2 (underfitting, overfitting and
    the generalization gap).
    Prechelt: Early stopping - but when?, 1998 (the rise over the smallest validation loss).
    """
    curves = _Curves(history, baseline)
    epochs = len(curves.training)
    if epochs and not curves.finite:
        reason = f"a loss was not finite within {epochs} epochs."
        return Diagnosis("diverging", reason, {"epochs": float(epochs)})
    if epochs < 5:
        count = f"only {epochs} epoch{'' if epochs == 1 else 's'}"
        return Diagnosis("too few epochs", f"{count}, 5 are needed.", {"epochs": float(epochs)})
    visible *= curves.scale
    reasons = (
        ("diverging", _diverging(curves)),
        ("overfitting", _rising(curves, rise, visible)),
        ("unrepresentative validation", _jumping_alone(curves, noise)),
        ("too noisy", _jumping(curves, noise)),
        ("overfitting", _rising_from_the_gap(curves, rise / 3, rise_share, visible)),
        ("still improving", _falling(curves, fall, visible)),
        ("underfitting", _high(curves, improvement, target_loss)),
        ("overfitting", _apart(curves, gap, relative_gap)),
        ("unrepresentative validation", _easier(curves, gap)),
        ("good fit" if curves.validation.size else "no validation data", _level(curves)),
    )
    verdict, reason = next((verdict, reason) for verdict, reason in reasons if reason)
    return Diagnosis(verdict, reason, curves.numbers())


class _Curves:
    """The curves of the loss and the levels that the rules compare."""

    def __init__(self, history: Logs, baseline: float | None) -> None:
        self.training = np.array(history["loss"], np.float64)
        self.validation = np.array(history.get("val_loss", ()), np.float64)
        if 0 < len(self.validation) < len(self.training):  # not all epochs were validated
            self.training = _at_validation(history, self.training)
        both = [self.training, self.validation] if self.validation.size else [self.training]
        self.finite = all(np.isfinite(curve).all() for curve in both)
        if not self.finite or len(self.training) < 5:
            return
        self.end, self.lowest = _end(self.training), float(self.training.min())
        first = [float(self.training[0]), *history.iterations.get("loss", ())[:1]]
        self.reference = max(first) if baseline is None else float(baseline)
        self.scale = abs(self.reference) or 1.0
        name = "the first training loss" if baseline is None else "the baseline"
        self.of_reference = f"{name} {self.reference:.4g}"
        self.noises = [_noise(curve) for curve in both]  # of the training first
        self.noise = max(self.noises)
        # The curve that tells whether there is progress.
        self.judged, self.judged_name = both[-1], "validation" if both[1:] else "training"
        self.fall, self.gain = _fall(self.judged), float(self.judged[0]) - _end(self.judged)
        if self.validation.size:
            self.best = int(self.validation.argmin())
            self.smallest = float(self.validation[self.best])
            self.last = _end(self.validation)
            self.opened = self.last - self.end - max(0.0, self.validation[0] - self.training[0])

    def numbers(self) -> dict[str, float]:
        """Name the numbers."""
        numbers = {
            "epochs": float(len(self.training)),
            "reference": float(self.reference),
            "training_first": float(self.training[0]),
            "training_end": self.end,
            "training_min": self.lowest,
            "improvement": (self.reference - self.end) / self.scale,
            "noise": self.noise / self.scale,
            "fall": _share(self.fall, self.gain),
        }
        if self.validation.size:
            numbers |= {
                "best_epoch": float(self.best),
                "validation_min": self.smallest,
                "validation_end": self.last,
                "rise": _share(self.last - self.smallest, self.smallest),
                "gap_best": self.smallest - float(self.training[self.best]),
                "gap_end": self.last - self.end,
                "relative_gap": _share(self.last - self.end, self.end),
                "gap_opened": float(self.opened),
            }
        return numbers


# ---- the rules: each gives its reason if it holds


def _diverging(c: _Curves) -> str | None:
    won = float(c.training[0]) - c.lowest
    if c.end - c.lowest > max(won / 2, 0.1 * abs(c.lowest), 4 * c.noise):
        return f"the training loss rose from {c.lowest:.4g} to {c.end:.4g}."
    return None


def _rising(c: _Curves, rise: float, visible: float) -> str | None:
    if not c.validation.size or c.end > c.training[c.best]:
        return None
    if c.last - c.smallest <= max(rise * abs(c.smallest), visible, 4 * c.noise):
        return None
    return (
        f"after its smallest value {c.smallest:.4g} in epoch {c.best + 1} the validation loss rose "
        f"by {_share(c.last - c.smallest, c.smallest):.0%} to {c.last:.4g}, while the training "
        f"loss fell from {c.training[c.best]:.4g} to {c.end:.4g}."
    )


def _rising_from_the_gap(c: _Curves, rise: float, share: float, visible: float) -> str | None:
    if not c.validation.size:
        return None
    width = _tenth(c.validation)
    validation, training = _averaged(c.validation, width), _averaged(c.training, width)
    best = int(validation.argmin())
    lowest, of_training = float(validation[best]), float(training[best])
    rose, fell = c.last - lowest, of_training - c.end
    falls = fell > min(visible, abs(of_training) / 4) and fell > 2 * c.noises[0] / width**0.5
    least = max(share * (c.last - c.end), rise * abs(lowest), visible, 4 * c.noise / width**0.5)
    if not falls or rose <= least:
        return None
    return (
        f"since epoch {best + width // 2 + 1} the validation loss rose from about {lowest:.4g} to "
        f"{c.last:.4g}, while the training loss fell from {of_training:.4g} to {c.end:.4g}."
    )


def _jumping_alone(c: _Curves, noise: float) -> str | None:
    if not c.validation.size or 4 * c.noises[0] > c.noises[1]:
        return None
    reason = _jumping(c, noise)
    return reason and reason.replace("the loss jumps", "the validation loss alone jumps")


def _jumping(c: _Curves, noise: float) -> str | None:
    if c.noise <= noise * c.scale:
        return None
    share = c.noise / c.scale
    return (
        f"from epoch to epoch the loss jumps by about {c.noise:.4g}, {share:.0%} of "
        f"{c.of_reference}."
    )


def _falling(c: _Curves, fall: float, visible: float) -> str | None:
    if c.fall <= max(fall * c.gain, visible, 3 * c.noise * _spread(_window(c.judged))):
        return None
    return (
        f"in the last {_window(c.judged)} of {len(c.judged)} epochs the {c.judged_name} loss still "
        f"fell by {c.fall:.4g}, to {_end(c.judged):.4g}."
    )


def _high(c: _Curves, improvement: float, target_loss: float | None) -> str | None:
    improved = (c.reference - c.end) / c.scale
    if target_loss is not None and c.end > target_loss:
        reason = f"the training loss ended at {c.end:.4g}, above the target {target_loss:.4g}"
    elif improved < improvement:
        reason = f"the training loss ended at {c.end:.4g}, {improved:.1%} below {c.of_reference}"
    else:
        return None
    return reason + (f"; the validation loss at {c.last:.4g}." if c.validation.size else ".")


def _apart(c: _Curves, gap: float, relative_gap: float) -> str | None:
    if not c.validation.size:
        return None
    if c.opened <= max(gap * c.scale, relative_gap * abs(c.end)):
        return None
    return (
        f"the validation loss ended at {c.last:.4g}, the training loss at {c.end:.4g}: a gap of "
        f"{c.opened / c.scale:.0%} of {c.of_reference} has opened."
    )


def _easier(c: _Curves, gap: float) -> str | None:
    if not c.validation.size or c.end - c.last <= max(2 * gap * c.scale, abs(c.end) / 2):
        return None
    return (
        f"the validation loss ended at {c.last:.4g}, far below the training loss at {c.end:.4g}: "
        f"its rows are easier."
    )


def _level(c: _Curves) -> str:
    if not c.validation.size:
        return f"the training loss fell to {c.end:.4g} and has levelled off."
    return (
        f"the training loss has levelled off at {c.end:.4g}, the validation loss at {c.last:.4g}."
    )


# ---- levels and slopes of a curve


def _end(curve: Array) -> float:
    """Mean of the last tenth of the epochs, at least one."""
    return float(curve[-_tenth(curve) :].mean())


def _tenth(curve: Array) -> int:
    return max(1, len(curve) // 10)


def _averaged(curve: Array, width: int) -> Array:
    """Mean of each run of so many epochs."""
    return np.convolve(curve, np.full(width, 1 / width), "valid")


def _at_validation(history: Logs, training: Array) -> Array:
    """Return the training losses of the epochs that were validated."""
    wanted = set(history.epochs_of("val_loss"))
    at = [i for i, epoch in enumerate(history.epochs_of("loss")) if epoch in wanted]
    return training[at]


def _window(curve: Array) -> int:
    """Return how many epochs are the last fifth, at least 3."""
    return max(3, len(curve) // 5)


def _fall(curve: Array) -> float:
    """How much the least squares line through the last fifth of the epochs falls."""
    last = curve[-_window(curve) :]
    steps = np.arange(len(last)) - (len(last) - 1) / 2
    return float(-(steps @ last) / (steps @ steps) * (len(last) - 1))


def _spread(epochs: int) -> float:
    """Return the standard deviation of the fall of a least squares line through noise of 1."""
    return float(np.sqrt(12 * (epochs - 1) / (epochs * (epochs + 1))))


def _noise(curve: Array) -> float:
    """Estimate the standard deviation about the trend in the last half of the epochs."""
    differences = np.diff(curve[-max(4, len(curve) // 2) :], 2)
    return float(np.sqrt(np.mean(differences**2) / 6))


def _share(part: float, whole: float) -> float:
    return part / abs(whole) if whole else float(np.copysign(np.inf, part)) if part else 0.0
