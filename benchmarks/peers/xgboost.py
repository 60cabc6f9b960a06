"""XGBoost with its defaults: 100 trees, no early stopping."""

import xgboost as library

from benchmarks.peers.columns import Known, Prepared


def tables(method, regression, seed, threads):
    estimator = library.XGBRegressor if regression else library.XGBClassifier
    options = {"random_state": seed, "n_jobs": threads, "enable_categorical": True}
    return Prepared(Known(), estimator(**options))
