"""Errors of predictions on rows that were not trained on; less is better, and 0 is the best."""

import numpy as np

# The first of each task is the table's; the paper's of pytabkit, as are the shift and the mean.
ERRORS = {"error": ("classes", "nrmse"), "ranking": ("1 - auc", "nmae"), "loss": ("log", "nrmse")}
LEAST = 1e-7  # of a probability in a logarithm


def errors_of_classes(y, probabilities):
    """Return the errors of probabilities of shape (rows, classes), by name.

    ``classes``: the share of rows whose likeliest class is not theirs. ``1 - auc``: that of the
    areas under the curves of each class against the others, the mean. ``log``: the cross-entropy in
    nats. ``brier``: the mean square of the distance to the class.
    """
    from sklearn.metrics import roc_auc_score

    rows, classes = probabilities.shape
    if not (np.isfinite(probabilities).all() and len(y) == rows):
        raise ValueError("probabilities of rows are not finite, or not of all rows")
    is_class = y[:, None] == np.arange(classes)
    known = [i for i in range(classes) if 0 < is_class[:, i].sum() < rows]
    own = np.clip(probabilities[np.arange(rows), y], LEAST, 1)
    areas = [roc_auc_score(is_class[:, i], probabilities[:, i]) for i in known]
    return {
        "classes": float(np.mean(probabilities.argmax(1) != y)),
        "1 - auc": float(1 - np.mean(areas)) if areas else 0.0,
        "log": float(-np.log(own).mean()),
        "brier": float(np.square(probabilities - is_class).sum(1).mean()),
    }


def errors_of_numbers(y, predictions):
    """Return the errors of predicted numbers, by name: relative to those of the mean of y.

    ``nrmse``: root mean square error over the standard deviation. ``nmae``: mean absolute error
    over that of the median.
    """
    predictions = np.asarray(predictions, np.float64).reshape(len(predictions), -1)[:, 0]
    if not (np.isfinite(predictions).all() and predictions.shape == y.shape):
        raise ValueError("predictions are not finite, or not of all rows")
    spread, distance = np.std(y), np.abs(y - np.median(y)).mean()
    return {
        "nrmse": float(np.sqrt(np.square(predictions - y).mean()) / spread),
        "nmae": float(np.abs(predictions - y).mean() / distance),
    }
