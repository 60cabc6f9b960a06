"""LightGBM with its defaults: 100 trees, no early stopping."""

import lightgbm as library

from benchmarks.peers.columns import Known, Prepared


def tables(method, regression, seed, threads):
    estimator = library.LGBMRegressor if regression else library.LGBMClassifier
    return Prepared(Known(), estimator(random_state=seed, n_jobs=threads, verbose=-1))
