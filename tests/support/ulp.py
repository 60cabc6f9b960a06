"""Errors in units in the last place."""

import numpy as np


def ulp_distance(actual, truth, magnitude=0.0):
    """Return ``|actual - truth|`` in spacings of ``actual``'s dtype at ``truth``, element by element.

    ``truth`` has a wider dtype and is not rounded first. The spacing is taken at ``magnitude`` where
    that is larger: where a result is a difference of terms of that size, say.
    NaN matches NaN, infinity whatever rounds to it; integers match only if equal.
    """
    actual, truth = np.asarray(actual), np.asarray(truth)
    if actual.dtype.kind != "f":
        return np.where(actual == truth, 0.0, np.inf)
    with np.errstate(all="ignore"):
        rounded = truth.astype(actual.dtype)
        size = np.fmax(np.abs(rounded), np.asarray(magnitude).astype(actual.dtype))
        largest = np.finfo(actual.dtype).max
        spacing = np.spacing(np.minimum(size, largest)).astype(truth.dtype)
        distance = np.abs(actual.astype(truth.dtype) - truth) / spacing
    same = (actual == rounded) & np.isinf(rounded) | np.isnan(actual) & np.isnan(truth)
    distance = np.where(same, 0, distance)
    return np.where(np.isnan(distance), np.inf, distance)
