"""pytabkit: RealMLP and TabM as its own defaults have them, a fifth of the rows to validate on.

``lightgbm_td``, ``xgboost_td`` and ``catboost_td`` are its tuned defaults of trees, with early
stopping.
"""

from importlib import import_module
from importlib.metadata import version
from types import SimpleNamespace

from benchmarks.peers.columns import Filled, Known, Prepared

interfaces = import_module("pytabkit.models.sklearn.sklearn_interfaces")
library = SimpleNamespace(__version__=version("pytabkit"))
ESTIMATORS = {
    "realmlp_td": "RealMLP_TD",
    "realmlp_td_s": "RealMLP_TD_S",
    "tabm_d": "TabM_D",
    "lightgbm_td": "LGBM_TD",
    "xgboost_td": "XGB_TD",
    "catboost_td": "CatBoost_TD",
}


def tables(method, regression, seed, threads):
    task = "Regressor" if regression else "Classifier"
    estimator = getattr(interfaces, f"{ESTIMATORS[method]}_{task}")
    columns = Known() if method in ("lightgbm_td", "xgboost_td") else Filled()
    options = {"random_state": seed, "n_threads": threads}
    if method in ("realmlp_td", "realmlp_td_s", "tabm_d"):
        options["device"] = "cpu"
    return Prepared(columns, estimator(**options))
