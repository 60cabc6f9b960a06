"""scikit-learn's scalers, without their checks of values and parameters."""

from functools import partial

import numpy as np
import sklearn as library
from sklearn.preprocessing import MinMaxScaler, StandardScaler

library.set_config(assume_finite=True, skip_parameter_validation=True)
to_numpy = np.asarray


def fit(scaler, results, x):
    s = scaler()

    def run():
        s.fit(x)
        return [getattr(s, name) for name in results]

    return run


def transform(scaler, x, *_):
    return partial(scaler().fit(x).transform, x)


CALLS = {
    "z_score_fit": {"StandardScaler": partial(fit, StandardScaler, ("mean_", "var_"))},
    "min_max_fit": {"MinMaxScaler": partial(fit, MinMaxScaler, ("data_min_", "data_max_"))},
    "z_score_transform": {"StandardScaler": partial(transform, StandardScaler)},
    "min_max_transform": {"MinMaxScaler": partial(transform, MinMaxScaler)},
}
