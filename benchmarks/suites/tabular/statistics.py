"""What errors on many sets and seeds say together: means, ranks, and paired intervals.

Errors of a method have the shape (sets, seeds). The shifted geometric mean is that of pytabkit's
paper (Holzmüller, Grinsztajn and Steinwart 2024, "Better by default", arXiv 2407.04491):
exp of the mean over sets and seeds of log(error + 0.01), so that sets that are almost without error
do not decide all.
"""

from dataclasses import dataclass

import numpy as np

SHIFT = 0.01
LEVEL = 0.95
DRAWS = 10_000


def shifted_geometric_mean(errors, shift=SHIFT):
    """Return exp(mean(log(errors + shift))); the shift stays in it, as in the paper."""
    errors = np.asarray(errors, np.float64)
    if not errors.size or not (errors >= 0).all():
        raise ValueError("errors must be some, and not negative or NaN")
    return float(np.exp(np.log(errors + shift).mean()))


@dataclass(frozen=True)
class Paired:
    """How many times as large the errors of one are as those of another, with intervals."""

    ratio: float  # of the shifted geometric means
    by_seeds: tuple[float, float]  # Student's t over seeds: other splits of the same sets
    by_sets: tuple[float, float]  # bootstrap of sets and their seeds: other sets like these

    def verdict(self, margin=0.01):
        """Say what the interval over seeds says of a difference of 1 %."""
        low, high = self.by_seeds
        if high < 1:
            return "lower" if high < 1 - margin else "lower, by little"
        if low > 1:
            return "higher" if low > 1 + margin else "higher, by little"
        return "within the margin" if low > 1 - margin and high < 1 + margin else "undecided"


def paired(ours, theirs, shift=SHIFT, level=LEVEL, seed=0):
    """Compare the errors of two methods on the same splits; both have the shape (sets, seeds)."""
    logs = differences(ours, theirs, shift)
    return Paired(
        ratio=float(np.exp(logs.mean())),
        by_seeds=tuple(map(float, np.exp(t_interval(logs.mean(0), level)))),
        by_sets=tuple(map(float, np.exp(bootstrap_interval(logs, level, seed)))),
    )


def differences(ours, theirs, shift=SHIFT):
    """Return the logarithms of the ratios of shifted errors."""
    ours, theirs = (np.atleast_2d(np.asarray(own, np.float64)) for own in (ours, theirs))
    if ours.shape != theirs.shape:
        raise ValueError(f"errors are not paired: their shapes are {ours.shape}, {theirs.shape}")
    return np.log(ours + shift) - np.log(theirs + shift)


def t_interval(values, level=LEVEL):
    """Return the interval of a mean by Student's t; of one value all numbers."""
    from scipy.stats import t

    if len(values) < 2:
        return -np.inf, np.inf
    mean, error = np.mean(values), np.std(values, ddof=1) / len(values) ** 0.5
    wide = t.ppf((1 + level) / 2, len(values) - 1) * error
    return mean - wide, mean + wide


def bootstrap_interval(values, level=LEVEL, seed=0, draws=DRAWS):
    """Return the percentile interval of the mean of (sets, seeds): sets drawn, then their seeds.

    Of one set it is all numbers: it says nothing of others.
    """
    sets, seeds = values.shape
    if sets < 2:
        return -np.inf, np.inf
    rng = np.random.default_rng(seed)
    which = rng.integers(sets, size=(draws, sets, 1))
    means = values[which, rng.integers(seeds, size=(draws, sets, seeds))].mean((1, 2))
    tail = (1 - level) / 2
    return tuple(np.quantile(means, [tail, 1 - tail]))


def mean_ranks(errors):
    """Return the mean rank of each method over sets, from errors of shape (methods, sets).

    The lowest error has rank 1; equal ones share the mean of their ranks.
    """
    from scipy.stats import rankdata

    return rankdata(np.asarray(errors, np.float64), axis=0).mean(1)
