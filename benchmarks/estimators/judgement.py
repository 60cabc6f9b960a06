"""What results of dlcore's estimators say, beside those of others."""

import numpy as np

SAME = 1e-6  # of scores: what rounding may do to an R² from the same network


def check_same(name, figures, tolerance):
    """Raise where libraries disagree about a case's figures: its times would mean nothing."""
    ours = np.asarray(figures["dlcore"])
    for other, theirs in figures.items():
        error = np.abs(ours - theirs)
        if not (error <= tolerance * (1 + np.abs(theirs))).all():
            raise ValueError(f"{name}: dlcore and {other} differ by {error.max():.2g}")


def compare(ours, theirs):
    """Return mean, its standard error and what it says, of the differences of paired scores."""
    differences = np.subtract(ours, theirs)
    mean = differences.mean()
    error = differences.std(ddof=1) / len(differences) ** 0.5
    if np.abs(differences).max() < SAME:
        verdict = "the same"
    elif mean >= -error:
        verdict = "no lower"
    else:
        many = "more than 9" if -mean > 9 * error else f"{-mean / error:.1f}"
        verdict = f"lower by {many} errors"
    return {"difference": float(mean), "standard_error": float(error), "verdict": verdict}
